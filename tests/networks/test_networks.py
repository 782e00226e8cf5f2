import pytest
import timm
import torch

from schemas.errors import BundleError
from tests.support.tiny import tiny_manifest
from workers.networks.dense import DenseHead
from workers.networks.features import Features, create_backbone
from workers.networks.glori import GLoRI
from workers.networks.hybrid_vit import HybridViT
from workers.networks.network import build_network


def _features(patches: torch.Tensor) -> Features:
    side = round(patches.shape[1] ** 0.5)
    return Features([patches], [patches.mean(dim=1)], (side, side), [])


def test_glori_attention_sums_to_one_over_patches_and_evaluation_is_deterministic() -> None:
    head = GLoRI(features=48, classes=5, width=32, heads=8).eval()
    features = _features(torch.randn(2, 36, 48))
    logits, attention = head(features)
    assert logits.shape == (2, 5)
    assert attention.shape == (2, 8, 5, 36)
    assert torch.allclose(attention.sum(dim=3), torch.ones(2, 8, 5), atol=1e-5)
    assert torch.equal(head(features)[0], logits)


def test_glori_has_the_published_tensor_names_and_frozen_queries() -> None:
    head = GLoRI(features=4096, classes=40, width=768, hidden=2048)
    shapes = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    assert shapes["decoder.embed_standart.weight"] == (768, 4096)
    assert shapes["decoder.query_embed.weight"] == (40, 768)
    assert shapes["decoder.duplicate_pooling"] == (40, 768, 1)
    assert shapes["decoder.duplicate_pooling_bias"] == (40,)
    assert shapes["decoder.layers.0.multihead_attn.in_proj_weight"] == (2304, 768)
    assert shapes["decoder.layers.0.linear1.weight"] == (2048, 768)
    assert sum(parameter.numel() for parameter in head.parameters()) == 8_723_496
    assert not head.decoder.query_embed.weight.requires_grad


def test_glori_answers_each_class_from_its_own_query() -> None:
    head = GLoRI(features=16, classes=3, width=32).eval()
    features = _features(torch.randn(1, 9, 16))
    before = head(features)[0]
    with torch.no_grad():
        head.decoder.duplicate_pooling[1] += 1
    changed = head(features)[0] != before
    assert changed[0].tolist() == [False, True, False]


def test_the_backbone_is_registered_with_timm_and_keeps_its_skips() -> None:
    backbone = timm.create_model("hybrid_vit_tiny_patch16", img_size=64)
    assert isinstance(backbone, HybridViT)
    features = backbone(torch.randn(2, 1, 64, 64))
    assert [each.shape for each in features.patches] == [(2, 16, 192)] * 4
    assert [each.shape for each in features.cls] == [(2, 192)] * 4
    assert features.grid == (4, 4)
    assert [tuple(skip.shape[1:]) for skip in features.skips] == [(24, 32, 32), (48, 16, 16), (96, 8, 8), (192, 4, 4)]


@pytest.mark.parametrize("arguments", [{"img_size": 65}, {"width": 100}, {"depth": 3}, {"windows": 7}])
def test_arguments_that_fit_no_backbone_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"does not fit|takes no"):
        create_backbone("hybrid_vit_tiny_patch16", arguments)


def test_patches_reach_their_own_place_in_the_dense_maps() -> None:
    backbone = create_backbone("hybrid_vit_tiny_patch16", {"img_size": 64}).eval()
    head = DenseHead(4 * 192, backbone.skip_channels, channels=6).eval()
    features = backbone(torch.randn(1, 1, 64, 64))
    before = head(features)
    assert before.shape == (1, 6, 16, 16)
    features.patches[-1][0, 4 * 0 + 3] += 5.0  # row 0, column 3: the top right corner
    changed = (head(features) - before).abs().sum(dim=1)[0]
    assert changed[:4, 12:].mean() > 20 * changed[12:, :4].mean()


def test_a_manifest_that_describes_no_network_is_a_bundle_error() -> None:
    manifest = tiny_manifest()
    unknown = manifest.model_copy(
        update={"architecture": manifest.architecture.model_copy(update={"timm_name": "no_such_model"})}
    )
    with pytest.raises(BundleError, match="no_such_model"):
        build_network(unknown)
