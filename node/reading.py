"""The reading of a study: from when on it waits, its place in the worklist, and new -> opened -> read.

Every function works within the caller's transaction. The place is one indexed column, `due_at` = waiting since + the
allowed wait of the urgency: a flag moves a study up, and nobody waits without bound.
"""

from collections.abc import Sequence

from sqlalchemy import case, select, update
from sqlalchemy.orm import Session

from node.ledger import now
from node.triage import allowed_wait, more_pressing, study_urgency
from schemas.errors import StudyNotFoundError
from schemas.result import OrderPriority, StudyResult, Urgency
from schemas.settings import AllowedWaits
from schemas.tables import ReadState, Study


def start_waiting(study: Study, waits: AllowedWaits, reopened_reason: str = "") -> None:
    """Put the study on the worklist, new, from now on; of one that was read, say why it is there again."""
    study.read_state = ReadState.NEW
    study.reopened_reason = reopened_reason
    study.waiting_since = now()
    study.due_at = now() + allowed_wait(Urgency(study.urgency), waits)
    study.changed_at = now()


def result_committed(session: Session, study: Study, document: StudyResult, waits: AllowedWaits) -> None:
    """Give the study the urgency of its new current result, and its place.

    A study that was read with less pressing results, or before there were any, is new again: somebody has to look.
    """
    before = Urgency(study.urgency)
    flagged = document.malpositioned_tube and not study.malpositioned_tube
    _set_urgency(study, document.urgency)
    study.malpositioned_tube = document.malpositioned_tube
    if study.read_state == ReadState.READ and (flagged or more_pressing(Urgency(study.urgency), before)):
        start_waiting(study, waits, "A more pressing result came after it was read.")
    else:
        _take_place(study, waits)


def without_results(study: Study, waits: AllowedWaits) -> None:
    """Give the study its place by the order's priority alone: before the first result, or when it was withdrawn."""
    _set_urgency(study, Urgency.ROUTINE)
    study.malpositioned_tube = None
    _take_place(study, waits)


def mark(session: Session, study_instance_uids: Sequence[str], state: ReadState, who: str, waits: AllowedWaits) -> int:
    """Set how far the reading of these studies is; returns for how many that was a change.

    Opening a study that was opened or read already changes nothing: who looks again does not unread it. A study that
    is marked as new again takes its old place back. Raises StudyNotFoundError for one that is not on the worklist.
    """
    changed = 0
    for uid in study_instance_uids:
        study = session.scalar(select(Study).where(Study.study_instance_uid == uid).with_for_update())
        if study is None or study.waiting_since is None:
            raise StudyNotFoundError(f"{uid} is not on the worklist.")
        changed += _mark(study, state, who, waits)
    return changed


def _mark(study: Study, state: ReadState, who: str, waits: AllowedWaits) -> bool:
    if study.read_state == state or (state is ReadState.OPENED and study.read_state == ReadState.READ):
        return False
    study.read_state = state
    study.changed_at = now()
    if state is ReadState.READ:
        study.due_at, study.read_at, study.read_by = None, now(), who
        return True
    study.read_at, study.read_by = None, ""
    if state is ReadState.OPENED:
        study.opened_at, study.opened_by = now(), who
    else:
        study.opened_at, study.opened_by = None, ""
    _take_place(study, waits)
    return True


def reschedule(session: Session, waits: AllowedWaits) -> None:
    """Give every waiting study its place anew, after the allowed waits were changed."""
    wait = case({each: allowed_wait(each, waits) for each in Urgency}, value=Study.urgency)
    waiting = Study.waiting_since.is_not(None), Study.read_state != ReadState.READ
    place = Study.waiting_since + wait
    session.execute(
        update(Study)
        .where(*waiting, Study.due_at.is_(None) | (Study.due_at != place))
        .values(due_at=place, changed_at=now())
        .execution_options(synchronize_session=False)
    )


def _set_urgency(study: Study, results: Urgency) -> None:
    study.urgency = study_urgency(results, OrderPriority(study.order_priority))


def _take_place(study: Study, waits: AllowedWaits) -> None:
    study.changed_at = now()
    if study.waiting_since is not None and study.read_state != ReadState.READ:
        study.due_at = study.waiting_since + allowed_wait(Urgency(study.urgency), waits)
