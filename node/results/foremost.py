"""What is said first when a bundle has many findings, and how the rest is summed up.

The report, the picture's legend, the page and the tables of the commands have it from here, so that all tell the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.codes import Category, Device, Finding
from schemas.result import FindingResult, TubeResult

_CATEGORIES = list(Category)
#: Findings of which none is folded away.
_FEW = 8
#: Absent ones, and undetermined ones, that are shown of more.
_QUIET = 3
#: What a sentence names before it counts.
_NAMED = 4


@dataclass(frozen=True)
class Foremost:
    """Findings in the order in which they are shown: those that come first, and those that may be folded away."""

    shown: list[FindingResult]
    rest: list[FindingResult]


def ranked(findings: Iterable[FindingResult]) -> list[FindingResult]:
    """Present ones, then absent ones, then the undetermined.

    What is present, and what nobody has told, by how pressing it is (or would be), then by score; the absent by score.
    """
    return sorted(findings, key=lambda each: (_presence(each), _weight(each), -each.score))


def tubes_first(tubes: Iterable[TubeResult]) -> list[TubeResult]:
    """Present ones, the most pressing position first, then absent ones; equal ones in the order of the vocabulary."""
    devices = list(Device)
    return sorted(tubes, key=lambda each: (not each.present, _pressing_position(each), devices.index(each.device)))


def pressing_first(findings: Iterable[Finding]) -> list[Finding]:
    """By how pressing they are when present, then by name: for lists of what was not assessed."""
    return sorted(findings, key=lambda each: (_pressing(each), each.code.meaning.lower()))


def foremost(findings: Sequence[FindingResult]) -> Foremost:
    """Everything, of few; of many what is present, and of the absent and the undetermined those that rank first."""
    every = ranked(findings)
    if len(every) <= _FEW:
        return Foremost(every, [])
    of = {presence: [each for each in every if each.present is presence] for presence in (True, False, None)}
    shown = [*of[True], *of[False][:_QUIET], *of[None][:_QUIET]]
    return Foremost(shown, of[False][_QUIET:] + of[None][_QUIET:])


def counted(findings: Sequence[FindingResult]) -> str:
    """How many of them are what: "2 present, 3 absent, 30 undetermined"; without a number when all are the same."""
    words = {True: "present", False: "absent", None: "undetermined"}
    counts = {word: sum(each.present is presence for each in findings) for presence, word in words.items()}
    some = [word for word, count in counts.items() if count]
    return some[0] if len(some) == 1 else ", ".join(f"{counts[word]} {word}" for word in some)


def enumerated(names: Iterable[str]) -> str:
    """ "a, b, c, d and 8 more": each name once, no sentence that lists forty."""
    every = list(dict.fromkeys(names))
    # Naming the last one takes no more room than counting it.
    if len(every) <= _NAMED + 1:
        return ", ".join(every)
    return f"{', '.join(every[:_NAMED])} and {len(every) - _NAMED} more"


def _pressing_position(tube: TubeResult) -> int:
    category = tube.position.category if tube.position else None
    return len(_CATEGORIES) if category is None else _CATEGORIES.index(category)


def _presence(result: FindingResult) -> int:
    return {True: 0, False: 1, None: 2}[result.present]


def _weight(result: FindingResult) -> int:
    return 0 if result.present is False else _pressing(result.finding)


def _pressing(finding: Finding) -> int:
    """Rank of a finding: by category, then what asks for nobody, last what is no disorder."""
    if not finding.is_pathology:
        return len(_CATEGORIES) + 1
    return len(_CATEGORIES) if finding.category is None else _CATEGORIES.index(finding.category)
