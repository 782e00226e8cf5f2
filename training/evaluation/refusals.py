"""Whether what is no frontal chest is refused, and for the right reason. Called by the stage that evaluates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from rich.progress import Progress

from schemas.bundle import Acceptance, Manifest, Metric
from schemas.codes import DistanceBasis
from training.evaluation.drawing import drawn
from training.evaluation.seeing import Seen, look, seen
from training.evaluation.statistics import share
from training.examples.phantoms import FILM_SIDE
from training.phantom.not_chest import Subject, render_not_chest
from training.phantom.truth import Family
from training.rendering import film_size
from workers.calibration import class_scores
from workers.interpret import interpret
from workers.networks.network import Network
from workers.spacing import Spacing

_NO_SPACING = Spacing(0.0, 0.0, DistanceBasis.NONE)
_REASONS = tuple(each for each in Acceptance if each is not Acceptance.FRONTAL_CHEST)


@dataclass(frozen=True)
class RefusalReading:
    """One image that is no upright frontal chest."""

    subject: Subject
    refused: bool
    #: Whether the highest-scoring reason is the true one.
    right_reason: bool


@dataclass(frozen=True)
class _Wanted:
    seed: int
    subject: Subject


def read_others(
    network: Network, manifest: Manifest, seeds: Sequence[int], progress: Progress, family: Family = Family.FROZEN
) -> Iterator[RefusalReading]:
    """Draw an image for each seed, every subject in turn, and read it as the product does."""
    task = progress.add_task("Reading other images", total=len(seeds))
    subjects = list(Subject)
    wanted = [_Wanted(seed, subjects[number % len(subjects)]) for number, seed in enumerate(seeds)]
    images = drawn(partial(_drawn, manifest=manifest, family=family), wanted)
    for each, image in zip(wanted, images, strict=True):
        yield _read(network, manifest, each.subject, image)
        progress.advance(task)


def evaluate_refusals(readings: Sequence[RefusalReading]) -> list[Metric]:
    """Share refused: of all, and of each subject; and how often for the right reason. Nothing without readings."""
    if not readings:
        return []
    refused = [each for each in readings if each.refused]
    figures = [share("other images refused, share", np.array([each.refused for each in readings]))]
    if refused:
        right = np.array([each.right_reason for each in refused])
        figures.append(share("other images refused for the right reason, share of refused", right))
    for subject in sorted({each.subject for each in readings}):
        of_subject = np.array([each.refused for each in readings if each.subject is subject])
        figures.append(share(f"{subject.value.replace('_', ' ')} refused, share", of_subject))
    return figures


def _drawn(wanted: _Wanted, *, manifest: Manifest, family: Family) -> Seen:
    rows, columns = film_size(wanted.seed, FILM_SIDE)
    image = render_not_chest(wanted.seed, rows, columns, subject=wanted.subject, family=family).image
    return seen(image, manifest)


def _read(network: Network, manifest: Manifest, subject: Subject, image: Seen) -> RefusalReading:
    output = look(network, manifest, image)
    said = interpret(output, manifest, image.placement, _NO_SPACING)
    scores = dict(
        zip((scored.target for scored in manifest.classes), class_scores(output.logits, manifest.classes), strict=True)
    )
    reasons = [each for each in _REASONS if each in scores]
    right = bool(reasons) and max(reasons, key=lambda each: float(scores[each])) is subject.acceptance
    # No model is shown an image all of whose pixels are alike (workers/preparation.py).
    alike = bool(np.ptp(image.image) == 0)
    return RefusalReading(subject, alike or bool(said.refused), right)
