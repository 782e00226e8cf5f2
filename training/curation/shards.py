"""Curated images as tar files for streaming, named as WebDataset does: KEY.png, KEY.json, KEY.mask.STRUCTURE.png.

Written by `chexnode train curate --shards`; `ShardDataset` reads them back as samples.
"""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.progress import Progress
from torch.utils.data import IterableDataset, get_worker_info

from schemas.codes import TubePosition
from schemas.errors import SourceError
from schemas.result import Point
from training.curation.curate import Curation, pseudonym
from training.sources.masks import ArrayMask
from training.sources.source import Course, Mask, Sample, Sex, Split, View
from training.sources.writing import write_whole

_FOLDER = "shards"
_INDEX = "shards.json"
_SPLITS: tuple[Split, ...] = ("train", "val", "test")
#: What a reader holds in memory; of images of 1024 pixels about 60 MB.
_PER_SHARD = 64


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Course(_Document):
    device: str
    points: list[tuple[float, float]]
    position: TubePosition | None


class _Entry(_Document):
    """KEY.json."""

    source: str
    key: str
    patient: str
    licence: str
    attribution: str
    labels: dict[str, float]
    view: View | None
    age_years: float | None
    sex: Sex | None
    split: Split
    landmarks: dict[str, Point]
    courses: list[_Course]


class _Index(_Document):
    """shards.json: what the shards were made from, and how many images each has."""

    manifest: str
    size: int
    shards: dict[Split, list[int]]


def write_shards(curation: Curation, folder: Path, size: int, progress: Progress) -> None:
    """Write the curated images into `folder`/shards, longer side at most `size`; what an earlier run wrote is kept.

    Images lie there in an order drawn from their keys, so that the images of a shard come from all sources.
    """
    root = folder / _FOLDER
    parts = {split: _ordered(curation.part(split), curation.settings.key) for split in _SPLITS}
    index = _Index(
        manifest=curation.digest,
        size=size,
        shards={split: [len(each) for each in _cut(samples)] for split, samples in parts.items()},
    )
    if _read_index(root) != index:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        write_whole(root / _INDEX, index.model_dump_json(indent=2).encode())
    task = progress.add_task("Writing shards", total=sum(len(samples) for samples in parts.values()))
    for split, samples in parts.items():
        for number, shard in enumerate(_cut(samples)):
            path = _path(root, split, number)
            if not path.exists():
                write_whole(path, _shard(shard, split, curation, size))
            progress.advance(task, len(shard))


