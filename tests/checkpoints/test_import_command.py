import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from timm import create_model

from schemas.bundle import read_manifest
from schemas.codes import CXR_LT
from schemas.errors import ArrayError, BundleMakingError
from schemas.preprocessing import PROFILES, Fit
from tests.checkpoints.conftest import BEST
from tests.checkpoints.layouts import HEADS, chexfound_backbone, glori_head, grid, timm_vit
from tests.networks.published_forward import glori, vit_tokens
from workers.bundle import load_bundle, run_selftest
from workers.bundle_command import bundle_group
from workers.checkpoints.systems import chexfound_licence

Save = Callable[[str, Any], Path]
Import = Callable[..., Result]


def test_chexfound_as_published_becomes_a_bundle_that_computes_the_published_outputs(
    bundle_import: Import, teacher: Path, glori_file: Path, results: Path, config: Path, tmp_path: Path
) -> None:
    files = ("--backbone", teacher, "--head", glori_file, "--head-results", results, "--config", config)
    printed = bundle_import("chexfound", *files).output
    folder = tmp_path / "bundle"
    bundle = load_bundle(folder)
    assert run_selftest(bundle) <= 1e-5
    for told in ("backbone of 64 tensors", "heads of the pre-training", BEST, bundle.digest, "40 classes"):
        assert told in printed
    assert "read: some-config.yaml" in printed and "read: results_eval_linear.json" in printed
    assert [scored.target for scored in bundle.manifest.classes] == list(CXR_LT)
    assert bundle.manifest.preprocessing == PROFILES["chexfound"].model_copy(update={"size": 64})
    sources = {each["file"]: each["sha256"] for each in bundle.manifest.training["sources"]}
    assert sources.keys() == {"teacher_checkpoint.pth", "glori.pth", "some-config.yaml", "results_eval_linear.json"}
    card = (folder / "card.md").read_text(encoding="utf-8")
    for told in (
        sources["glori.pth"],
        "results_eval_linear.json",
        "not stated",
        "| 31 | pneumothorax | 36118008 (SCT",
        "Not for clinical use",
    ):
        assert told in card
    images = torch.randn(3, 3, 48, 80, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "x.npy", images.numpy())
    line = ["run", str(folder), "--array", str(tmp_path / "x.npy"), "--out", str(tmp_path / "out"), "--batch", "2"]
    CliRunner().invoke(bundle_group, line, catch_exceptions=False)
    tokens = vit_tokens(chexfound_backbone(), images, HEADS)
    logits, attention = glori(glori_head(40, cat_cls=False, seed=8), tokens)
    with np.load(tmp_path / "out") as outputs:
        expected = {"logits": logits, "attention": attention, "patch_tokens": tokens.patches[-1]}
        expected["cls_token"] = tokens.cls[-1]
        assert set(outputs.files) == set(expected)
        for name, values in expected.items():
            assert outputs[name].dtype == np.float32
            np.testing.assert_allclose(outputs[name], values.numpy(), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
def test_the_imported_network_can_be_traced_for_another_size_and_any_number_of_images(
    bundle_import: Import, teacher: Path, glori_file: Path, tmp_path: Path
) -> None:
    bundle_import("chexfound", "--backbone", teacher, "--head", glori_file, "--head-name", BEST, "--attention-heads", 4)
    network: Any = load_bundle(tmp_path / "bundle").network
    images = torch.randn(3, 3, 96, 64)
    with torch.no_grad():
        traced: Any = torch.jit.trace(network, images[:1], check_trace=False)  # type: ignore[no-untyped-call]
        for ours, theirs in zip(traced(images), network(images), strict=True):
            assert torch.allclose(ours, theirs, rtol=0, atol=1e-5)


def test_classes_operating_points_and_population_come_from_the_options(
    bundle_import: Import, teacher: Path, save: Save, tmp_path: Path
) -> None:
    head = save("glori.pth", {"model": grid({"x": glori_head(3, cat_cls=True)})})
    (tmp_path / "classes.txt").write_text("pneumothorax\nendotracheal_tube.presence\nmine\n")
    (tmp_path / "points.json").write_text(json.dumps({"pneumothorax": 0.4, "mine": None}))
    options = ["--classes", tmp_path / "classes.txt", "--operating-points", tmp_path / "points.json", "--size", 96]
    options += ["--name", "ours", "--version", "2.1", "--minimum-age", 21, "--view", "PA", "--attention-heads", 4]
    bundle_import("chexfound", "--backbone", teacher, "--head", head, *options)
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert [(c.target, c.operating_point) for c in manifest.classes] == [
        ("pneumothorax", 0.4),
        ("endotracheal_tube.presence", None),
        ("mine", None),
    ]
    assert (manifest.name, manifest.version) == ("ours", "2.1")
    assert (manifest.population.minimum_age_years, manifest.population.view_positions) == (21, ["PA"])
    assert manifest.population.devices == ["endotracheal_tube"]
    # No tube may leave the picture.
    assert (manifest.preprocessing.size, manifest.preprocessing.fit) == (96, Fit.LETTERBOX)


def test_a_head_of_unknown_classes_is_numbered_and_says_so(
    bundle_import: Import, teacher: Path, save: Save, tmp_path: Path
) -> None:
    head = save("glori.pth", {"model": grid({"x": glori_head(3, cat_cls=False)})})
    printed = bundle_import("chexfound", "--backbone", teacher, "--head", head, "--attention-heads", 4).output
    assert [c.target for c in read_manifest(tmp_path / "bundle").classes] == ["class_00", "class_01", "class_02"]
    assert "--classes" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--classes", "a,b"), "40 classes, but 2 names.*bundle rehead"),
        (("--classes", ",".join(["a"] * 40)), "come twice: a"),
        (("--classes", "A b" + ",c" * 39), "come twice"),
        (("--name", "Not A Name"), "name"),
        (("--version", "x" * 17), "version"),
        (("--size", "100"), "multiple of 16"),
        (("--head-name", "other"), "no head other"),
    ],
)
def test_options_that_do_not_fit_are_refused_and_nothing_is_written(
    bundle_import: Import, teacher: Path, glori_file: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    if "--head-name" not in options:
        options = (*options, "--head-name", BEST)
    with pytest.raises(BundleMakingError, match=message):
        bundle_import("chexfound", "--backbone", teacher, "--head", glori_file, "--attention-heads", 4, *options)
    assert not (tmp_path / "bundle").exists()


def test_options_that_belong_to_what_is_not_given_are_refused(
    bundle_import: Import, teacher: Path, results: Path
) -> None:
    with pytest.raises(BundleMakingError, match="--head"):
        bundle_import("chexfound", "--backbone", teacher, "--attention-heads", 4, "--head-results", results)
    with pytest.raises(BundleMakingError, match="need a head"):
        bundle_import("chexfound", "--backbone", teacher, "--attention-heads", 4, "--classes", "pneumothorax")
    with pytest.raises(BundleMakingError, match="no attention heads"):
        bundle_import("chess", "--backbone", teacher, "--attention-heads", 4)


def test_files_in_each_others_place_are_told_by_what_they_are(
    bundle_import: Import, teacher: Path, glori_file: Path
) -> None:
    with pytest.raises(BundleMakingError, match=r"glori\.pth looks like a GLoRI head: give it as --head"):
        bundle_import("chexfound", "--backbone", glori_file, "--head", teacher)
    with pytest.raises(BundleMakingError, match="looks like CheXFound's backbone: give it as --backbone"):
        bundle_import("chexfound", "--backbone", teacher, "--attention-heads", 4, "--head", teacher)
    for system in ("chess", "mae", "gmml"):
        with pytest.raises(BundleMakingError, match=r"CheXFound's backbone.*bundle import chexfound"):
            bundle_import(system, "--backbone", teacher)


@pytest.mark.parametrize("text", ['{"no_such_class": 0.5}', '{"pneumothorax": 1.5}', '{"pneumothorax": "x"}', "[0.5]"])
def test_operating_points_that_are_none_are_refused(
    bundle_import: Import, teacher: Path, glori_file: Path, tmp_path: Path, text: str
) -> None:
    points = tmp_path / "points.json"
    points.write_text(text)
    with pytest.raises(BundleMakingError, match=r"what is no class|between 0 and 1|no object of numbers"):
        bundle_import(
            *("chexfound", "--backbone", teacher, "--head", glori_file, "--head-name", BEST, "--attention-heads", 4),
            *("--operating-points", points),
        )


def test_what_stands_at_the_target_is_replaced_only_when_it_is_a_bundle_and_forced(
    bundle_import: Import, teacher: Path, tmp_path: Path
) -> None:
    backbone_only = ("chexfound", "--backbone", teacher, "--attention-heads", 4)
    bundle_import(*backbone_only)
    with pytest.raises(BundleMakingError, match="--force"):
        bundle_import(*backbone_only)
    bundle_import(*backbone_only, "--force", "--version", "2")
    assert read_manifest(tmp_path / "bundle").version == "2"
    (tmp_path / "bundle" / "manifest.json").unlink()
    with pytest.raises(BundleMakingError, match="is no bundle"):
        bundle_import(*backbone_only, "--force")
    assert (tmp_path / "bundle" / "card.md").exists()


def test_chess_is_imported_as_a_backbone_for_grey_images(bundle_import: Import, save: Save, tmp_path: Path) -> None:
    weights = save("mi2rl-chess-resnet.pth", create_model("resnet50", in_chans=1, num_classes=0).state_dict())
    bundle_import("chess", "--backbone", weights, "--size", 64)
    bundle = load_bundle(tmp_path / "bundle")
    assert run_selftest(bundle) <= 1e-3
    assert (bundle.manifest.heads, bundle.manifest.preprocessing.channels) == ([], 1)
    assert bundle.manifest.preprocessing.mean == (0.658,)
    with pytest.raises(BundleMakingError, match="need a head"):
        bundle_import("chess", "--backbone", weights, "--force", "--classes", "pneumothorax")


def test_a_fine_tuned_autoencoder_classifies_as_in_its_own_code_and_is_called_unproven(
    bundle_import: Import, save: Save, tmp_path: Path
) -> None:
    peer = timm_vit(depth=2, classes=2, pool="avg")
    weights = save("tuned.pth", {"model": dict(peer.state_dict())})
    printed = bundle_import(
        "mae", "--backbone", weights, "--attention-heads", HEADS, "--classes", "pneumothorax,mass"
    ).output
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.manifest.unproven and "unproven" in printed
    assert "Unproven" in (tmp_path / "bundle" / "card.md").read_text(encoding="utf-8")
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        output = bundle.network(images)
        assert torch.allclose(output.logits, peer(images), rtol=0, atol=1e-5)
    assert output.attention.shape == (2, 1, 0, 16)


def test_gmml_is_imported_and_called_unproven(bundle_import: Import, save: Save, tmp_path: Path) -> None:
    state = {f"module.backbone.{name}": tensor for name, tensor in timm_vit(depth=12).state_dict().items()}
    bundle_import("gmml", "--backbone", save("checkpoint.pth", {"SiT_model": state}), "--attention-heads", HEADS)
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.manifest.unproven
    assert bundle.manifest.preprocessing.resize == 73
    assert run_selftest(bundle) <= 1e-3


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 3, 64, 64)), "float64, not float32"),
        (np.zeros((1, 1, 64, 64), np.float32), r"takes \[B, 3, H, W\]"),
        (np.zeros((3, 64, 64), np.float32), r"takes \[B, 3, H, W\]"),
        (np.zeros((0, 3, 64, 64), np.float32), r"takes \[B, 3, H, W\]"),
        (np.zeros((1, 3, 64, 60), np.float32), "multiples of 16"),
        (np.full((1, 3, 64, 64), np.nan, np.float32), "not finite"),
        (np.array([{}]), "no .npy file of numbers"),
    ],
)
def test_run_refuses_what_is_no_normalised_input(
    bundle_import: Import, teacher: Path, tmp_path: Path, array: np.ndarray[Any, Any], message: str
) -> None:
    bundle_import("chexfound", "--backbone", teacher, "--attention-heads", 4)
    np.save(tmp_path / "x.npy", array)
    line = ["run", str(tmp_path / "bundle"), "--array", str(tmp_path / "x.npy"), "--out", str(tmp_path / "out.npz")]
    with pytest.raises(ArrayError, match=message):
        CliRunner().invoke(bundle_group, line, catch_exceptions=False)
    assert not (tmp_path / "out.npz").exists()


