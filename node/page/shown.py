"""What the page picks from a result to show first."""

from dataclasses import dataclass

from node.worklist import Row
from schemas.codes import Category
from schemas.result import FindingResult, ImageResult
from schemas.tables import Picture

_CATEGORIES = list(Category)


@dataclass(frozen=True)
class Lead:
    """The image of a study that says most, and what its evidence map is of."""

    image: ImageResult
    picture: Picture | None
    #: Name of an evidence map: a finding, or "<device>.presence" / "<device>.malposition".
    target: str
    label: str


def lead(row: Row) -> Lead | None:
    """The lead of a study with a result; None without."""
    if row.document is None or not row.document.images:
        return None
    image = min(row.document.images, key=_pressing)
    target, label = leading_target(image)
    return Lead(image, row.pictures.get(image.sop_instance_uid), target, label)


def leading_target(image: ImageResult) -> tuple[str, str]:
    """The evidence map to show first and what it is of: the most pressing, else what scores highest."""
    for tube in image.tubes:
        if tube.position and tube.position.category:
            return f"{tube.device.value}.malposition", f"{tube.device.code.meaning} {tube.position.value}"
    present = [each for each in image.findings if each.present]
    first = max(present or image.findings, key=lambda each: (-_category(each), each.score), default=None)
    if present and first:
        return first.finding.value, first.finding.code.meaning
    for tube in image.tubes:
        if tube.present:
            return f"{tube.device.value}.presence", tube.device.code.meaning
    if first is None:
        return "", ""
    return first.finding.value, first.finding.code.meaning


def main_findings(image: ImageResult) -> list[FindingResult]:
    """Findings in the order in which they are shown: present ones first, the undetermined last, by score."""
    rank = {True: 0, False: 1, None: 2}
    return sorted(image.findings, key=lambda each: (rank[each.present], -each.score))


def _category(finding: FindingResult) -> int:
    return _CATEGORIES.index(finding.finding.category)


def _pressing(image: ImageResult) -> tuple[int, float]:
    categories = [_category(each) for each in image.findings if each.present]
    categories += [
        _CATEGORIES.index(tube.position.category) for tube in image.tubes if tube.position and tube.position.category
    ]
    return min(categories, default=len(_CATEGORIES)), -max((each.score for each in image.findings), default=0.0)
