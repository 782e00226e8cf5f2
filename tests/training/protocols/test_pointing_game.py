"""The pointing game says where a head looks: hits, and what hits are worth beside other queries and chance."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from benchmarks.pointing import figures_of, peaks_of, place_of, play
from benchmarks.pointing_game import Frozen, GameSettings, PointingGame, Seen, play_game, read_backbone
from schemas.bundle import Architecture, bundle_folder, read_manifest
from schemas.codes import Finding, Segment
from schemas.errors import BundleError, SettingsError
from schemas.preprocessing import Preprocessing
from tests.training.pretraining.tiny import tiny_recipe, train
from training.examples.placing import Course, Truth, write_example
from training.examples.store import DETAIL_CROP, Examples, create_examples
from training.pretraining.encoder import create_vit
from training.pretraining.parallel import Processes
from training.pretraining.store import Squares, Store, StoreDocument
from training.protocols.features import cached_features

_SIDE = 96
_PREPROCESSING = Preprocessing(profile="letterbox", size=_SIDE, mean=(0.5,) * 3, std=(0.25,) * 3)
_ARGUMENTS = {
    "embed_dim": 48,
    "depth": 2,
    "num_heads": 2,
    "hidden": 64,
    "ffn": "mlp",
    "in_chans": 3,
    "reg_tokens": 0,
    "layer_scale": False,
    "mask_token": False,
}
_TUBE = "endotracheal_tube.presence"


def _square(left: int, top: int, side: int) -> NDArray[np.bool_]:
    mask = np.zeros((_SIDE, _SIDE), np.bool_)
    mask[top : top + side, left : left + side] = True
    return mask


def _lungs() -> dict[Segment | Finding, NDArray[np.bool_] | None]:
    left, right = np.zeros((2, _SIDE, _SIDE), np.bool_)
    left[:, : _SIDE // 2], right[:, _SIDE // 2 :] = True, True
    return {Segment.RIGHT_LUNG: left, Segment.LEFT_LUNG: right}


def _written(folder: Path, truths: list[Truth], images: list[NDArray[np.float32]]) -> Examples:
    examples = create_examples(folder, len(truths), _SIDE)
    for index, (image, truth) in enumerate(zip(images, truths, strict=True)):
        write_example(examples, index, image, truth, _PREPROCESSING, DETAIL_CROP)
    return examples


def _film(rng: np.random.Generator | None = None) -> NDArray[np.float32]:
    """Grey with noise: what is all alike would be cut off as a bar."""
    rng = rng or np.random.default_rng(0)
    image = (0.4 + rng.normal(0, 0.02, (_SIDE, _SIDE))).astype(np.float32)
    # Greys are stretched over what is there.
    image[0, 0], image[0, 1] = 0, 1
    return image


def _drawn(folder: Path, count: int, seed: int) -> Seen:
    """Films with a striped patch for a nodule and a bright one for a mass, each in every other film, anywhere."""
    rng = np.random.default_rng(seed)
    truths, images = [], []
    for _ in range(count):
        image = _film(rng)
        masks, classes = _lungs(), {}
        across = _SIDE // 16
        places = rng.permutation(across**2)
        for finding, place in zip((Finding.NODULE, Finding.MASS), places[:2].tolist(), strict=True):
            there = bool(rng.random() < 0.5)
            classes[finding.value] = float(there)
            masks[finding] = _square(place % across * 16, place // across * 16, 16) if there else None
            if there and finding is Finding.MASS:
                image[masks[finding]] = 0.95
            elif there:
                image[masks[finding]] = np.where(np.arange(256) % 4 < 2, 0.05, 0.75)
        truths.append(Truth(classes, masks))
        images.append(image.clip(0, 1))
    examples = _written(folder / f"examples-{seed}", truths, images)
    torch.manual_seed(0)
    backbone = _backbone()
    document = StoreDocument(
        preprocessing=_PREPROCESSING,
        targets=[],
        patients=[str(index) for index in range(count)],
        sources=["drawn"] * count,
        origin=str(seed),
    )
    store = Store(Squares([examples.images]), examples.classes, document)
    with Progress(disable=True) as progress:
        features = cached_features(backbone.backbone, store, _PREPROCESSING, folder / "features", progress, "features")
    return Seen(examples, features)


def _backbone() -> Frozen:
    torch.manual_seed(0)
    vit = create_vit(Architecture(timm_name="chexnode_vit_patch16", arguments=_ARGUMENTS), _SIDE).eval()
    return Frozen("drawn", vit, _PREPROCESSING)


def test_a_hit_lies_in_the_place_or_within_the_tolerance_of_it(tmp_path: Path) -> None:
    masks = _lungs() | {Finding.NODULE: _square(32, 32, 16)}
    truth = Truth({"nodule": 1.0, "mass": 0.0}, masks)
    examples = _written(tmp_path, [truth] * 3, [_film()] * 3)
    peaks = np.array([[[40, 40], [8, 8]], [[56, 40], [40, 40]], [[88, 40], [8, 8]]], np.float64)
    strict, near = (play(examples, ("nodule", "mass"), peaks, tolerance) for tolerance in (0, 16))
    assert strict.hits[:, 0].tolist() == [1, 0, 0]
    assert near.hits[:, 0].tolist() == [1, 1, 0]
    # The other query's map on the same image, in the same place.
    assert strict.others[:, 0].tolist() == [0, 1, 0]
    assert strict.chance[0, 0] == pytest.approx(16 * 16 / _SIDE**2)
    assert np.isnan(strict.hits[:, 1]).all()
    nodule, mean = figures_of(near)
    assert (nodule.target, nodule.area, nodule.hit.n) == ("nodule", "lungs", 3)
    assert nodule.hit.value == pytest.approx(2 / 3)
    assert nodule.over_others.value == pytest.approx(1 / 3)
    assert mean.hit.value == nodule.hit.value


def test_a_few_hits_of_a_few_are_no_certainty(tmp_path: Path) -> None:
    masks = _lungs() | {Finding.NODULE: _square(32, 32, 16)}
    examples = _written(tmp_path, [Truth({"nodule": 1.0}, masks)] * 3, [_film()] * 3)
    missed = play(examples, ("nodule", "mass"), np.full((3, 2, 2), 8.0), 0)
    nodule = figures_of(missed)[0]
    assert nodule.hit.value == 0
    assert nodule.over_chance.low < 0 < nodule.over_chance.high


def test_a_device_is_where_its_course_is_and_an_enlarged_heart_where_the_heart_is(tmp_path: Path) -> None:
    line = np.stack([np.full(100, 64.0), np.linspace(10, 80, 100)], axis=1).astype(np.float32)
    truth = Truth(
        {_TUBE: 1.0, "cardiomegaly": 1.0, "nodule": 1.0},
        {Segment.HEART: _square(32, 48, 40), Finding.NODULE: None},
        {Segment.ENDOTRACHEAL_TUBE: Course(line, 3.0, None)},
    )
    examples = _written(tmp_path, [truth], [_film()])
    tube, heart = place_of(examples, 0, _TUBE), place_of(examples, 0, "cardiomegaly")
    assert tube is not None
    assert heart is not None
    rows, columns = np.nonzero(tube)
    assert (rows.min(), rows.max()) == (pytest.approx(5, abs=2), pytest.approx(40, abs=2))
    assert (columns.min(), columns.max()) == (pytest.approx(32, abs=2), pytest.approx(32, abs=2))
    assert heart.sum() == 20 * 20
    assert place_of(examples, 0, "nodule") is None


def test_the_peak_is_that_of_the_mean_over_the_attention_heads() -> None:
    attention = np.zeros((1, 2, 1, 6), np.float32)
    # On a grid of 2 x 3: one head is sure of the first patch, both together prefer the last.
    attention[0, 0, 0, [0, 5]] = 0.6, 0.4
    attention[0, 1, 0, [1, 5]] = 0.5, 0.5
    assert peaks_of(attention, (2, 3), 96).tolist() == [[[80, 72]]]


def test_heads_that_have_learned_from_labels_alone_point_at_what_they_answer_for(tmp_path: Path) -> None:
    learned, tested = _drawn(tmp_path, 100, seed=1), _drawn(tmp_path, 40, seed=2)
    game = play_game(learned, tested, _backbone(), GameSettings(steps=30, tolerance=0.5), tmp_path / "out")
    assert [head.head for head in game.heads] == ["v1", "v2"]
    for head in game.heads:
        assert head.validation > 0.9
        mean = head.classes[-1]
        assert mean.target == "mean"
        assert mean.hit.low > 0.5
        assert mean.over_chance.low > 0
    written = (tmp_path / "out" / "pointing_game.json").read_text(encoding="utf-8")
    assert PointingGame.model_validate_json(written) == game
    assert (tmp_path / "out" / "pointing_game.png").stat().st_size > 10_000


def test_too_few_findings_are_said_and_not_trained_on(tmp_path: Path) -> None:
    few = _drawn(tmp_path, 12, seed=3)
    with pytest.raises(SettingsError, match="--training"):
        play_game(few, few, _backbone(), GameSettings(steps=2, tolerance=1), tmp_path / "out")


def test_the_backbone_is_a_bundle_s_or_what_a_pre_training_has_kept(tmp_path: Path) -> None:
    shipped, manifest = read_backbone(None), read_manifest(bundle_folder(None))
    assert shipped.name == f"{manifest.name} {manifest.version}"
    assert shipped.preprocessing == manifest.preprocessing
    kept = read_backbone(train(tiny_recipe("mae"), tmp_path, Processes(0, 1, torch.device("cpu"))))
    assert (kept.name, kept.preprocessing.size, kept.backbone.width) == ("tiny-mae", 64, 64)
    with pytest.raises(BundleError):
        read_backbone(tmp_path / "nowhere")
