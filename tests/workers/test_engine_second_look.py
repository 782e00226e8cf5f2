"""An engine that looks twice: each image gets the second look of its own crop, whatever it goes together with."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from structlog.testing import capture_logs

from schemas.bundle import Manifest, read_manifest
from schemas.errors import EngineError
from schemas.settings import WorkerSettings
from tests.pixels.films import film, written
from tests.support.bundles import write_looking_bundle
from tests.workers.strained import StrainedFolder
from workers.bundle import LoadedBundle, load_bundle, normalise, normalised
from workers.engine import Engine
from workers.engine_lane import Batching
from workers.output import ModelOutput
from workers.preparation import Prepared, Wanted, prepare
from workers.second_look import crop_for


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_looking_bundle(tmp_path_factory.mktemp("looking") / "bundle")


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> Manifest:
    return read_manifest(bundle)


@pytest.fixture(scope="module")
def images(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> list[Prepared]:
    """Films of noise; in some of them the network sees something to look at, in others not."""
    folder = tmp_path_factory.mktemp("films")
    prepared = []
    for seed in range(16):
        coarse = np.random.default_rng(seed).integers(0, 4096, (16, 12))
        path = written(film(np.kron(coarse, np.ones((16, 16))).astype(np.uint16)), folder / f"{seed}.dcm")
        prepared += prepare(path, [Wanted.by(manifest)])
    return prepared


@pytest.fixture(scope="module")
def engine(bundle: Path, manifest: Manifest) -> Iterator[Engine]:
    engine = Engine(bundle, manifest, ["cpu"], WorkerSettings(), Batching(5, 0.5, 2))
    try:
        engine.start()
        yield engine
    finally:
        engine.close()


def test_every_image_of_a_batch_gets_the_second_look_that_the_networks_give_it_alone(
    bundle: Path, images: list[Prepared], engine: Engine
) -> None:
    with ThreadPoolExecutor(len(images)) as pool:
        outputs = list(pool.map(lambda each: engine.run(each.pixels, detail=each.detail).output, images))
    _compare(outputs, load_bundle(bundle), images)


def test_an_image_without_its_detail_is_refused_before_it_reaches_the_engine(
    images: list[Prepared], engine: Engine
) -> None:
    with pytest.raises(ValueError, match="detail image of None pixels, wanted 192"):
        engine.run(images[0].pixels)


def test_crops_that_do_not_fit_into_memory_together_are_computed_in_smaller_batches(
    bundle: Path, manifest: Manifest, images: list[Prepared]
) -> None:
    engine = Engine(StrainedFolder(bundle), manifest, ["cpu"], WorkerSettings(), Batching(16, 0.5, 1))
    try:
        engine.start()
        (process,) = engine.processes
        with ThreadPoolExecutor(len(images)) as pool, capture_logs() as logs:
            outputs = list(pool.map(lambda each: engine.run(each.pixels, detail=each.detail).output, images))
        assert any("out of memory" in each["event"] for each in logs)
        assert engine.processes == [process], "nothing was killed"
    finally:
        engine.close()
    _compare(outputs, load_bundle(bundle), images)


def test_a_second_look_that_is_no_number_fails_its_image_alone(
    bundle: Path, manifest: Manifest, images: list[Prepared]
) -> None:
    loaded = load_bundle(bundle)
    plain = next(each for each in images if _looks(loaded, each) is not None)
    assert plain.detail is not None
    bright = replace(plain, detail=replace(plain.detail, pixels=np.full_like(plain.detail.pixels, 240)))
    engine = Engine(StrainedFolder(bundle), manifest, ["cpu"], WorkerSettings(), Batching(2, 0.5, 1))
    try:
        engine.start()
        with ThreadPoolExecutor(2) as pool:
            bad, good = (pool.submit(engine.run, each.pixels, 100, each.detail) for each in (bright, plain))
        assert isinstance(bad.exception(), EngineError) and "'closer' holds NaN" in str(bad.exception())
        assert good.result().output.closer is not None
    finally:
        engine.close()


def _compare(outputs: list[ModelOutput], loaded: LoadedBundle, images: list[Prepared]) -> None:
    expected = [_looks(loaded, each) for each in images]
    assert 3 <= sum(each is not None for each in expected) <= len(images) - 3
    for output, wanted in zip(outputs, expected, strict=True):
        assert (output.closer is None) == (wanted is None)
        if output.closer is not None and wanted is not None:
            assert (output.closer.left, output.closer.top) == wanted[:2]
            np.testing.assert_allclose(output.closer.dense, wanted[2], atol=0.01)


def _looks(loaded: LoadedBundle, image: Prepared) -> tuple[int, int, NDArray[np.float32]] | None:
    """Left and top of the crop and its logits, by the networks themselves."""
    assert image.detail is not None and loaded.network.second_look is not None
    preprocessing = loaded.manifest.preprocessing
    with torch.inference_mode():
        dense = loaded.network(normalise(torch.from_numpy(image.pixels)[None], preprocessing)).dense[0].numpy()
        crop = crop_for(dense, loaded.manifest, image.detail.placement)
        if crop is None:
            return None
        logits = loaded.network.second_look(normalised(crop.cut(image.detail.pixels)[None], preprocessing))[0].numpy()
    return crop.left, crop.top, logits
