"""Agreement with published forward passes: `python -m benchmarks.golden PATH`.

PATH is a folder of cases (or one case): teacher_checkpoint.pth, glori.pth, results_eval_linear.json, config.yaml and
expected.npz of the published code. Each case is imported, reloaded and run; then at other sizes, against the
equations in tests/networks/published_forward.py. Prints the greatest absolute difference of every output.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file

from tests.networks.published_forward import glori, vit_tokens
from workers.bundle import LoadedBundle, load_bundle
from workers.checkpoints.chexfound import read_backbone, read_head
from workers.checkpoints.chexfound_config import read_config
from workers.checkpoints.importing import ImportOptions, import_bundle
from workers.checkpoints.systems import CHEXFOUND
from workers.raw_outputs import raw_outputs

#: Rows and columns of patches besides the trained square; also not square, and with as many patches as the square.
_GRIDS = ((3, 5), (5, 3), (2, 8), (8, 2), (6, 6), (7, 11))
_AIM = 1e-5

_Arrays = dict[str, NDArray[np.float32]]


def main() -> None:
    """Print the table and exit with 1 when any difference is above the aim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    path = parser.parse_args().path
    cases = sorted({file.parent for file in path.rglob("expected.npz")})
    if not cases:
        parser.error(f"{path} has no expected.npz below it")
    table = Table("case", "pixels", "against", "logits", "attention", "patches", "class token")
    worst = 0.0
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            for row, differences in _differences(case, Path(folder)):
                table.add_row(case.name.removeprefix("chexfound-"), *row, *(f"{each:.1e}" for each in differences))
                worst = max(worst, *differences)
    console = Console()
    console.print(table)
    console.print(f"greatest absolute difference {worst:.1e}, aim {_AIM:.0e}: {'met' if worst <= _AIM else 'MISSED'}")
    raise SystemExit(worst > _AIM)


def _differences(case: Path, folder: Path) -> list[tuple[tuple[str, str], list[float]]]:
    backbone = read_backbone(case / "teacher_checkpoint.pth", read_config(case / "config.yaml"), None, _quiet)
    head = read_head(case / "glori.pth", backbone, None, case / "results_eval_linear.json", _quiet)
    options = ImportOptions(name="golden", version="1")
    import_bundle(folder / "bundle", CHEXFOUND, backbone, head, options, lambda words: None)
    bundle = load_bundle(folder / "bundle")
    with np.load(case / "expected.npz") as stored:
        golden = {name: stored[name] for name in stored.files}
    images = golden["x_64"]
    expected = {
        "logits": golden["logits_64"],
        "attention": golden["attention_64"],
        "patch_tokens": golden["patch_64"],
        "cls_token": golden["cls_64"],
    }
    rows = [(("64 x 64", "published"), _compare(raw_outputs(bundle, images, 8), expected))]
    # Out of the bundle, into the layout of the Hugging Face copy, and in again.
    tensors = load_file(bundle.folder / bundle.manifest.backbone_file)
    exported = folder / "model.safetensors"
    save_file({f"model.{name.replace('.gamma', '.weight')}": each for name, each in tensors.items()}, exported)
    again = read_backbone(exported, read_config(case / "config.yaml"), None, _quiet)
    import_bundle(folder / "again", CHEXFOUND, again, head, options, lambda words: None)
    rows.append(
        (
            ("64 x 64", "the same, exported"),
            _compare(raw_outputs(load_bundle(folder / "again"), images, 8), expected),
        )
    )
    generator = np.random.default_rng(0)
    for height, width in _GRIDS:
        images = generator.standard_normal((2, 3, 16 * height, 16 * width), dtype=np.float32)
        size = f"{16 * height} x {16 * width}"
        rows.append(((size, "equations"), _compare(raw_outputs(bundle, images, 8), _equations(bundle, images))))
    return rows


def _equations(bundle: LoadedBundle, images: NDArray[np.float32]) -> _Arrays:
    classifier, arguments = bundle.manifest.classifier, bundle.manifest.architecture.arguments
    assert classifier is not None
    backbone = load_file(bundle.folder / bundle.manifest.backbone_file)
    tokens = vit_tokens(backbone, torch.from_numpy(images), arguments["num_heads"])
    logits, attention = glori(load_file(bundle.folder / classifier.file), tokens)
    return {
        "logits": logits.numpy(),
        "attention": attention.numpy(),
        "patch_tokens": tokens.patches[-1].numpy(),
        "cls_token": tokens.cls[-1].numpy(),
    }


def _compare(ours: _Arrays, theirs: _Arrays) -> list[float]:
    return [float(np.abs(ours[name] - theirs[name]).max()) for name in theirs]


def _quiet(done: int, total: int) -> None:
    """No progress: the files are small."""


if __name__ == "__main__":
    main()
