"""What was pre-trained leaves as a bundle and in the published layouts, and comes back the same."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from schemas.errors import BundleMakingError
from tests.training.pretraining.tiny import HEADS, METHODS, tiny_recipe, train
from training.pretraining.checkpoint import Trained, read_trained
from training.pretraining.export import Layout, export, kept_backbone
from training.pretraining.parallel import Processes
from workers.bundle import load_bundle, run_selftest
from workers.checkpoints import chexfound, gmml, mae
from workers.checkpoints.reading import read_checkpoint
from workers.checkpoints.weights import BackboneWeights
from workers.networks.features import Backbone, create_backbone


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of each method what two steps have learned."""
    among, folder = Processes(0, 1, torch.device("cpu")), tmp_path_factory.mktemp("trained")
    recipes = {kind: tiny_recipe(kind).with_limits(2, None) for kind in METHODS}
    return {kind: train(recipe, folder / kind, among) for kind, recipe in recipes.items()}


def _nobody(done: int, total: int) -> None: ...


_READERS: dict[tuple[str, Layout], Callable[[Path], BackboneWeights]] = {
    ("dinov2", "published"): lambda path: chexfound.read_backbone(path, None, HEADS, _nobody),
    ("dinov2", "hugging-face"): lambda path: chexfound.read_backbone(path, None, HEADS, _nobody),
    ("mae", "published"): lambda path: mae.read_mae(path, HEADS, _nobody).backbone,
    ("gmml", "published"): lambda path: gmml.read_backbone(path, HEADS, _nobody),
    ("sit", "published"): lambda path: gmml.read_backbone(path, HEADS, _nobody),
}


def _assert_same_outputs(one: Backbone, other: Backbone) -> None:
    images = torch.randn(2, one.channels, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours, theirs = one(images), other.eval()(images)
    for mine, its in zip([*ours.cls, *ours.patches], [*theirs.cls, *theirs.patches], strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize(("kind", "layout"), sorted(_READERS))
def test_the_published_layout_is_read_back_to_the_same_outputs(
    kind: str, layout: Layout, trained: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / ("weights.safetensors" if layout == "hugging-face" else "weights.pth")
    export(trained[kind], path, layout)
    weights = _READERS[kind, layout](path)
    read = create_backbone(weights.architecture.timm_name, weights.architecture.arguments)
    read.load_state_dict(weights.tensors)
    _assert_same_outputs(kept_backbone(read_trained(trained[kind])), read)


def test_moco_has_the_names_of_its_published_files(tmp_path: Path) -> None:
    """A ResNet-18's, of which no published file is: those are read with ResNet-50."""
    resnet = {"timm_name": "chexnode_resnet18", "arguments": {"in_chans": 1}}
    recipe = tiny_recipe("moco_v2", backbone=resnet).with_limits(2, None)
    trained = train(recipe, tmp_path, Processes(0, 1, torch.device("cpu")))
    export(trained, tmp_path / "weights.pth", "published")
    checkpoint = read_checkpoint(tmp_path / "weights.pth", ("state_dict",), ())
    assert checkpoint.tensors["module.queue"].shape == (16, 32)
    assert checkpoint.tensors["module.queue_ptr"].tolist() == [16]
    prefix = "module.encoder_q."
    query = {name.removeprefix(prefix): each for name, each in checkpoint.tensors.items() if name.startswith(prefix)}
    assert {"fc.0.weight", "fc.2.bias"} <= query.keys()
    read = create_backbone("chexnode_resnet18", {"in_chans": 1})
    read.load_state_dict({name: each for name, each in query.items() if not name.startswith("fc.")})
    _assert_same_outputs(kept_backbone(read_trained(trained)), read)


@pytest.mark.parametrize("kind", METHODS)
def test_a_bundle_holds_the_backbone_and_its_preprocessing(kind: str, trained: dict[str, Path], tmp_path: Path) -> None:
    export(trained[kind], tmp_path / "bundle", "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    assert run_selftest(bundle) < 1e-5
    assert bundle.manifest.preprocessing.size == 64
    assert not bundle.manifest.heads
    assert bundle.manifest.unproven
    _assert_same_outputs(kept_backbone(read_trained(trained[kind])), bundle.network.backbone)


def test_a_layout_that_was_never_published_is_refused(trained: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BundleMakingError, match="published"):
        export(trained["mae"], tmp_path / "weights.safetensors", "hugging-face")
    assert not (tmp_path / "weights.safetensors").exists()


def test_what_is_kept_is_the_teacher_where_there_is_one(trained: dict[str, Path]) -> None:
    state: Trained = read_trained(trained["dinov2"])
    kept = kept_backbone(state).state_dict()
    assert torch.equal(kept["norm.bias"], state.method["teacher.backbone.norm.bias"])
    assert not torch.equal(kept["norm.bias"], state.method["student.backbone.norm.bias"])
