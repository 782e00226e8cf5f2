from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from schemas.errors import BundleMakingError
from tests.checkpoints.conftest import BEST, FIRST
from tests.checkpoints.layouts import HEADS, WIDTH, Weights, chexfound_backbone, chunked, glori_head, grid, hugging_face
from workers.checkpoints.chexfound import best_head, read_backbone, read_head
from workers.checkpoints.chexfound_config import read_config
from workers.checkpoints.weights import BackboneWeights, HeadWeights

Save = Callable[[str, Any], Path]


def _backbone(path: Path) -> BackboneWeights:
    return read_backbone(path, None, HEADS, lambda done, total: None)


def _head(path: Path, backbone: BackboneWeights, name: str | None = None, results: Path | None = None) -> HeadWeights:
    return read_head(path, backbone, name, results, lambda done, total: None)


@pytest.fixture
def backbone(teacher: Path) -> BackboneWeights:
    return _backbone(teacher)


def test_all_layouts_of_the_backbone_give_the_same_tensors(save: Save, teacher: Path, tmp_path: Path) -> None:
    flat = chexfound_backbone()
    save_file(hugging_face(flat), tmp_path / "model.safetensors")
    student = {name: torch.zeros_like(tensor) for name, tensor in chunked(flat).items()}
    both = {f"student.{name}": tensor for name, tensor in student.items()}
    both |= {f"teacher.{name}": tensor for name, tensor in chunked(flat).items()}
    both |= {"dino_loss.center": torch.zeros(1, 8), "teacher.ibot_head.last_layer.weight_v": torch.zeros(8, 4)}
    layouts = [
        teacher,
        tmp_path / "model.safetensors",
        save("model_checkpoint.pth", {"model": both, "iteration": 249999}),
        save("flat.pth", flat),
        save("parallel.pth", {"teacher": {f"module.{name}": each for name, each in chunked(flat).items()}}),
        save("half.pth", {name: tensor.half() for name, tensor in flat.items()}),
    ]
    for path in layouts:
        read = _backbone(path)
        assert read.tensors.keys() == flat.keys()
        assert all(tensor.dtype == torch.float32 for tensor in read.tensors.values())
        tolerance = 2e-3 if path.name == "half.pth" else 0.0
        assert all(torch.allclose(read.tensors[name], flat[name], rtol=0, atol=tolerance) for name in flat)
    assert {each.why: each.count for each in _backbone(layouts[2]).left_out} == {
        "the student; the teacher is what is used": len(flat),
        "centres of the pre-training's losses": 1,
        "heads of the pre-training": 1,
        "entries that its training kept beside the weights": 1,
    }


def _without(weights: Weights, *names: str) -> Weights:
    return {name: tensor for name, tensor in weights.items() if name not in names}


_CHUNKED = chunked(chexfound_backbone())
_NAN = torch.full((WIDTH,), torch.nan)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (_without(_CHUNKED, "backbone.norm.bias"), r"missing: norm\.bias"),
        (_without(_CHUNKED, "backbone.blocks.1.2.ls2.gamma"), r"missing: blocks\.2\.ls2\.gamma"),
        (_without(_CHUNKED, "backbone.mask_token"), "missing: mask_token"),
        (_without(_CHUNKED, "backbone.register_tokens"), "missing: register_tokens"),
        (_without(_CHUNKED, "backbone.pos_embed"), "pos_embed is missing"),
        ({n: t for n, t in _CHUNKED.items() if ".0.1." not in n}, r"missing: blocks\.1\.attn\.proj\.bias, blocks\.1"),
        ({**_CHUNKED, "backbone.surprise": _NAN}, r"nobody knows: backbone\.surprise"),
        ({**_CHUNKED, "backbone.blocks.0.1.attn.gate": _NAN}, r"nobody knows: backbone\.blocks\.0\.1\.attn\.gate"),
        ({**_CHUNKED, "fc.weight": _NAN}, r"nobody knows: fc\.weight"),
        ({**_CHUNKED, "backbone.norm.bias": torch.zeros(3)}, r"another shape: norm\.bias \[3\], not \[32\]"),
        ({**_CHUNKED, "backbone.norm.bias": _NAN}, r"not finite: norm\.bias"),
        (
            _without(_CHUNKED, "backbone.blocks.1.2.ls1.gamma") | {"backbone.blocks.0.2.ls1.gamma": _NAN},
            r"wrong chunk: backbone\.blocks\.0\.2\.ls1\.gamma\.",
        ),
        ({**_CHUNKED, "norm.bias": torch.zeros(WIDTH)}, r"come twice under names for the same: norm\.bias"),
    ],
)
def test_a_backbone_that_is_not_exactly_the_network_names_the_tensor(
    save: Save, weights: Weights, message: str
) -> None:
    with pytest.raises(BundleMakingError, match=message):
        _backbone(save("teacher_checkpoint.pth", {"teacher": weights}))


def test_a_student_alone_is_not_taken_for_the_teacher(save: Save) -> None:
    alone = {f"student.{name}": tensor for name, tensor in _CHUNKED.items()}
    with pytest.raises(BundleMakingError, match="missing"):
        _backbone(save("model_checkpoint.pth", {"model": alone}))


