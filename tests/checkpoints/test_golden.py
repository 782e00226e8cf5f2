"""Outputs of the published code, where they are at hand."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.conftest import REAL_DATA
from workers.bundle_command import bundle_group

GOLDEN = REAL_DATA.parent / "golden"

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden outputs (../shared/golden) are not here")


@pytest.mark.parametrize("case", ["chexfound-tiny", "chexfound-tiny-catcls"])
def test_an_imported_bundle_gives_the_published_codes_outputs(case: str, tmp_path: Path) -> None:
    files = {
        "--backbone": "teacher_checkpoint.pth",
        "--head": "glori.pth",
        "--head-results": "results_eval_linear.json",
        "--config": "config.yaml",
    }
    given = [part for option, file in files.items() for part in (option, str(GOLDEN / case / file))]
    bundle, array, out = (str(tmp_path / name) for name in ("bundle", "x.npy", "out.npz"))
    with np.load(GOLDEN / case / "expected.npz") as golden:
        expected = {name: golden[name] for name in golden.files}
    np.save(array, expected["x_64"])
    for line in (
        ["import", "chexfound", *given, "--out", bundle],
        ["run", bundle, "--array", array, "--out", out],
    ):
        assert CliRunner().invoke(bundle_group, line, catch_exceptions=False).exit_code == 0
    names = {"logits": "logits_64", "attention": "attention_64", "patch_tokens": "patch_64", "cls_token": "cls_64"}
    with np.load(out) as outputs:
        for ours, theirs in names.items():
            np.testing.assert_allclose(outputs[ours], expected[theirs], rtol=0, atol=1e-5)
