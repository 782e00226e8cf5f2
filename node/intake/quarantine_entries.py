"""What is in quarantine, as the command and the page show it: contradicting objects, and work that was given up."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session, aliased

from node.storage.removal import REMOVED
from schemas.change_tables import Quarantined, Withdrawal
from schemas.errors import NotReleasedError
from schemas.tables import (
    Bundle,
    BundleState,
    Inference,
    Instance,
    Picture,
    Result,
    ResultImage,
    WorkState,
)


class Kind(StrEnum):
    """What was set aside; with the number of its row it is the name of an entry, for example "analysis-7"."""

    #: A received object that contradicts what is known of its study.
    OBJECT = "object"
    ANALYSIS = "analysis"
    RESULT = "result"
    #: The rejection note of a withdrawn result.
    WITHDRAWAL = "withdrawal"
    PICTURE = "picture"


@dataclass(frozen=True)
class EntryName:
    """Names one entry."""

    kind: Kind
    row: int

    def __str__(self) -> str:
        return f"{self.kind}-{self.row}"

    @classmethod
    def parse(cls, text: str) -> "EntryName":
        """Raises NotReleasedError when it is no entry's name."""
        kind, _, row = text.partition("-")
        if kind not in set(Kind) or not (row.isascii() and row.isdigit() and len(row) < 10):
            raise NotReleasedError(f"{text[:32]!r} is no entry: chexnode quarantine list names them, as analysis-7.")
        return cls(Kind(kind), int(row))


@dataclass(frozen=True)
class Entry:
    """One thing in quarantine."""

    name: EntryName
    study_instance_uid: str
    #: "" for what is about the whole study.
    sop_instance_uid: str
    reason: str
    #: Seconds since 1970 UTC.
    since: float
    #: 0 for a received object.
    attempts: int
    #: Object store keys of its bytes: the object, or the images that could not be worked on.
    files: tuple[str, ...]


def quarantine_entries(session: Session, *, limit: int | None = None) -> list[Entry]:
    """Everything in quarantine, of each kind the latest first; at most `limit` of each kind."""
    entries = []
    for kind, table in _TABLES.items():
        rows = select(table).where(*_set_aside(kind)).order_by(table.id.desc()).limit(limit)
        entries += [_entry(session, row) for row in session.scalars(rows)]
    return entries


def quarantine_count(session: Session) -> int:
    """How many things are in quarantine."""
    counts = (select(func.count()).select_from(table).where(*_set_aside(kind)) for kind, table in _TABLES.items())
    return sum(session.scalar(each) or 0 for each in counts)


def find_entry(session: Session, name: EntryName) -> Entry:
    """One entry. Raises NotReleasedError when there is none of that name any more."""
    table = _TABLES[name.kind]
    row = session.scalar(select(table).where(table.id == name.row, *_set_aside(name.kind)))
    if row is None:
        raise NotReleasedError(f"There is no {name} in quarantine (any more): chexnode quarantine list.")
    return _entry(session, row)


_Row: TypeAlias = Quarantined | Inference | Result | Withdrawal | Picture
_TABLES: dict[Kind, Any] = {
    Kind.OBJECT: Quarantined,
    Kind.ANALYSIS: Inference,
    Kind.RESULT: Result,
    Kind.WITHDRAWAL: Withdrawal,
    Kind.PICTURE: Picture,
}


def _set_aside(kind: Kind) -> list[ColumnElement[bool]]:
    """Conditions on the rows of a kind: given up, and still what somebody waits for."""
    if kind is Kind.OBJECT:
        return []
    if kind is Kind.ANALYSIS:
        active = select(Bundle.digest).where(Bundle.state == BundleState.ACTIVE)
        return [
            Inference.state == WorkState.FAILED,
            Inference.error != REMOVED,
            Inference.bundle_digest.in_(active),
            exists().where(Instance.pixel_digest == Inference.pixel_digest, Instance.selected),
        ]
    if kind is Kind.RESULT:
        later = aliased(Result)
        replaced = exists().where(
            later.study_id == Result.study_id,
            later.bundle_name == Result.bundle_name,
            later.version > Result.version,
        )
        return [Result.state == WorkState.FAILED, ~replaced]
    if kind is Kind.WITHDRAWAL:
        return [Withdrawal.state == WorkState.FAILED]
    current = select(ResultImage.id).join(Result, ResultImage.result_id == Result.id).where(Result.current)
    return [Picture.state == WorkState.FAILED, Picture.result_image_id.in_(current)]


def _entry(session: Session, row: _Row) -> Entry:
    if isinstance(row, Quarantined):
        came = row.reception
        name = EntryName(Kind.OBJECT, row.id)
        files = (came.file_sha256,)
        return Entry(name, came.study_instance_uid, came.sop_instance_uid, came.detail, came.received_at, 0, files)
    if isinstance(row, Inference):
        instances = select(Instance).where(Instance.pixel_digest == row.pixel_digest).order_by(Instance.id.desc())
        instance = session.scalars(instances.limit(1)).one()
        uid = instance.series.study.study_instance_uid
        return _work(Kind.ANALYSIS, row, uid, instance.sop_instance_uid, [instance.file_sha256])
    if isinstance(row, Result):
        return _work(Kind.RESULT, row, row.study.study_instance_uid, "", [each.file_sha256 for each in row.images])
    if isinstance(row, Withdrawal):
        objects = [stored.sha256 for stored in row.result.objects if stored.sha256]
        return _work(Kind.WITHDRAWAL, row, row.result.study.study_instance_uid, "", objects)
    image = row.result_image
    study = session.get_one(Result, image.result_id).study
    return _work(Kind.PICTURE, row, study.study_instance_uid, image.instance.sop_instance_uid, [image.file_sha256])


def _work(
    kind: Kind,
    row: Inference | Result | Withdrawal | Picture,
    study_instance_uid: str,
    sop_instance_uid: str,
    files: Sequence[str],
) -> Entry:
    return Entry(
        EntryName(kind, row.id),
        study_instance_uid,
        sop_instance_uid,
        row.error,
        row.finished_at or row.created_at,
        row.attempts,
        tuple(files),
    )
