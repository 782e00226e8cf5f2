from typing import Any

import pytest
import torch
from timm import create_model

from tests.checkpoints.layouts import DEPTH, HEADS, HIDDEN, SIDE, WIDTH, chexfound_backbone, timm_vit
from tests.networks.published_forward import positions, vit_tokens
from workers.networks.features import create_backbone
from workers.networks.resnet import ResNet
from workers.networks.vit import ViT

SMALL = {"img_size": 16 * SIDE, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS, "hidden": HIDDEN}


@pytest.fixture(scope="module")
def vit() -> ViT:
    backbone = create_backbone("chexnode_vit_patch16", SMALL)
    backbone.load_state_dict(chexfound_backbone())
    assert isinstance(backbone, ViT)
    return backbone.eval()


def test_by_default_it_is_chexfounds_network() -> None:
    with torch.device("meta"):
        tensors = create_backbone("chexnode_vit_patch16", {}).state_dict()
    assert len(tensors) == 344
    assert sum(tensor.numel() for tensor in tensors.values()) == 304_630_016
    assert tensors["pos_embed"].shape == (1, 1025, 1024)
    assert tensors["register_tokens"].shape == (1, 4, 1024)
    assert tensors["blocks.23.mlp.w12.weight"].shape == (5472, 1024)
    assert tensors["blocks.23.mlp.w3.weight"].shape == (1024, 2736)


# The trained square; smaller, larger and not square; as many patches as the square in another shape.
@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80), (80, 48), (32, 128), (128, 32), (96, 96), (16, 16)])
def test_tokens_are_those_of_the_published_equations_at_any_size(vit: ViT, height: int, width: int) -> None:
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    expected = vit_tokens(chexfound_backbone(), images, HEADS)
    with torch.inference_mode():
        features = vit(images)
    assert features.grid == (height // 16, width // 16)
    for ours, theirs in zip([*features.patches, *features.cls], [*expected.patches, *expected.cls], strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-5)


def test_without_an_offset_positions_are_resampled_to_the_size_itself(vit: ViT) -> None:
    exact = create_backbone("chexnode_vit_patch16", {**SMALL, "interpolate_offset": 0.0})
    exact.load_state_dict(chexfound_backbone())
    assert isinstance(exact, ViT)
    with torch.inference_mode():
        ours, published = exact.positions(6, 3), vit.positions(6, 3)
    learned = chexfound_backbone()["pos_embed"]
    assert torch.allclose(ours, positions(learned, 6, 3, offset=0.0), rtol=0, atol=1e-5)
    assert (ours - published).abs().max() > 0.001


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_a_plain_vit_gives_what_timms_own_gives(pool: str) -> None:
    peer = timm_vit(depth=3, pool=pool)
    arguments = {
        **SMALL,
        "depth": 3,
        "hidden": 4 * WIDTH,
        "ffn": "mlp",
        "reg_tokens": 0,
        "layer_scale": False,
        "mask_token": False,
        "pool": "cls" if pool == "token" else "mean",
    }
    ours = create_backbone("chexnode_vit_patch16", arguments).eval()
    ours.load_state_dict({name.replace("fc_norm.", "norm."): tensor for name, tensor in peer.state_dict().items()})
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = peer.forward_head(peer.forward_features(images), pre_logits=True)
        assert torch.allclose(ours(images).cls[-1], expected, rtol=0, atol=1e-5)


def test_heads_get_the_blocks_that_are_asked_for() -> None:
    chosen = create_backbone("chexnode_vit_patch16", {**SMALL, "out_indices": [1, 3]}).eval()
    last = create_backbone("chexnode_vit_patch16", SMALL).eval()
    for backbone in (chosen, last):
        backbone.load_state_dict(chexfound_backbone())
    images = torch.randn(1, 3, 64, 64)
    assert chosen.blocks_given == 2
    with torch.inference_mode():
        two, four = chosen(images), last(images)
    assert torch.equal(two.patches[0], four.patches[1])
    assert torch.equal(two.cls[1], four.cls[3])


@pytest.mark.parametrize(
    "arguments",
    [{"img_size": 65}, {"num_heads": 5}, {"out_indices": [0, 2]}, {"out_indices": []}, {"ffn": "relu"}, {"windows": 7}],
)
def test_arguments_that_fit_no_transformer_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"make no|do not|is not|takes no"):
        create_backbone("chexnode_vit_patch16", {**SMALL, **arguments})


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet18", {}),
        ("hf-hub:somebody/model", {}),
        ("local-dir:/tmp/model", {}),
        ("nothing", {}),
        ("chexnode_resnet50", {"checkpoint_path": "weights.pth"}),
    ],
)
def test_a_backbone_is_one_of_this_software_and_nothing_is_fetched_or_loaded_for_it(
    name: str, arguments: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=r"is no backbone of this software|takes no pretrained weights"):
        create_backbone(name, arguments)


def test_an_image_that_is_not_made_of_patches_is_refused(vit: ViT) -> None:
    with pytest.raises(ValueError, match="60 x 64"):
        vit(torch.zeros(1, 3, 60, 64))


@pytest.mark.parametrize(
    ("name", "parameters", "width"), [("resnet50", 23_501_760, 2048), ("resnet18", 11_170_240, 512)]
)
def test_a_resnet_for_grey_images_gives_what_timms_own_gives(name: str, parameters: int, width: int) -> None:
    peer: Any = create_model(name, in_chans=1, num_classes=0).eval()
    ours = create_backbone(f"chexnode_{name}", {})
    assert isinstance(ours, ResNet)
    assert sum(parameter.numel() for parameter in ours.parameters()) == parameters
    ours.load_state_dict(peer.state_dict())
    images = torch.randn(2, 1, 64, 96)
    with torch.inference_mode():
        features = ours.eval()(images)
        stage = peer.forward_features(images)
    assert features.grid == (2, 3)
    assert torch.allclose(features.patches[0].transpose(1, 2).reshape(2, width, 2, 3), stage, atol=1e-5)
    assert torch.allclose(features.cls[0], stage.mean(dim=(2, 3)), atol=1e-5)
