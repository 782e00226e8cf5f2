"""What waits under a bundle that is not active any more goes over to the active one of the same name.

Part of every activation and retirement, and done again by the sweep: a reception, a retry or a worker that died may
leave such work behind later.
"""

import structlog
from sqlalchemy import ColumnElement, Select, Update, and_, delete, or_, select, update
from sqlalchemy.orm import Session, aliased

from node.bundles.registry import ActiveBundle, active_bundles
from node.intake.population import taken
from node.ledger.ledger import now
from schemas.tables import (
    Bundle,
    BundleState,
    Inference,
    Instance,
    Picture,
    Result,
    ResultImage,
    Series,
    Study,
    WorkState,
)

log = structlog.get_logger()

_REPLACED = "The bundle under which it was due is not active any more."
_UNKNOWN = "Its bundle is not in the registry: the study is analysed anew."


def has_orphans(session: Session) -> bool:
    """Whether `hand_over` has anything to do."""
    inference = select(Inference.id).where(_orphaned()).limit(1)
    others = (select(each.id).where(_unknown(each)).limit(1) for each in (Result, Picture))
    return any(session.scalar(query) is not None for query in (inference, *others))


def hand_over(session: Session) -> int:
    """Give analyses that are due under inactive bundles to the active ones; returns how many were there.

    An analysis that somebody holds may finish. One that the new bundle's population does not include is dropped, as
    are those of a name that is retired. Results that are planned are still built, as long as the bundle is known.
    """
    active = {each.manifest.name: each for each in active_bundles(session)}
    moved = 0
    for digest in session.scalars(select(Inference.bundle_digest).where(_orphaned()).distinct()).all():
        name = session.scalar(select(Bundle.name).where(Bundle.digest == digest))
        orphans = and_(_orphaned(), Inference.bundle_digest == digest)
        moved += _hand_over(session, orphans, active.get(name or ""))
    for table in (Result, Picture):
        unknown = _unknown(table)
        if table is Result:
            _plan_again(session, select(Result.study_id).where(unknown))
        session.execute(_given_up(table, unknown, _UNKNOWN))
    return moved


def _hand_over(session: Session, orphans: ColumnElement[bool], successor: ActiveBundle | None) -> int:
    counted = session.execute(select(Inference.id).where(orphans)).all()
    # A given-up image that a result names, taken up again: the result keeps its row.
    named = Inference.id.in_(select(ResultImage.inference_id))
    pixels = select(Inference.pixel_digest).where(orphans, named)
    _plan_again(session, select(Series.study_id).join(Instance).where(Instance.pixel_digest.in_(pixels)))
    session.execute(_given_up(Inference, and_(orphans, named), _REPLACED))
    if successor is not None:
        known = aliased(Inference)
        there = select(known.id).where(
            known.pixel_digest == Inference.pixel_digest, known.bundle_digest == successor.digest
        )
        population = taken(successor.manifest.population)
        wanted = select(Instance.id).where(Instance.pixel_digest == Inference.pixel_digest, population)
        session.execute(
            update(Inference)
            .where(orphans, ~there.exists(), wanted.exists())
            .values(
                bundle_digest=successor.digest,
                state=WorkState.DUE,
                due_at=now(),
                attempts=0,
                error="",
                lease_token=None,
            )
            .execution_options(synchronize_session=False)
        )
    session.execute(delete(Inference).where(orphans).execution_options(synchronize_session=False))
    log.info("due analyses handed over", rows=len(counted), to=successor.digest[:12] if successor else "nobody")
    return len(counted)


def _orphaned() -> ColumnElement[bool]:
    """Condition on `Inference`: waiting, and no worker will ever claim it."""
    active = select(Bundle.digest).where(Bundle.state == BundleState.ACTIVE)
    return and_(_waiting(Inference), Inference.bundle_digest.not_in(active))


def _unknown(table: type[Result] | type[Picture]) -> ColumnElement[bool]:
    return and_(_waiting(table), table.bundle_digest.not_in(select(Bundle.digest)))


def _waiting(table: type[Inference] | type[Result] | type[Picture]) -> ColumnElement[bool]:
    """Due, or left behind by a holder that stopped renewing."""
    return or_(table.state == WorkState.DUE, and_(table.state == WorkState.LEASED, table.lease_expires_at < now()))


def _plan_again(session: Session, studies: Select[int]) -> None:
    session.execute(
        update(Study)
        .where(Study.id.in_(studies), Study.result_due_at.is_(None))
        .values(result_due_at=now())
        .execution_options(synchronize_session=False)
    )


def _given_up(table: type[Inference] | type[Result] | type[Picture], which: ColumnElement[bool], reason: str) -> Update:
    return (
        update(table)
        .where(which)
        .values(state=WorkState.FAILED, error=reason, finished_at=now(), lease_token=None)
        .execution_options(synchronize_session=False)
    )
