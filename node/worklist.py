"""The worklist: studies that wait for a reader, in the order in which they are due, and what is known of each.

Read by the page and its API. One query per page of rows, over the index of `study.due_at`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, literal, or_, select
from sqlalchemy.orm import Session

from node.ledger import now
from node.study_description import searchable
from node.triage import allowed_wait
from schemas.result import StudyResult, Urgency
from schemas.settings import AllowedWaits
from schemas.tables import Inference, Instance, Picture, ReadState, Result, ResultImage, Series, Study, WorkState

#: Rows of one page of the list.
PAGE_ROWS = 50


class Show(StrEnum):
    """Which studies the list shows."""

    #: New and opened: what still has to be read.
    OPEN = "open"
    NEW = "new"
    OPENED = "opened"
    #: The latest read first.
    READ = "read"
    ALL = "all"


@dataclass(frozen=True)
class Selection:
    """What somebody wants to see of the worklist."""

    show: Show = Show.OPEN
    #: Only studies with a malpositioned tube.
    flagged: bool = False
    urgency: Urgency | None = None
    #: Words that must all occur in patient name, Patient ID, accession number or description; or a whole UID.
    search: str = ""
    #: From 0.
    page: int = 0


@dataclass(frozen=True)
class Row:
    """One study of the list."""

    study: Study
    #: Its current result.
    document: StudyResult | None
    #: Pictures of each analysed image, drawn or not yet, by SOP Instance UID.
    pictures: dict[str, Picture]
    #: Why there is no result and none is to come, one sentence; "" otherwise.
    not_analysed: str
    #: On the database's clock, seconds.
    waited: float
    #: Until it is due; negative when overdue; None when nobody has to read it.
    left: float | None

    @property
    def urgency(self) -> Urgency:
        return Urgency(self.study.urgency)

    @property
    def overdue(self) -> bool:
        return self.left is not None and self.left < 0


@dataclass(frozen=True)
class Counts:
    """Of all open studies."""

    open: int
    flagged: int
    overdue: int
    new: int


@dataclass(frozen=True)
class Worklist:
    rows: list[Row]
    counts: Counts
    #: Whether more rows follow.
    more: bool
    #: The database's clock.
    at: float


def read_worklist(session: Session, selection: Selection) -> Worklist:
    """The rows of one page of the selection, the next to be read first."""
    at = session.scalar(select(now())) or 0.0
    first = selection.page * PAGE_ROWS
    found = session.scalars(
        select(Study)
        .where(*_conditions(selection))
        .order_by(*_order(selection.show))
        .offset(first)
        .limit(PAGE_ROWS + 1)
    ).all()
    rows = read_rows(session, found[:PAGE_ROWS], at)
    return Worklist(rows, _counts(session, at), len(found) > PAGE_ROWS, at)


def _conditions(selection: Selection) -> list[ColumnElement[bool]]:
    show = selection.show
    conditions: list[ColumnElement[bool]] = [
        Study.due_at.is_not(None)
        if show in (Show.OPEN, Show.NEW, Show.OPENED)
        else Study.read_at.is_not(None)
        if show is Show.READ
        else Study.waiting_since.is_not(None)
    ]
    if show in (Show.NEW, Show.OPENED):
        conditions.append(Study.read_state == ReadState(show.value))
    if selection.flagged:
        conditions.append(Study.malpositioned_tube.is_(True))
    if selection.urgency:
        conditions.append(Study.urgency == selection.urgency)
    if words := searchable(selection.search).split():
        in_text = and_(*(Study.search_text.contains(word, autoescape=True) for word in words))
        conditions.append(or_(in_text, Study.study_instance_uid == words[0]))
    return conditions


def _order(show: Show) -> tuple[Any, ...]:
    if show is Show.READ:
        return (Study.read_at.desc(), Study.id.desc())
    if show is Show.ALL:
        # Who waits before who does not, as the databases disagree on where NULL goes.
        return (case((Study.due_at.is_(None), 1), else_=0), Study.due_at, Study.id.desc())
    return (Study.due_at, Study.id)


def _counts(session: Session, at: float) -> Counts:
    def many(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    counted = session.execute(
        select(
            func.count(),
            many(Study.malpositioned_tube.is_(True)),
            many(Study.due_at < literal(at)),
            many(Study.read_state == ReadState.NEW),
        ).where(Study.due_at.is_not(None))
    ).one()
    return Counts(*(int(number) for number in counted))


def read_rows(session: Session, studies: Sequence[Study], at: float) -> list[Row]:
    """What the list shows of these studies, in their order."""
    ids = [study.id for study in studies]
    results = {
        result.study_id: result
        for result in session.scalars(
            # Of several bundles' results the newest is shown.
            select(Result).where(Result.study_id.in_(ids), Result.current).order_by(Result.id)
        )
    }
    pictures: dict[int, dict[str, Picture]] = {}
    for result_id, sop_instance_uid, picture in session.execute(
        select(ResultImage.result_id, Instance.sop_instance_uid, Picture)
        .join(Picture, Picture.result_image_id == ResultImage.id)
        .join(Instance, ResultImage.instance_id == Instance.id)
        .where(ResultImage.result_id.in_([result.id for result in results.values()]))
    ):
        pictures.setdefault(result_id, {})[sop_instance_uid] = picture
    reasons = _not_analysed(session, [each for each in ids if each not in results])
    rows = []
    for study in studies:
        result = results.get(study.id)
        document = StudyResult.model_validate_json(result.document) if result and result.document else None
        since = study.waiting_since if study.waiting_since is not None else study.first_received_at
        rows.append(
            Row(
                study,
                document,
                pictures.get(result.id, {}) if result else {},
                reasons.get(study.id, ""),
                (study.read_at or at) - since,
                None if study.due_at is None else study.due_at - at,
            )
        )
    return rows


def _not_analysed(session: Session, study_ids: list[int]) -> dict[int, str]:
    """Why studies without a result will get none; those whose analysis is under way are left out."""
    reasons: dict[int, str] = {}
    under_way: set[int] = set()
    images = session.execute(
        select(Series.study_id, Instance, Inference)
        .join(Instance, Instance.series_id == Series.id)
        .outerjoin(Inference, and_(Instance.selected, Inference.pixel_digest == Instance.pixel_digest))
        .where(Series.study_id.in_(study_ids))
        .order_by(Instance.id, Inference.id)
    )
    for study_id, instance, inference in images:
        reason = _image_reason(instance, inference)
        if reason is None:
            under_way.add(study_id)
        elif instance.selected:
            # A failure says more than why another image was set aside.
            reasons[study_id] = reason
        else:
            reasons.setdefault(study_id, reason)
    return {study_id: reason for study_id, reason in reasons.items() if study_id not in under_way}


def _image_reason(instance: Instance, inference: Inference | None) -> str | None:
    """Why the image is not analysed; None when it is, or is going to be."""
    if not instance.selected:
        return instance.route_explanation
    return inference.error if inference is not None and inference.state == WorkState.FAILED else None


def place_in_words(row: Row, waits: AllowedWaits) -> str:
    """Why the study stands where it stands, one or two sentences."""
    study, urgency = row.study, row.urgency
    if study.read_state == ReadState.READ:
        return "Read."
    if row.left is None:
        return "Never listed: a prior or a migration."
    minutes = allowed_wait(urgency, waits) / 60
    wait = f"{minutes:g} min" if minutes < 120 else f"{minutes / 60:g} h"
    why = " ".join(reason for reason in (study.reopened_reason, _why(row)) if reason)
    bound = f"{urgency.capitalize()}: to be read within {wait}."
    return f"{why} {bound}" + (" Overdue." if row.overdue else "")


def _why(row: Row) -> str:
    study, document = row.study, row.document
    if document is None:
        reason = "Not analysed." if row.not_analysed else "The analysis is under way."
        ordered = f" Ordered {study.order_priority.upper()}." if study.urgency != Urgency.ROUTINE else ""
        return reason + ordered
    if document.urgency != row.urgency:
        return f"Ordered {study.order_priority.upper()}."
    pressing = []
    for image in document.images:
        pressing += [
            f"{tube.device.code.meaning} {tube.position.replace('_', ' ')}"
            for tube in image.tubes
            if tube.position and tube.position.category and tube.position.category.value == row.urgency
        ]
        pressing += [
            finding.finding.code.meaning
            for finding in image.findings
            if finding.present and finding.finding.category.value == row.urgency
        ]
    return f"{', '.join(dict.fromkeys(pressing))}." if pressing else "Nothing that the model looks for was found."
