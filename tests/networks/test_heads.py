from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.bundle import Manifest
from schemas.errors import BundleError
from tests.checkpoints.layouts import glori_head
from tests.networks.published_forward import Tokens, glori
from tests.support.tiny import tiny_manifest
from workers.bundle import load_bundle, run_selftest, write_bundle
from workers.networks.features import Features
from workers.networks.glori import GLoRI
from workers.networks.glori_pyramid import PyramidGLoRI
from workers.networks.linear import LinearProbe
from workers.networks.network import build_network

Head = GLoRI | PyramidGLoRI | LinearProbe
GRID = (5, 3)


@pytest.fixture
def features() -> Features:
    """Four blocks of width 32 on a grid that no pyramid divides."""
    generator = torch.Generator().manual_seed(0)
    patches = [torch.randn(2, GRID[0] * GRID[1], 32, generator=generator) for _ in range(4)]
    return Features(patches, [torch.randn(2, 32, generator=generator) for _ in range(4)], GRID, [])


def _heads() -> list[Head]:
    torch.manual_seed(0)
    heads: list[Head] = [
        GLoRI(128, 5, width=16),
        GLoRI(128, 5, width=16, cat_cls=True),
        PyramidGLoRI(128, 5, width=24, hidden=40),
        LinearProbe(32, 5, mean_patch=True),
    ]
    for head in heads:
        for parameter in head.parameters():
            parameter.data.normal_(std=0.3)
    return [head.eval() for head in heads]


@pytest.mark.parametrize("cat_cls", [False, True])
def test_glori_gives_what_the_published_equations_give(features: Features, cat_cls: bool) -> None:
    weights = glori_head(7, cat_cls)
    head = GLoRI(128, 7, width=16, hidden=40, cat_cls=cat_cls).eval()
    head.load_state_dict(weights)
    with torch.inference_mode():
        ours = head(features)
    for each, theirs in zip(ours, glori(weights, Tokens(features.patches, features.cls)), strict=True):
        assert torch.allclose(each, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("cat_cls", "parameters"), [(False, 8_723_496), (True, 8_887_336)])
def test_glori_has_as_many_parameters_as_published(cat_cls: bool, parameters: int) -> None:
    with torch.device("meta"):
        head = GLoRI(4096, 40, width=768, hidden=2048, cat_cls=cat_cls)
    assert sum(parameter.numel() for parameter in head.parameters()) == parameters
    assert sum(each.numel() for each in head.parameters() if not each.requires_grad) == 40 * 768


@pytest.mark.parametrize("head", _heads()[:3])
def test_attention_of_every_class_sums_to_one_over_the_patches(head: Head, features: Features) -> None:
    with torch.inference_mode():
        logits, attention = head(features)
    assert logits.shape == (2, 5)
    assert attention.shape == (2, 8, 5, 15)
    assert torch.allclose(attention.sum(dim=3), torch.ones(2, 8, 5), atol=1e-5)


def test_the_pyramid_sees_context_the_temperature_and_the_class_token(features: Features) -> None:
    head = _heads()[2]
    assert isinstance(head, PyramidGLoRI)
    logits, attention = head(features)
    # A class token changes every logit and no attention; a temperature its own class only.
    features.cls[0].add_(1.0)
    moved, same = head(features)
    assert not torch.isclose(moved, logits).any()
    assert torch.equal(same, attention)
    with torch.no_grad():
        head.temperature[-1].bias[1] += 1.0  # type: ignore[index, operator]
    changed = (head(features)[1] - attention).abs().amax(dim=(0, 1, 3)) > 1e-6
    assert changed.tolist() == [False, True, False, False, False]
    # Two patches with the same tokens differ by their neighbours.
    for patches in features.patches:
        patches[:, 14] = patches[:, 0]
    shares = head(features)[1]
    assert (shares[..., 0] - shares[..., 14]).abs().max() > 1e-4


def test_the_linear_probe_weighs_class_tokens_and_the_mean_patch_in_their_order(features: Features) -> None:
    head = _heads()[3]
    assert isinstance(head, LinearProbe)
    joined = torch.cat([*features.cls, features.patches[-1].mean(dim=1)], dim=1)
    logits, attention = head(features)
    assert torch.allclose(logits, joined @ head.linear.weight.T + head.linear.bias, atol=1e-5)
    assert attention.shape == (2, 1, 0, 15)


@pytest.mark.parametrize("head", _heads())
def test_classes_that_stay_keep_their_answers_when_others_come_and_go(head: Head, features: Features) -> None:
    torch.manual_seed(1)
    other = head.with_classes([3, None, 0])
    with torch.inference_mode():
        before, looked = head(features)
        after, looks = other(features)
    assert after.shape == (2, 3)
    assert torch.allclose(after[:, [0, 2]], before[:, [3, 0]], atol=1e-6)
    # The new class is none of the old ones under another name.
    assert ((after[:, 1:2] - before).abs() > 1e-3).all()
    if looks.shape[2]:
        assert torch.allclose(looks[:, :, [0, 2]], looked[:, :, [3, 0]], atol=1e-6)
    # The head that it was made from is untouched.
    with torch.inference_mode():
        assert torch.equal(head(features)[0], before)
    trained = {name: each.requires_grad for name, each in head.named_parameters()}
    assert trained == {name: each.requires_grad for name, each in other.named_parameters()}


@pytest.mark.parametrize("rows", [[], [5], [-1], [0, 0]])
@pytest.mark.parametrize("head", _heads())
def test_rows_that_are_not_there_or_come_twice_are_refused(head: Head, rows: list[int | None]) -> None:
    with pytest.raises(ValueError, match="each at most once"):
        head.with_classes(rows)


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        ({"kind": "glori", "arguments": {"cat_cls": True}}, (2, 8, 2, 16)),
        ({"kind": "glori_pyramid", "arguments": {"width": 48}}, (2, 8, 2, 16)),
        ({"kind": "linear", "arguments": {"blocks": 2, "mean_patch": True}}, (2, 1, 0, 16)),
    ],
)
def test_every_head_of_a_manifest_is_built_written_and_read_again(
    head: dict[str, object], shape: tuple[int, ...], tmp_path: Path
) -> None:
    manifest = _manifest({**head, "file": "heads/one.safetensors"})
    images = np.zeros((1, 64, 64), np.uint8)
    written = write_bundle(tmp_path / "bundle", manifest, build_network(manifest).eval(), "# card\n", images)
    assert run_selftest(load_bundle(tmp_path / "bundle")) == 0
    with torch.inference_mode():
        output = written.network(torch.randn(2, 1, 64, 64))
    assert output.logits.shape == (2, 2)
    assert output.attention.shape == shape


@pytest.mark.parametrize(
    "head",
    [
        {"kind": "linear", "arguments": {"blocks": 5}},
        {"kind": "glori", "arguments": {"width": 30}},
        {"kind": "glori_pyramid", "arguments": {"width": 32}},
        {"kind": "glori", "arguments": {"colour": "red"}},
    ],
)
def test_a_head_that_cannot_be_built_is_a_bundle_error(head: dict[str, object]) -> None:
    with pytest.raises(BundleError, match="describes no network"):
        build_network(_manifest({**head, "file": "heads/one.safetensors"}))


def _manifest(head: dict[str, object]) -> Manifest:
    described = tiny_manifest().model_dump()
    classes = [{"target": target, "operating_point": None} for target in ("pneumothorax", "mine")]
    return Manifest.model_validate({**described, "heads": [{**head, "classes": classes}]})
