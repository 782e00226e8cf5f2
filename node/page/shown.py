"""What the pages pick from the results of all bundles to show first."""

from collections.abc import Iterable
from dataclasses import dataclass

from node.results.bundle_results import BundleResult
from node.results.foremost import ranked, tubes_first
from node.results.study_record import Reading
from node.worklist import Row
from schemas.codes import Category, Device, Finding
from schemas.result import FindingResult, ImageResult, TubeResult
from schemas.tables import Picture

_CATEGORIES = list(Category)
#: Present before absent before undetermined.
_PRESENCE = {True: 0, False: 1, None: 2}


@dataclass(frozen=True)
class Lead:
    """The image of a study that says most, and the evidence map that is laid over its thumbnail."""

    #: With the tubes that all bundles see on it.
    image: ImageResult
    picture: Picture | None
    #: Of a finding that was called present; None where there is none, or no map of it.
    finding: Finding | None


def lead(row: Row) -> Lead | None:
    """The lead of a study with a result; None without."""
    said = [(bundle, image) for bundle in row.bundles for image in bundle.images]
    if not said:
        return None
    bundle, image = min(said, key=lambda each: (bool(each[1].refused), _pressing(each[1])))
    same = [(other, each) for other, each in said if each.sop_instance_uid == image.sop_instance_uid]
    shown = image.model_copy(update={"tubes": _tubes(each for _, each in same)})
    picture = bundle.pictures.get(image.sop_instance_uid)
    if picture is not None and picture.sha256:
        return Lead(shown, picture, leading_finding(image) if bundle.has_evidence else None)
    # The grey image is the same for all bundles.
    others = (other.pictures.get(image.sop_instance_uid) for other, _ in same)
    return Lead(shown, next((each for each in others if each and each.sha256), None), None)


def leading_finding(image: ImageResult) -> Finding | None:
    """The finding whose evidence map is shown without being asked for: the most pressing of those called present.

    Of nothing else: attention also glows where the answer was "absent", and where a tube lies is measured.
    """
    present = (each.finding for each in ranked(image.findings) if each.present and each.finding.is_pathology)
    return next(present, None)


def leading_reading(readings: Iterable[Reading]) -> Reading | None:
    """Of several bundles' readings of an image the one whose leading finding is the most pressing, if any has one."""
    with_maps = [each for each in readings if each.bundle.has_evidence and leading_finding(each.result)]
    return min(with_maps, key=lambda each: _most_pressing(each.result.findings), default=None)


def by_urgency(readings: Iterable[Reading]) -> list[Reading]:
    """Readings of an image, the one that says the most pressing first."""
    return sorted(readings, key=lambda each: (bool(each.result.refused), _pressing(each.result), each.bundle.name))


def all_tubes(images: Iterable[ImageResult]) -> list[TubeResult]:
    """The tubes that were seen on each image: of a device that several bundles saw, what the most pressing says."""
    by_image: dict[str, list[ImageResult]] = {}
    for image in images:
        by_image.setdefault(image.sop_instance_uid, []).append(image)
    return [tube for same in by_image.values() for tube in _tubes(same)]


def study_findings(row: Row) -> list[FindingResult]:
    """The findings of all images and bundles of a study: of each the result that says most."""
    said: dict[Finding, list[FindingResult]] = {}
    for each in (each for image in row.results for each in image.findings):
        said.setdefault(each.finding, []).append(each)
    return ranked(min(each, key=_says) for each in said.values())


def uncleared(row: Row) -> list[BundleResult]:
    """Results that say themselves that they are not for clinical use."""
    return [each for each in row.bundles if each.document.notice]


def _tubes(images: Iterable[ImageResult]) -> list[TubeResult]:
    """Of the present tubes of one image the most pressing of each device; the first bundle's where they are equal."""
    best: dict[Device, TubeResult] = {}
    for tube in (tube for image in images for tube in image.tubes if tube.present):
        known = best.get(tube.device)
        if known is None or _tube_category(tube) < _tube_category(known):
            best[tube.device] = tube
    return tubes_first(best.values())


def _says(finding: FindingResult) -> tuple[int, float]:
    """Sorts what says most first."""
    if finding.finding is Finding.NORMAL:
        # A study is as normal as its least normal image.
        return {False: 0, True: 1, None: 2}[finding.present], finding.score
    return _PRESENCE[finding.present], -finding.score


def _category(finding: FindingResult) -> int:
    category = finding.finding.category
    return _CATEGORIES.index(category) if category else len(_CATEGORIES)


def _tube_category(tube: TubeResult) -> int:
    category = tube.position.category if tube.position else None
    return _CATEGORIES.index(category) if category else len(_CATEGORIES)


def _most_pressing(findings: Iterable[FindingResult]) -> tuple[int, float]:
    found = ((_category(each), -each.score) for each in findings if each.present and each.finding.is_pathology)
    return min(found, default=(len(_CATEGORIES), 0.0))


def _pressing(image: ImageResult) -> tuple[int, bool, float]:
    """Sorts the most pressing first, of equal ones the one with a tube: it is drawn, not only scored."""
    category, score = _most_pressing(image.findings)
    tubes = [tube for tube in image.tubes if tube.present]
    return min([category, *map(_tube_category, tubes)]), not tubes, score
