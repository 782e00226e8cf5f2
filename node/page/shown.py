"""What the page picks from a result to show first."""

from collections.abc import Iterable
from dataclasses import dataclass

from node.worklist import Row
from schemas.codes import Category, Finding
from schemas.result import FindingResult, ImageResult
from schemas.tables import Picture

_CATEGORIES = list(Category)


@dataclass(frozen=True)
class Lead:
    """The image of a study that says most, and the evidence map that is laid over its thumbnail."""

    image: ImageResult
    picture: Picture | None
    #: Of a finding that was called present; None where there is none.
    finding: Finding | None


def lead(row: Row) -> Lead | None:
    """The lead of a study with a result; None without."""
    if not row.results:
        return None
    image = min(row.results, key=_pressing)
    return Lead(image, row.pictures.get(image.sop_instance_uid), leading_finding(image))


def leading_finding(image: ImageResult) -> Finding | None:
    """The finding whose evidence map is shown without being asked for: the most pressing of those called present.

    Of nothing else: attention also glows where the answer was "absent", and where a tube lies is measured.
    """
    present = [each for each in image.findings if each.present]
    first = min(present, key=lambda each: (_category(each), -each.score), default=None)
    return first.finding if first else None


def study_findings(row: Row) -> list[FindingResult]:
    """The findings of all images of a study: of each the result that says most."""
    rank = {True: 0, False: 1, None: 2}
    best: dict[Finding, FindingResult] = {}
    for image in row.results:
        for each in image.findings:
            known = best.get(each.finding)
            if known is None or (rank[each.present], -each.score) < (rank[known.present], -known.score):
                best[each.finding] = each
    return in_order(best.values())


def in_order(findings: Iterable[FindingResult]) -> list[FindingResult]:
    """Findings in the order in which they are shown: present ones first, the undetermined last, by score."""
    rank = {True: 0, False: 1, None: 2}
    return sorted(findings, key=lambda each: (rank[each.present], -each.score))


def _category(finding: FindingResult) -> int:
    return _CATEGORIES.index(finding.finding.category)


def _pressing(image: ImageResult) -> tuple[int, float]:
    categories = [_category(each) for each in image.findings if each.present]
    categories += [
        _CATEGORIES.index(tube.position.category) for tube in image.tubes if tube.position and tube.position.category
    ]
    return min(categories, default=len(_CATEGORIES)), -max((each.score for each in image.findings), default=0.0)