def test_attention_heads_that_nothing_tells_are_asked_for(teacher: Path, config: Path) -> None:
    with pytest.raises(BundleMakingError, match="--config"):
        read_backbone(teacher, None, None, lambda done, total: None)
    told = read_backbone(teacher, read_config(config), None, lambda done, total: None)
    assert told.architecture.arguments["num_heads"] == HEADS
    # The published folder has it beside the weights, where it is found.
    config.rename(config.with_name("config.yaml"))
    found = read_backbone(teacher, None, None, lambda done, total: None)
    assert found.architecture == told.architecture
    assert [source.name for source in found.sources] == ["teacher_checkpoint.pth", "config.yaml"]


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("student", "embed_dim", 64, "embed_dim 64 where the shapes say 32"),
        ("student", "num_register_tokens", 0, "reg_tokens 0 where the shapes say 4"),
        ("student", "ffn_layer", "mlp", "ffn mlp where the shapes say swiglu"),
        ("crops", "global_crops_size", 512, "img_size 512 where the shapes say 64"),
        ("student", "depth", 5, r"missing: blocks\.4\.attn\.proj\.bias"),
        ("student", "depth", 3, r"unknown: blocks\.3\.attn\.proj\.bias"),
        ("student", "num_heads", 5, "5 attention heads do not divide"),
        ("student", "num_heads", "many", "num_heads many, which is no whole number"),
        ("student", "patch_size", 14, "patch_size 14"),
        ("student", "interpolate_antialias", True, "interpolate_antialias"),
    ],
)
def test_a_configuration_that_contradicts_the_weights_is_refused(
    teacher: Path, config: Path, section: str, name: str, value: object, message: str
) -> None:
    document = yaml.safe_load(config.read_text())
    document[section][name] = value
    config.write_text(yaml.safe_dump(document))
    with pytest.raises(BundleMakingError, match=message):
        read_backbone(teacher, read_config(config), None, lambda done, total: None)


@pytest.mark.parametrize("text", ["- a list", "student: 3", "a: [", ""])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(BundleMakingError, match=r"no section student|cannot be read as YAML"):
        read_config(tmp_path / "config.yaml")


def test_the_results_file_or_the_name_chooses_the_head(
    glori_file: Path, results: Path, backbone: BackboneWeights
) -> None:
    best, first = glori_head(40, False, seed=8), glori_head(40, False, seed=7)
    chosen = _head(glori_file, backbone, results=results)
    assert chosen.name == BEST
    assert all(torch.equal(chosen.tensors[name], tensor) for name, tensor in best.items())
    assert chosen.arguments == {"width": 16, "heads": 8, "hidden": 40, "cat_cls": False}
    named = _head(glori_file, backbone, name=FIRST)
    assert all(torch.equal(named.tensors[name], tensor) for name, tensor in first.items())
    with pytest.raises(BundleMakingError, match=f"(?s)--head-results.*{FIRST}.*{BEST}"):
        _head(glori_file, backbone)
    with pytest.raises(BundleMakingError, match=f"(?s)no head other.*{FIRST}.*{BEST}"):
        _head(glori_file, backbone, name="other")
    with pytest.raises(BundleMakingError, match="give one of them"):
        _head(glori_file, backbone, name=FIRST, results=results)


@pytest.mark.parametrize("text", ["", "Test\n", '{"best_classifier": {}}', '{"best_classifier": "x"}', "{ broken"])
def test_a_results_file_that_names_no_head_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(BundleMakingError, match="--head-name"):
        best_head(path)


@pytest.mark.parametrize(("cat_cls", "blocks"), [(False, 4), (True, 4), (True, 2)])
def test_a_single_head_needs_no_name_and_its_shapes_tell_its_form(
    save: Save, backbone: BackboneWeights, cat_cls: bool, blocks: int
) -> None:
    weights = glori_head(11, cat_cls, blocks=blocks)
    for content in ({"model": grid({"any": weights})}, {"module." + name: each for name, each in weights.items()}):
        head = _head(save("glori.pth", content), backbone)
        assert (head.classes, head.blocks, head.arguments["cat_cls"]) == (11, blocks, cat_cls)
        assert head.tensors.keys() == weights.keys()


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("decoder.surprise", torch.zeros(1), r"unknown: decoder\.surprise"),
        ("decoder.layers.0.norm2.bias", None, r"missing: decoder\.layers\.0\.norm2\.bias"),
        ("decoder.layers.0.norm2.bias", torch.zeros(3), r"another shape: decoder\.layers\.0\.norm2\.bias"),
        ("decoder.query_embed.weight", torch.zeros(7, 16), r"another shape: decoder\.duplicate_pooling "),
        ("decoder.duplicate_pooling_bias", torch.full((5,), torch.inf), r"not finite: decoder\.duplicate_pooling_bias"),
        ("decoder.embed_standart.weight", torch.zeros(16, 100), "do not belong together"),
        ("decoder.duplicate_pooling", torch.zeros(5, 20, 1), "has 20 rows, not 16 or 144"),
        ("decoder.embed_standart.weight", None, r"decoder\.embed_standart\.weight is missing"),
    ],
)
def test_a_head_that_is_not_exactly_glori_names_the_tensor(
    save: Save, backbone: BackboneWeights, name: str, tensor: torch.Tensor | None, message: str
) -> None:
    weights = glori_head(5, cat_cls=False)
    weights.pop(name, None)
    if tensor is not None:
        weights[name] = tensor
    with pytest.raises(BundleMakingError, match=message):
        _head(save("glori.pth", {"model": grid({"any": weights})}), backbone)


def test_a_backbone_in_place_of_the_head_is_refused_by_name(
    teacher: Path, save: Save, backbone: BackboneWeights
) -> None:
    with pytest.raises(BundleMakingError, match=r"nobody knows: .*backbone\.cls_token"):
        _head(save("glori.pth", {"model": _CHUNKED}), backbone)
