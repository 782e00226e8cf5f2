"""The worklist: studies that wait for a reader, in the order in which they are due, and what is known of each.

Read by the page and its API. One query per page of rows, over the index of `study.due_at`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, literal, or_, select
from sqlalchemy.orm import Session

from node.intake.study_description import searchable
from node.ledger.ledger import now
from node.reading import results_key
from node.results.bundle_results import BundleResult, StudyResults, manifests, pictures, study_results
from node.results.foremost import enumerated
from node.results.image_states import Analysis, ImageState, image_states
from node.triage import allowed_wait
from schemas.result import ImageResult, OrderPriority, Urgency
from schemas.settings import AllowedWaits
from schemas.tables import Outcome, ReadState, Reception, Result, Study

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
    #: Every study that was received, also what was never listed; the latest first.
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
    #: What each bundle says of it, by name of the bundle; empty before the first result.
    bundles: list[BundleResult]
    #: All instances, those that were set aside included.
    images: list[ImageState]
    #: Current results that this version of the software cannot read, by name of the bundle.
    unreadable: list[Result]
    #: Objects in quarantine: they contradict what is known of the study.
    conflicts: int
    #: On the database's clock, seconds.
    waited: float
    #: Until it is due; negative when overdue; None when nobody has to read it.
    left: float | None

    @property
    def urgency(self) -> Urgency:
        return Urgency(self.study.urgency)

    @property
    def seen(self) -> str:
        """What a reader of this row has seen (node/reading.py)."""
        return results_key(each.id for each in [*(bundle.result for bundle in self.bundles), *self.unreadable])

    @property
    def results(self) -> list[ImageResult]:
        """What all bundles say of the images that are still what the results were made from."""
        return [image for each in self.bundles for image in each.images]

    @property
    def is_answered(self) -> bool:
        """Whether any bundle has said something of it, though this software may not understand it."""
        return bool(self.results or self.unreadable)

    @property
    def overdue(self) -> bool:
        return self.left is not None and self.left < 0

    def count(self, *analyses: Analysis) -> int:
        """Number of images that are so far."""
        return sum(image.analysis in analyses for image in self.images)

    @property
    def not_analysed(self) -> str:
        """Why there is no result and none is to come, one sentence; "" otherwise."""
        if self.is_answered or self.count(Analysis.PENDING):
            return ""
        # A failure says more than why another image was set aside.
        by_weight = sorted(self.images, key=lambda image: image.analysis is not Analysis.FAILED)
        return next((image.reason for image in by_weight if image.reason), "")


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
    # "> 0" where "is not null" is meant: SQLite without statistics takes an index for the one and not for the other.
    conditions: list[ColumnElement[bool]] = []
    if show in (Show.OPEN, Show.NEW, Show.OPENED):
        conditions.append(Study.due_at > 0)
    elif show is Show.READ:
        conditions.append(Study.read_at > 0)
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
        return (Study.id.desc(),)
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
        ).where(Study.due_at > 0)
    ).one()
    return Counts(*(int(number) for number in counted))


def read_rows(session: Session, studies: Sequence[Study], at: float) -> list[Row]:
    """What the list shows of these studies, in their order."""
    results = study_results(session, [study.id for study in studies])
    states = image_states(session, results)
    said = _said(session, results, states)
    conflicts = _conflicts(session, studies)
    rows = []
    for study in studies:
        since = study.waiting_since if study.waiting_since is not None else study.first_received_at
        rows.append(
            Row(
                study=study,
                bundles=said[study.id],
                images=states[study.id],
                unreadable=results[study.id].unreadable,
                conflicts=conflicts.get(study.study_instance_uid, 0),
                waited=(study.read_at or at) - since,
                left=None if study.due_at is None else study.due_at - at,
            )
        )
    return rows


def _said(
    session: Session, results: dict[int, StudyResults], states: dict[int, list[ImageState]]
) -> dict[int, list[BundleResult]]:
    """Study key -> what each bundle says of it."""
    every = [result for of_study in results.values() for result in of_study.current]
    drawn = pictures(session, every)
    known = manifests(session, [result.bundle_digest for result in every])
    said: dict[int, list[BundleResult]] = {key: [] for key in results}
    for result in every:
        document = results[result.study_id].documents[result.id]
        done = {
            each.instance.sop_instance_uid
            for each in states[result.study_id]
            if each.under(result.bundle_name) is Analysis.DONE
        }
        said[result.study_id].append(
            BundleResult(
                result=result,
                document=document,
                manifest=known.get(result.bundle_digest),
                images=[image for image in document.images if image.sop_instance_uid in done],
                pictures=drawn.get(result.id, {}),
            )
        )
    return said


def _conflicts(session: Session, studies: Sequence[Study]) -> dict[str, int]:
    """Study Instance UID -> number of contradicting objects."""
    uids = [study.study_instance_uid for study in studies]
    counted = session.execute(
        select(Reception.study_instance_uid, func.count())
        .where(Reception.study_instance_uid.in_(uids), Reception.outcome == Outcome.QUARANTINED)
        .group_by(Reception.study_instance_uid)
    )
    return {uid: number for uid, number in counted}  # noqa: C416 - rows are no pairs to the type checker


def place_in_words(row: Row, waits: AllowedWaits) -> str:
    """Why the study stands where it stands, one or two sentences."""
    study, urgency = row.study, row.urgency
    if study.read_state == ReadState.READ:
        return "Read."
    if row.left is None:
        return "Not listed: a prior, a migration, or no chest radiograph."
    minutes = allowed_wait(urgency, waits) / 60
    wait = f"{minutes:g} min" if minutes < 120 else f"{minutes / 60:g} h"
    why = " ".join(reason for reason in (study.reopened_reason, _why(row)) if reason)
    bound = f"{urgency.capitalize()}: to be read within {wait}."
    return f"{why} {bound}" + (" Overdue." if row.overdue else "")


def _why(row: Row) -> str:
    study = row.study
    ordered = f"Ordered {study.order_priority.upper()}." if study.order_priority != OrderPriority.ROUTINE else ""
    unreadable = "A result cannot be read by this version of CheXNode." if row.unreadable else ""
    if not row.results:
        under_way = "Not analysed." if row.not_analysed else "The analysis is under way."
        return " ".join(each for each in (unreadable or under_way, ordered) if each)
    pressing = []
    for image in row.results:
        pressing += [
            f"{tube.device.code.meaning} {tube.position.replace('_', ' ')}"
            for tube in image.tubes
            if tube.position and tube.position.category and tube.position.category.value == row.urgency
        ]
        pressing += [
            finding.finding.code.meaning
            for finding in image.findings
            if finding.present and finding.finding.category and finding.finding.category.value == row.urgency
        ]
    if pressing:
        return f"{enumerated(pressing)}."
    if row.urgency != Urgency.ROUTINE:
        return " ".join(each for each in (ordered, unreadable) if each)
    if all(image.refused for image in row.results):
        return f"Not analysed: {enumerated(image.refused for image in row.results)}."
    findings = [each for image in row.results for each in image.findings]
    if any(each.present and each.finding.is_pathology for each in findings):
        return "No finding that is pressing was called present."
    if findings and all(each.present is None for each in findings):
        return "No finding was assessed."
    return "No finding was called present."
