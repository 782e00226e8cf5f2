"""The reading of a study: from when on it waits, its place in the worklist, and new -> opened -> read.

Every function works within the caller's transaction. The place is one indexed column, `due_at` = waiting since + the
allowed wait of the urgency: a flag moves a study up, and nobody waits without bound.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import and_, bindparam, case, select, update
from sqlalchemy.orm import Session

from node.ledger.ledger import now
from node.results.bundle_results import read_document
from node.triage import allowed_wait, more_pressing, most_pressing, study_urgency
from schemas.errors import StudyChangedError, StudyNotFoundError
from schemas.result import OrderPriority, Urgency
from schemas.settings import AllowedWaits
from schemas.tables import ReadState, Result, Study

#: So long a study that somebody has opened is left to them.
_SOMEBODY_READS_SECONDS = 15 * 60
#: Asked for every object that comes; SQLAlchemy takes several times as long for a statement that is built anew.
_STUDY = (
    select(Study)
    .where(Study.study_instance_uid == bindparam("study_instance_uid"))
    .with_for_update()
    .execution_options(populate_existing=True)
)
_CURRENT_RESULTS = select(Result).where(
    Result.study_id == bindparam("study_id"), Result.current, Result.document.is_not(None)
)


def lock_study(session: Session, study_instance_uid: str) -> Study | None:
    """The study as it is now, held until the transaction ends: whoever changes its place or state asks for it so.

    Without, a reception that read the study before a flag was committed would write the old place back.
    """
    return session.scalar(_STUDY, {"study_instance_uid": study_instance_uid})


def start_waiting(session: Session, study: Study, waits: AllowedWaits, reopened_reason: str = "") -> None:
    """Put the study on the worklist, new, from now on; of one that was read, say why it is there again."""
    study.read_state = ReadState.NEW
    study.reopened_reason = reopened_reason
    study.opened_at = study.read_at = None
    study.opened_by = study.read_by = ""
    study.waiting_since = session.scalar(select(now()))
    _take_place(study, waits)


def settle(session: Session, study: Study, waits: AllowedWaits) -> None:
    """Give the study the urgency of its current results and its order, and its place. Its row must be held.

    A study that was read with less pressing results, or before there were any, is new again: somebody has to look.
    """
    before, flagged_before = Urgency(study.urgency), study.malpositioned_tube
    urgencies, flags = [], []
    for result in session.scalars(_CURRENT_RESULTS, {"study_id": study.id}):
        document = read_document(result)
        # Of what this version cannot read, its urgency stands beside it, and a flag that is up stays up.
        urgencies.append(document.urgency if document else Urgency(result.urgency or Urgency.ROUTINE))
        flags.append(document.malpositioned_tube if document else bool(study.malpositioned_tube))
    study.urgency = study_urgency(most_pressing(urgencies), OrderPriority(study.order_priority))
    study.malpositioned_tube = any(flags) if flags else None
    flagged = study.malpositioned_tube and not flagged_before
    if study.read_state == ReadState.READ and (flagged or more_pressing(Urgency(study.urgency), before)):
        start_waiting(session, study, waits, "Something more pressing came after it was read.")
    else:
        _take_place(study, waits)


def mark(
    session: Session,
    study_instance_uids: Sequence[str],
    state: ReadState,
    who: str,
    waits: AllowedWaits,
    seen: str | None = None,
) -> list[str]:
    """Set how far the reading of these studies is; returns those for which that was a change.

    Opening a study that was opened or read already changes nothing: who looks again does not unread it. A study that
    is marked as new again takes its old place back.

    Parameters
    ----------
    seen
        The results that the reader saw (`results_key`); None when the caller does not know.

    Raises
    ------
    StudyNotFoundError
        One is not on the worklist; then none is marked.
    StudyChangedError
        A result came, of whichever bundle, since the reader looked, and would be marked as read unseen.
    """
    changed = []
    for uid in sorted(study_instance_uids):
        study = lock_study(session, uid)
        if study is None or study.waiting_since is None:
            raise StudyNotFoundError(f"{uid} is not on the worklist.")
        if state is ReadState.READ and seen is not None and _current_key(session, study) != seen:
            raise StudyChangedError("Look at it again before you mark it as read.")
        if _mark(study, state, who, waits):
            changed.append(uid)
    return changed


def results_key(result_ids: Iterable[int]) -> str:
    """What a reader has seen, in one word: the keys of the current results of all bundles, "0" for none.

    Not the newest alone: of two bundles the one whose result was planned first may well be the last to commit it.
    """
    return ",".join(map(str, sorted(result_ids))) or "0"


def next_to_read(session: Session, who: str, apart_from: str = "") -> str | None:
    """Study Instance UID of the study to be read next; not one that somebody else has opened just now."""
    busy = and_(
        Study.read_state == ReadState.OPENED, Study.opened_by != who, Study.opened_at > now() - _SOMEBODY_READS_SECONDS
    )
    return session.scalar(
        select(Study.study_instance_uid)
        .where(Study.due_at > 0, ~busy, Study.study_instance_uid != apart_from)
        .order_by(Study.due_at, Study.id)
        .limit(1)
    )


def _current_key(session: Session, study: Study) -> str:
    return results_key(session.scalars(select(Result.id).where(Result.study_id == study.id, Result.current)))


def _mark(study: Study, state: ReadState, who: str, waits: AllowedWaits) -> bool:
    if study.read_state == state or (state is ReadState.OPENED and study.read_state == ReadState.READ):
        return False
    study.read_state = state
    study.changed_at = now()
    if state is ReadState.READ:
        study.due_at, study.read_at, study.read_by, study.reopened_reason = None, now(), who, ""
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


def _take_place(study: Study, waits: AllowedWaits) -> None:
    study.changed_at = now()
    if study.waiting_since is not None and study.read_state != ReadState.READ:
        study.due_at = study.waiting_since + allowed_wait(Urgency(study.urgency), waits)
