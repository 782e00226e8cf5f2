"""Fills stores of images: phantoms, curated sources, shards. Called by `chexnode train pretrain`.

What an earlier run has placed is not placed again.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.progress import Progress

from schemas.preprocessing import Preprocessing
from training.curation.shards import ShardDataset
from training.examples.filling import Maker
from training.examples.phantoms import PhantomMaker
from training.examples.placing import place
from training.examples.radiographs import SampleMaker, truth_of_sample
from training.examples.targets import TARGETS, class_row
from training.pretraining.store import Store, StoreDocument, create_store, open_store
from training.rendering import render_processes
from training.sources.source import Sample, Split

_CHUNK = 20
_DONE = "done-"


@dataclass(frozen=True)
class Filling:
    """How images come into stores, and who is told of it."""

    preprocessing: Preprocessing
    progress: Progress


def phantom_store(folder: Path, maker: PhantomMaker, count: int, filling: Filling) -> Store:
    """The phantoms of `count` seeds from the maker's first one on; each is another patient."""
    seeds = [f"seed-{maker.first_seed + index}" for index in range(count)]
    origin = repr((maker, count))
    return _filled(folder, maker, seeds, ["phantom"] * count, origin, filling, "Rendering phantoms")


def sample_store(folder: Path, samples: Sequence[Sample], filling: Filling, title: str) -> Store:
    """The samples of curated sources."""
    patients, sources = [each.patient for each in samples], [each.source for each in samples]
    # Pseudonyms are for whoever the store is passed on to; the splits were made before.
    patients = [hashlib.sha256(f"{s}\0{p}".encode()).hexdigest()[:16] for s, p in zip(sources, patients, strict=True)]
    origin = repr([(each.source, each.key) for each in samples])
    return _filled(folder, SampleMaker(samples), patients, sources, origin, filling, title)


def shard_store(folder: Path, shards: Path, split: Split, filling: Filling) -> Store:
    """One side of the split of shards that `chexnode train curate --shards` wrote, streamed once into the store."""
    known = [(each.source, each.key, each.patient) for each in ShardDataset(shards, split)]
    sources, _, patients = (list(column) for column in zip(*known, strict=True)) if known else ([], [], [])
    document = _document(patients, sources, repr(known), filling)
    store = create_store(folder, document)
    task = filling.progress.add_task("Reading shards", total=len(known))
    done = sum(1 for _ in folder.glob(f"{_DONE}*")) * _CHUNK
    filling.progress.advance(task, min(done, len(known)))
    for index, sample in enumerate(ShardDataset(shards, split, skip_batches=done), done):
        image = sample.read()
        store.images[index], _ = place(image, filling.preprocessing)
        store.labels[index] = class_row(truth_of_sample(sample, *image.shape).classes)
        filling.progress.advance(task)
        if (index + 1) % _CHUNK == 0:
            store.flush()
            (folder / f"{_DONE}{index + 1 - _CHUNK}").touch()
    store.flush()
    return open_store(folder)


def _filled(
    folder: Path,
    maker: Maker,
    patients: list[str],
    sources: list[str],
    origin: str,
    filling: Filling,
    title: str,
) -> Store:
    count = len(patients)
    create_store(folder, _document(patients, sources, origin, filling))
    waiting = [start for start in range(0, count, _CHUNK) if not (folder / f"{_DONE}{start}").exists()]
    if waiting:
        task = filling.progress.add_task(title, total=-(-count // _CHUNK), completed=-(-count // _CHUNK) - len(waiting))
        work = partial(_fill_chunk, folder, count, maker)
        if len(waiting) == 1:
            # Starting processes takes longer.
            work(waiting[0])
            filling.progress.advance(task)
        else:
            with render_processes() as processes:
                for future in as_completed([processes.submit(work, start) for start in waiting]):
                    future.result()
                    filling.progress.advance(task)
    return open_store(folder)


def _fill_chunk(folder: Path, count: int, maker: Maker, start: int) -> None:
    document = open_store(folder).document
    store = create_store(folder, document)
    for index in range(start, min(start + _CHUNK, count)):
        made = maker(index)
        store.images[index], _ = place(made.image, document.preprocessing)
        store.labels[index] = class_row(made.truth.classes)
    store.flush()
    (folder / f"{_DONE}{start}").touch()


def _document(patients: list[str], sources: list[str], origin: str, filling: Filling) -> StoreDocument:
    return StoreDocument(
        # Networks that normalise differently share the squares.
        preprocessing=filling.preprocessing.model_copy(update={"profile": "squares", "mean": (0.0,), "std": (1.0,)}),
        targets=list(TARGETS),
        patients=patients,
        sources=sources,
        origin=hashlib.sha256(origin.encode()).hexdigest(),
    )