@dataclass(eq=False)
class ShardDataset(IterableDataset[Sample]):
    """The images of one side of the split, streamed in an order that seed and epoch decide.

    Every worker of a DataLoader streams other shards. With the same workers, batch size, seed and epoch the order is
    the same, so a training that was stopped goes on with `skip_batches`, the batches that it had.
    """

    folder: Path
    split: Split
    seed: int = 0
    epoch: int = 0
    batch_size: int = 1
    skip_batches: int = 0
    #: Of several processes that train together, which one this is.
    part: int = 0
    parts: int = 1

    def __iter__(self) -> Iterator[Sample]:
        root = self.folder / _FOLDER
        index = _read_index(root)
        if index is None:
            raise SourceError(f"{root} has no shards; write them with chexnode train curate --shards.")
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        order = list(range(len(index.shards[self.split])))
        Random(f"{self.seed} {self.epoch}").shuffle(order)
        mine = order[self.part * workers + number :: self.parts * workers]
        # A DataLoader takes whole batches from its workers in turn.
        skip = max(0, -(-(self.skip_batches - number) // workers)) * self.batch_size
        for shard in mine:
            count = index.shards[self.split][shard]
            if skip >= count:
                skip -= count
                continue
            inside = list(range(count))
            Random(f"{self.seed} {self.epoch} {shard}").shuffle(inside)
            samples = _read_shard(_path(root, self.split, shard))
            yield from (samples[position] for position in inside[skip:])
            skip = 0


def _ordered(samples: list[Sample], key: str) -> list[Sample]:
    return sorted(samples, key=lambda each: hashlib.sha256(f"{key}\0{each.source}\0{each.key}".encode()).digest())


def _cut(samples: list[Sample]) -> list[list[Sample]]:
    return [samples[start : start + _PER_SHARD] for start in range(0, len(samples), _PER_SHARD)]


def _path(root: Path, split: Split, number: int) -> Path:
    return root / f"{split}-{number:06d}.tar"


def _read_index(root: Path) -> _Index | None:
    try:
        return _Index.model_validate_json((root / _INDEX).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _shard(samples: list[Sample], split: Split, curation: Curation, size: int) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for number, sample in enumerate(samples):
            for name, part in _files(sample, split, curation, size).items():
                # Nothing of when and by whom: equal images give equal bytes.
                header = tarfile.TarInfo(f"{number:04d}.{name}")
                header.size = len(part)
                tar.addfile(header, io.BytesIO(part))
    return content.getvalue()


def _files(sample: Sample, split: Split, curation: Curation, size: int) -> dict[str, bytes]:
    image = sample.read()
    rows, columns = image.shape
    scale = min(1.0, size / max(rows, columns))
    small = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    reduced = image if scale == 1.0 else np.asarray(Image.fromarray(image).resize(small, Image.Resampling.BOX))
    across, down = small[0] / columns, small[1] / rows
    entry = _Entry(
        source=sample.source,
        key=sample.key,
        patient=pseudonym(curation.settings, sample.source, sample.patient),
        licence=sample.licence,
        attribution=sample.attribution,
        labels=dict(sample.labels),
        view=sample.view,
        age_years=sample.age_years,
        sex=sample.sex,
        split=split,
        landmarks={name: Point(x=point.x * across, y=point.y * down) for name, point in sample.landmarks.items()},
        courses=[
            _Course(
                device=course.device,
                points=[(float(x) * across, float(y) * down) for x, y in course.points],
                position=course.position,
            )
            for course in sample.courses
        ],
    )
    files = {"json": entry.model_dump_json().encode(), "png": _png(Image.fromarray(_sixteen_bits(reduced)))}
    for structure, mask in sample.masks.items():
        outline = Image.fromarray(mask.read(rows, columns)).resize(small, Image.Resampling.NEAREST)
        files[f"mask.{structure}.png"] = _png(outline)
    return files


def _sixteen_bits(image: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.round(image * 65535).astype(np.uint16)


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    return content.getvalue()


def _read_shard(path: Path) -> list[Sample]:
    try:
        with tarfile.open(path) as tar:
            files: dict[str, dict[str, bytes]] = {}
            for member in tar:
                number, _, name = member.name.partition(".")
                part = tar.extractfile(member)
                files.setdefault(number, {})[name] = part.read() if part else b""
    except (OSError, tarfile.TarError) as error:
        raise SourceError(
            f"The shard {path} cannot be read ({error}); delete it and write the shards again."
        ) from error
    return [_sample(parts) for _, parts in sorted(files.items())]


def _sample(files: dict[str, bytes]) -> Sample:
    entry = _Entry.model_validate(json.loads(files["json"]))
    return Sample(
        source=entry.source,
        key=entry.key,
        patient=entry.patient,
        licence=entry.licence,
        attribution=entry.attribution,
        read=partial(_image, files["png"]),
        labels=entry.labels,
        view=entry.view,
        age_years=entry.age_years,
        sex=entry.sex,
        split=entry.split,
        masks=_masks(files),
        landmarks=entry.landmarks,
        courses=tuple(
            Course(each.device, np.array(each.points, np.float32).reshape(-1, 2), each.position)
            for each in entry.courses
        ),
    )


def _masks(files: dict[str, bytes]) -> dict[str, Mask]:
    return {
        name.removeprefix("mask.").removesuffix(".png"): ArrayMask(np.asarray(_opened(content).convert("L")) > 127)
        for name, content in files.items()
        if name.startswith("mask.")
    }


def _image(content: bytes) -> NDArray[np.float32]:
    return np.asarray(_opened(content)).astype(np.float32) / np.float32(65535)


def _opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))
