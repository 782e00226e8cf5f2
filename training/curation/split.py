"""Who learns and who is tested: patients, and all that duplicates join, are on one side. Pure functions."""

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.sources.source import Split


class SplitShares(BaseModel):
    """What shares of the patients that their publisher gives no part are held out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    val: Annotated[float, Field(ge=0, lt=1)] = 0.1
    test: Annotated[float, Field(ge=0, lt=1)] = 0.2

    @model_validator(mode="after")
    def _some_left(self) -> "SplitShares":
        if self.val + self.test >= 1:
            raise ValueError("val and test together leave nobody to learn from; their sum must be below 1")
        return self


@dataclass(frozen=True)
class Member:
    """An image as splitting sees it."""

    #: Source and patient: nobody else has both.
    patient: tuple[str, str]
    #: As the publisher splits.
    published: Split | None


@dataclass(frozen=True)
class Placed:
    """Where an image goes."""

    split: Split
    #: Images of patients and films that belong together have the same number.
    group: int
    #: The publisher has it in training, but its patient or its duplicate among the images that are held out.
    held_out: bool


def place(
    members: Sequence[Member], same_film: Iterable[tuple[int, int]], shares: SplitShares, key: str
) -> list[Placed]:
    """For each member its side.

    Patients who share a film (`same_film`, positions) are one group. A group with an image that a publisher tests on is
    a test group, else one with a validation image is a validation group: comparable figures stay comparable. All other
    groups are drawn by a keyed hash, so that adding a source moves nobody else.
    """
    groups = _groups(members, same_film)
    by_group: defaultdict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        by_group[group].append(index)
    placed: list[Placed | None] = [None] * len(members)
    for group, indices in by_group.items():
        published = {members[index].published for index in indices}
        drawn = _drawn(min(members[index].patient for index in indices), shares, key)
        split: Split = "test" if "test" in published else "val" if "val" in published else drawn
        held_out = bool(published & {"test", "val"})
        for index in indices:
            mine = members[index].published
            placed[index] = Placed(split, group, held_out and mine is not None and mine != split)
    return [each for each in placed if each is not None]


def _groups(members: Sequence[Member], same_film: Iterable[tuple[int, int]]) -> list[int]:
    """For each member the lowest position in its group."""
    parent = list(range(len(members)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    def join(first: int, second: int) -> None:
        low, high = sorted((root(first), root(second)))
        parent[high] = low

    earliest: dict[tuple[str, str], int] = {}
    for index, member in enumerate(members):
        join(index, earliest.setdefault(member.patient, index))
    for first, second in same_film:
        join(first, second)
    return [root(index) for index in range(len(members))]


def _drawn(patient: tuple[str, str], shares: SplitShares, key: str) -> Split:
    digest = hmac.new(key.encode(), "\0".join(patient).encode(), hashlib.sha256).digest()
    at = int.from_bytes(digest[:8], "big") / 2**64
    return "test" if at < shares.test else "val" if at < shares.test + shares.val else "train"
