"""CheSS, MAE, GMML and SiT: their layouts, what is left out, and that the networks compute what other code does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm import create_model
from torch import Tensor

from schemas.errors import BundleMakingError
from tests.checkpoints.layouts import HEADS, WIDTH, Weights, mae_decoder, timm_vit
from workers.checkpoints import chess, gmml
from workers.checkpoints.mae import MaeWeights, read_mae

Save = Callable[[str, Any], Path]


def _quiet(done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def resnet() -> Weights:
    state: Weights = create_model("resnet50", in_chans=1, num_classes=0).state_dict()
    return state


FC_V1 = {"fc.weight": torch.zeros(128, 2048), "fc.bias": torch.zeros(128)}
FC_V2 = {f"fc.{layer}.{kind}": torch.zeros(2) for layer in (0, 2) for kind in ("weight", "bias")}


def _moco(resnet: Weights, fc: Weights) -> dict[str, Any]:
    encoder = {**resnet, **fc}
    state = {f"module.encoder_{which}.{name}": tensor for which in "qk" for name, tensor in encoder.items()}
    queue = {"module.queue": torch.zeros(128, 8), "module.queue_ptr": torch.zeros(1)}
    return {"epoch": 200, "arch": "resnet50", "state_dict": {**state, **queue}, "optimizer": {"state": {}}}


@pytest.mark.parametrize("fc", [FC_V1, FC_V2])
def test_chess_is_read_from_mocos_whole_state_with_either_projection(save: Save, resnet: Weights, fc: Weights) -> None:
    read = chess.read_backbone(save("chess.pth.tar", _moco(resnet, fc)), _quiet)
    assert read.tensors.keys() == resnet.keys()
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in resnet.items())
    assert read.architecture.arguments == {"in_chans": 1}
    assert sum(each.count for each in read.left_out) == len(resnet) + 2 * len(fc) + 2 + 3


def test_chess_is_read_from_the_mirror(save: Save, resnet: Weights) -> None:
    read = chess.read_backbone(save("mi2rl-chess-resnet.pth", {**resnet, **FC_V1}), _quiet)
    assert read.tensors.keys() == resnet.keys()
    assert [(each.why, each.count) for each in read.left_out] == [("projection of the contrastive pre-training", 2)]


def test_a_resnet_that_is_not_exactly_the_network_names_each_tensor(save: Save, resnet: Weights) -> None:
    changed = {
        **resnet,
        "layer3.6.conv1.weight": torch.zeros(1),
        "conv1.weight": torch.zeros(64, 1, 3, 3),
        "bn1.weight": torch.full((64,), torch.nan),
    }
    del changed["layer4.2.bn3.running_var"]
    with pytest.raises(BundleMakingError) as refused:
        chess.read_backbone(save("chess.pth", changed), _quiet)
    for named in (
        "missing: layer4.2.bn3.running_var;",
        "unknown: layer3.6.conv1.weight;",
        "another shape: conv1.weight [64, 1, 3, 3], not [64, 1, 7, 7];",
        "not finite: bn1.weight.",
    ):
        assert named in str(refused.value)
    with pytest.raises(BundleMakingError, match=r"nobody knows: layer1\.0\.surprise"):
        chess.read_backbone(save("chess.pth", {"layer1.0.surprise": torch.zeros(1)}), _quiet)


def _mae(path: Path) -> MaeWeights:
    return read_mae(path, HEADS, _quiet)


def test_a_masked_autoencoder_is_read_with_and_without_its_decoder(save: Save) -> None:
    encoder = dict(timm_vit(depth=2).state_dict())
    files = [
        save("with.pth", {"model": {**encoder, **mae_decoder()}, "epoch": 799, "optimizer": {}}),
        save("without.pth", {"model": encoder}),
        save("bare.pth", encoder),
    ]
    for path in files:
        read = _mae(path)
        assert read.head is None
        assert all(torch.equal(read.backbone.tensors[name], tensor) for name, tensor in encoder.items())
        assert (read.backbone.architecture.arguments["ffn"], read.backbone.architecture.arguments["pool"]) == (
            "mlp",
            "cls",
        )
    assert _mae(files[0]).backbone.left_out[0].count == len(mae_decoder())


@pytest.mark.parametrize(("pool", "ours"), [("token", "cls"), ("avg", "mean")])
def test_a_fine_tuned_autoencoder_brings_its_linear_head(save: Save, pool: str, ours: str) -> None:
    peer = timm_vit(depth=2, classes=3, pool=pool)
    read = _mae(save("tuned.pth", {"model": dict(peer.state_dict())}))
    assert read.backbone.architecture.arguments["pool"] == ours
    assert read.head is not None
    assert (read.head.kind, read.head.classes, read.head.blocks) == ("linear", 3, 1)
    assert torch.equal(read.head.tensors["linear.weight"], peer.state_dict()["head.weight"])


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("blocks.1.mlp.fc2.bias", None, r"missing: blocks\.1\.mlp\.fc2\.bias"),
        ("decoder_surprise", torch.zeros(1), "nobody knows: decoder_surprise"),
        ("blocks.0.ls1.gamma", torch.zeros(WIDTH), r"unknown: blocks\.0\.ls1\.gamma"),
        ("head.bias", torch.zeros(3), r"linear\.weight is missing"),
        ("pos_embed", torch.zeros(1, 16, WIDTH), "16 positions"),
        ("patch_embed.proj.weight", torch.zeros(WIDTH, 3, 14, 14), "14 x 14"),
    ],
)
def test_an_autoencoder_that_is_not_exactly_the_network_names_the_tensor(
    save: Save, name: str, tensor: Tensor | None, message: str
) -> None:
    encoder = {each: value for each, value in timm_vit(depth=2).state_dict().items() if each != name}
    if tensor is not None:
        encoder[name] = tensor
    with pytest.raises(BundleMakingError, match=message):
        _mae(save("mae.pth", {"model": encoder}))


def test_gmml_and_sit_are_read_and_the_teacher_is_taken(save: Save) -> None:
    encoder = dict(timm_vit(depth=12).state_dict())
    state = {f"module.backbone.{name}": tensor for name, tensor in encoder.items()}
    decoder = {
        "module.head_recons.mlp.0.weight": torch.zeros(2, 2),
        "module.head_recons.convTrans.bias": torch.zeros(3),
    }
    contrast = {"module.head.mlp.0.weight": torch.zeros(2, 2)}
    student = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    files = {
        "gmml": save("gmml.pth", {"SiT_model": {**state, **decoder}, "optimizer": {}, "epoch": 800}),
        "sit": save("sit.pth", {"student": student, "teacher": {**state, **decoder, **contrast}, "epoch": 800}),
        "bare": save("bare.pth", encoder),
    }
    blocks = {}
    for name, path in files.items():
        read = gmml.read_backbone(path, HEADS, _quiet)
        assert all(torch.equal(read.tensors[each], tensor) for each, tensor in encoder.items())
        blocks[name] = read.architecture.arguments["out_indices"]
    assert blocks == {"gmml": [5, 7, 9, 11], "sit": [8, 9, 10, 11], "bare": [8, 9, 10, 11]}


def test_an_unknown_tensor_of_gmml_is_named(save: Save) -> None:
    state = {f"module.backbone.{name}": tensor for name, tensor in timm_vit(depth=1).state_dict().items()}
    with pytest.raises(BundleMakingError, match=r"nobody knows: module\.head_other\.weight"):
        gmml.read_backbone(
            save("x.pth", {"SiT_model": {**state, "module.head_other.weight": torch.zeros(1)}}), 4, _quiet
        )
