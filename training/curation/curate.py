"""Curates sources: reads every image once, finds duplicates, splits by patient, says of each image what becomes of it.

Called by `chexnode train curate` and by the first stage of `chexnode train regenerate`.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.progress import Progress

from schemas.errors import ChexnodeError, SourceError
from training.curation.burned_in import without_burned_in
from training.curation.duplicates import Duplicate, find_duplicates
from training.curation.fingerprint import Fingerprint, fingerprint
from training.curation.manifest import CuratedImage, write_manifest
from training.curation.orientation import orientation_faults
from training.curation.quality import unusable
from training.curation.settings import CurationSettings
from training.curation.split import Member, Placed, place
from training.sources.source import Sample, Source, Split

_SEEN = "seen.jsonl"
_AHEAD = 64
#: Frequencies of opposite sign up to which an image counts as one held out elsewhere, whose thumbnail is not at hand:
#: rather some left out for nothing. Measured: 1 pair in 100,000.
_MOST_SIGNS = 4


@dataclass(frozen=True)
class Curation:
    """What became of every image of every source."""

    #: In the order of the sources, one for each sample.
    images: list[CuratedImage]
    samples: list[Sample]
    #: Of the manifest.
    digest: str
    #: Pairs of images of one film.
    duplicates: int
    settings: CurationSettings

    def part(self, split: Split) -> list[Sample]:
        """The samples of this side, in their order; reading them takes away what is burned in."""
        chosen = (sample for sample, image in zip(self.samples, self.images, strict=True) if image.split == split)
        return [cleaned(sample, self.settings) for sample in chosen]


def curate(
    sources: Sequence[Source],
    settings: CurationSettings,
    folder: Path,
    progress: Progress,
    *,
    held_out: Iterable[CuratedImage] = (),
    processes: int = 2,
) -> Curation:
    """Curate `sources` into `folder`: the manifest, and what is needed to go on after a kill.

    Parameters
    ----------
    held_out
        Images of other manifests, with the same key, whose patients and films must not be learned from: the frozen
        cases of evaluations. What belongs to them is left out here.
    processes
        That read images.

    Raises SourceError when two sources share a name or a source two keys, or its layout is not as expected. An image
    that cannot be read is left out with that reason.
    """
    samples = _samples(sources)
    folder.mkdir(parents=True, exist_ok=True)
    seen = _look(samples, folder, progress, processes)
    readable = [index for index, each in enumerate(seen) if isinstance(each, Fingerprint)]
    prints = [each for each in seen if isinstance(each, Fingerprint)]
    pairs = find_duplicates(prints, progress)
    pairs = [Duplicate(readable[pair.first], readable[pair.second], pair.exact) for pair in pairs]
    members = [Member((sample.source, sample.patient), sample.split) for sample in samples]
    placed = place(members, ((pair.first, pair.second) for pair in pairs), settings.shares, settings.key)
    reasons = _reasons(samples, seen, placed, settings)
    _hold_out(samples, seen, placed, list(held_out), settings, reasons)
    originals = _leave_out_duplicates(samples, pairs, reasons)
    images = [
        _curated(sample, each, side, reason, original, settings)
        for sample, each, side, reason, original in zip(samples, seen, placed, reasons, originals, strict=True)
    ]
    return Curation(images, samples, write_manifest(folder, images), len(pairs), settings)


def cleaned(sample: Sample, settings: CurationSettings) -> Sample:
    """The sample as it is learned from and tested on: without letters near the borders and without corners."""
    return replace(sample, read=partial(_read_cleaned, sample.read, settings.corners))


def pseudonym(settings: CurationSettings, source: str, patient: str) -> str:
    """How the manifest calls a patient: 16 hexadecimal characters of a keyed hash."""
    return hmac.new(settings.key.encode(), f"{source}\0{patient}".encode(), hashlib.sha256).hexdigest()[:16]


def _read_cleaned(read: Callable[[], NDArray[np.float32]], corners: float) -> NDArray[np.float32]:
    return without_burned_in(read(), corners)


def _samples(sources: Sequence[Source]) -> list[Sample]:
    samples: list[Sample] = []
    known: set[tuple[str, str]] = set()
    for source in sources:
        for sample in source:
            if (sample.source, sample.key) in known:
                raise SourceError(
                    f"{sample.source} has two images of the key {sample.key}. Two folders of one kind need names of "
                    "their own: --source kind:name=folder."
                )
            known.add((sample.source, sample.key))
            samples.append(sample)
    if not samples:
        raise SourceError("The sources have no image; check the folders.")
    return samples


class _Seen(BaseModel):
    """A line of seen.jsonl."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    fingerprint: Fingerprint