def test_run_says_before_it_computes_that_it_cannot_write_and_what_an_array_is(
    bundle_import: Import, teacher: Path, tmp_path: Path
) -> None:
    bundle_import("chexfound", "--backbone", teacher, "--attention-heads", 4)
    (tmp_path / "x.npy").write_text("1 2 3")
    line = ["run", str(tmp_path / "bundle"), "--array", str(tmp_path / "x.npy"), "--out"]
    refused = CliRunner().invoke(bundle_group, [*line, str(tmp_path / "nowhere" / "out.npz")])
    assert refused.exit_code == 2 and "does not exist: make it first" in refused.output
    with pytest.raises(ArrayError, match=r"another format\): write it with numpy\.save"):
        CliRunner().invoke(bundle_group, [*line, str(tmp_path / "out.npz")], catch_exceptions=False)


def test_a_bundle_without_classes_is_shown_without_empty_tables(
    bundle_import: Import, teacher: Path, tmp_path: Path
) -> None:
    bundle_import("chexfound", "--backbone", teacher, "--attention-heads", 4)
    shown = CliRunner().invoke(bundle_group, ["show", str(tmp_path / "bundle")], catch_exceptions=False).output
    assert load_bundle(tmp_path / "bundle").digest in shown and str(tmp_path / "bundle") in shown
    assert "views PA, AP\n" in re.sub(" +│?\n", "\n", shown) and "cannot be activated" in shown
    for empty in ("regions and landmarks", "Classes", "Figures"):
        assert empty not in shown


def test_a_backbone_alone_runs_without_classes(bundle_import: Import, teacher: Path, tmp_path: Path) -> None:
    bundle_import("chexfound", "--backbone", teacher, "--attention-heads", 4)
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 64, 64), np.float32))
    line = ["run", str(tmp_path / "bundle"), "--array", str(tmp_path / "x.npy"), "--out", str(tmp_path / "out.npz")]
    CliRunner().invoke(bundle_group, line, catch_exceptions=False)
    with np.load(tmp_path / "out.npz") as outputs:
        assert outputs["logits"].shape == (2, 0)
        assert outputs["patch_tokens"].shape == (2, 16, 32)


def test_the_licence_is_that_of_the_place_the_file_is_from() -> None:
    known = "852072c47ac300099363d0c756c15587373cd94320b74381657510ac301cb623"
    assert chexfound_licence("model.safetensors", known).startswith("Apache-2.0")
    assert "if the file is from there" in chexfound_licence("model.safetensors", "0" * 64)
    assert "not stated" in chexfound_licence("teacher_checkpoint.pth", "0" * 64)