def _look(
    samples: Sequence[Sample], folder: Path, progress: Progress, processes: int
) -> list[Fingerprint | ChexnodeError]:
    """For each sample its fingerprint, or why it could not be read; those of an earlier run are taken from its file."""
    path = folder / _SEEN
    known = _known(path)
    names = [_identity(sample) for sample in samples]
    found: list[Fingerprint | ChexnodeError | None] = [known.get(name) for name in names]
    missing = [index for index, each in enumerate(found) if each is None]
    task = progress.add_task("Reading images", total=len(samples), completed=len(samples) - len(missing))
    with path.open("a", encoding="utf-8") as stream:
        if missing and stream.tell() and not path.read_bytes().endswith(b"\n"):
            # Ends the half line of a run that was killed.
            stream.write("\n")
        for index, seen in _fingerprints(samples, missing, processes):
            found[index] = seen
            if isinstance(seen, Fingerprint):
                stream.write(_Seen(image=names[index], fingerprint=seen).model_dump_json() + "\n")
            progress.advance(task)
    return [each for each in found if each is not None]


def _fingerprints(
    samples: Sequence[Sample], indices: Sequence[int], processes: int
) -> Iterator[tuple[int, Fingerprint | ChexnodeError]]:
    if processes == 1 or len(indices) < _AHEAD:
        yield from ((index, _try(samples[index])) for index in indices)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running: dict[Future[Fingerprint | ChexnodeError], int] = {}
        for index in indices:
            running[pool.submit(_try, samples[index])] = index
            if len(running) >= _AHEAD:
                yield from _finished(running, FIRST_COMPLETED)
        yield from _finished(running, ALL_COMPLETED)


def _finished(
    running: dict[Future[Fingerprint | ChexnodeError], int], when: str
) -> Iterator[tuple[int, Fingerprint | ChexnodeError]]:
    for future in wait(running, return_when=when).done:
        yield running.pop(future), future.result()


def _try(sample: Sample) -> Fingerprint | ChexnodeError:
    try:
        return fingerprint(sample)
    except ChexnodeError as error:
        return error


def _known(path: Path) -> dict[str, Fingerprint]:
    known = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            seen = _Seen.model_validate_json(line)
        except ValidationError:
            # Half a line of a run that was killed, or of another version: looked at again.
            continue
        known[seen.image] = seen.fingerprint
    return known


def _identity(sample: Sample) -> str:
    """Source, key, and what changes when the file does."""
    stamp = ""
    if sample.path is not None and sample.path.exists():
        status = sample.path.stat()
        stamp = f"{status.st_size}-{status.st_mtime_ns}"
    return json.dumps([sample.source, sample.key, stamp])


def _reasons(
    samples: Sequence[Sample],
    seen: Sequence[Fingerprint | ChexnodeError],
    placed: Sequence[Placed],
    settings: CurationSettings,
) -> list[str | None]:
    """Why each image is left out by itself or by its publisher's split; None when it is not."""
    faults = _orientation(samples, seen)
    reasons: list[str | None] = []
    for index, (sample, each, side) in enumerate(zip(samples, seen, placed, strict=True)):
        if isinstance(each, ChexnodeError):
            reasons.append("unreadable")
            continue
        reason = unusable(sample, each, settings) or faults.get(index)
        reasons.append(reason or ("patient held out by the publisher" if side.held_out else None))
    return reasons


def _orientation(samples: Sequence[Sample], seen: Sequence[Fingerprint | ChexnodeError]) -> dict[int, str | None]:
    by_source: dict[str, list[int]] = {}
    for index, (sample, each) in enumerate(zip(samples, seen, strict=True)):
        # A lateral view is no frontal one that was turned, and must not be taken for a typical image.
        if isinstance(each, Fingerprint) and sample.view != "LL":
            by_source.setdefault(sample.source, []).append(index)
    faults: dict[int, str | None] = {}
    for indices in by_source.values():
        prints = [each for index in indices if isinstance(each := seen[index], Fingerprint)]
        faults.update(zip(indices, orientation_faults(prints), strict=True))
    return faults


def _hold_out(
    samples: Sequence[Sample],
    seen: Sequence[Fingerprint | ChexnodeError],
    placed: Sequence[Placed],
    held_out: Sequence[CuratedImage],
    settings: CurationSettings,
    reasons: list[str | None],
) -> None:
    """Leave out of training and validation whoever shares a patient or a film with the images of `held_out`."""
    patients = {(image.source, image.patient) for image in held_out}
    films = {image.sha256 for image in held_out if image.sha256}
    frequencies = np.array([image.frequencies for image in held_out if image.frequencies is not None], np.uint64)
    groups = set()
    for sample, each, side in zip(samples, seen, placed, strict=True):
        met = (sample.source, pseudonym(settings, sample.source, sample.patient)) in patients
        if isinstance(each, Fingerprint) and not met:
            near = np.bitwise_count(frequencies ^ np.uint64(each.frequencies)) <= _MOST_SIGNS
            met = each.sha256 in films or bool(near.any())
        if met:
            groups.add(side.group)
    for index, side in enumerate(placed):
        if side.group in groups and side.split != "test" and reasons[index] is None:
            reasons[index] = "patient of an evaluation"


def _leave_out_duplicates(
    samples: Sequence[Sample], pairs: Sequence[Duplicate], reasons: list[str | None]
) -> list[str | None]:
    """Of each film keep the image of which most is outlined; for each image left out so, which one was kept."""
    films: dict[int, set[int]] = {}
    for pair in pairs:
        together = films.get(pair.first, {pair.first}) | films.get(pair.second, {pair.second})
        films.update(dict.fromkeys(together, together))
    exact = {index for pair in pairs if pair.exact for index in (pair.first, pair.second)}
    originals: list[str | None] = [None] * len(samples)
    for index in sorted(films):
        usable = [each for each in films[index] if reasons[each] is None]
        if index not in usable:
            continue
        kept = min(usable, key=lambda each: (-len(samples[each].masks), each))
        for each in usable:
            if each != kept:
                reasons[each] = "duplicate" if each in exact else "near duplicate"
                originals[each] = f"{samples[kept].source}/{samples[kept].key}"
    return originals


def _curated(
    sample: Sample,
    seen: Fingerprint | ChexnodeError,
    placed: Placed,
    reason: str | None,
    original: str | None,
    settings: CurationSettings,
) -> CuratedImage:
    looked = seen if isinstance(seen, Fingerprint) else None
    return CuratedImage(
        source=sample.source,
        key=sample.key,
        patient=pseudonym(settings, sample.source, sample.patient),
        licence=sample.licence,
        attribution=sample.attribution,
        sha256=looked.sha256 if looked else None,
        frequencies=looked.frequencies if looked else None,
        rows=looked.rows if looked else None,
        columns=looked.columns if looked else None,
        view=sample.view,
        age_years=sample.age_years,
        sex=sample.sex,
        published=sample.split,
        split=None if reason else placed.split,
        excluded=reason,
        duplicate_of=original,
        labels=dict(sample.labels),
        masks={name: mask.digest() for name, mask in sample.masks.items()},
    )
