"""What the ledger holds, for a person: counts by state, and the latest that did not get through, with reasons."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.table import Table
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from node.intake.routing import RouteReason
from schemas.change_tables import Withdrawal
from schemas.tables import (
    Delivery,
    DeliveryState,
    Inference,
    Instance,
    Outcome,
    Picture,
    Reception,
    Result,
    ResultImage,
    StoredObject,
    Study,
    WorkState,
)

_LIMIT = 20
#: Said one by one, so that the indices that begin with the state serve.
_OPEN = [WorkState.DUE, WorkState.LEASED, WorkState.FAILED]


@dataclass(frozen=True)
class Problem:
    """One object and what became of it."""

    uid: str
    what: str
    reason: str


def status_table(session: Session) -> Table:
    """Counts of studies, instances and of work by state."""
    table = Table("what", *(state.value for state in WorkState), "in all")
    for name, work in (
        ("analyses", Inference),
        ("results", Result),
        ("withdrawals", Withdrawal),
        ("pictures", Picture),
        ("deliveries", Delivery),
    ):
        counts = dict(session.execute(select(work.state, func.count()).group_by(work.state)).tuples().all())
        cells = [str(counts.get(state, 0)) for state in WorkState]
        table.add_row(name, *cells, str(sum(counts.values())))
    for name, each in (("studies", Study), ("instances", Instance)):
        table.add_row(name, *("" for _ in WorkState), str(session.scalar(select(func.count()).select_from(each))))
    return table


def recent_problems(session: Session) -> Iterator[Problem]:
    """The latest set aside, kept as a conflict, given up or being tried again; the newest of each kind first."""
    ended = [DeliveryState.DONE, DeliveryState.WITHDRAWN]
    waiting = (
        select(Delivery, StoredObject).join(StoredObject).where(Delivery.error != "", Delivery.state.not_in(ended))
    )
    for delivery, stored in session.execute(waiting.order_by(Delivery.id.desc()).limit(_LIMIT)):
        what = "not delivered" if delivery.state == WorkState.FAILED else f"delivery tried {delivery.attempts} times"
        yield Problem(stored.sop_instance_uid, f"{what} to {delivery.destination}", delivery.error)
    failed = (
        select(Instance, Inference)
        .join(Inference, Inference.pixel_digest == Instance.pixel_digest)
        .where(Inference.error != "", Inference.state.in_(_OPEN))
    )
    for instance, inference in session.execute(failed.order_by(Inference.id.desc()).limit(_LIMIT)):
        what = "analysis failed" if inference.state == WorkState.FAILED else "analysis will be tried again"
        yield Problem(instance.sop_instance_uid, what, inference.error)
    for result in session.scalars(
        select(Result).where(Result.error != "", Result.state.in_(_OPEN)).order_by(Result.id.desc()).limit(_LIMIT)
    ):
        yield Problem(result.study.study_instance_uid, "no result of the study", result.error)
    undrawn = (
        select(Instance, Picture)
        .join(ResultImage, ResultImage.instance_id == Instance.id)
        .join(Picture, Picture.result_image_id == ResultImage.id)
        .where(Picture.error != "", Picture.state.in_(_OPEN))
    )
    for instance, picture in session.execute(undrawn.order_by(Picture.id.desc()).limit(_LIMIT)):
        what = "no pictures for the page" if picture.state == WorkState.FAILED else "pictures will be tried again"
        yield Problem(instance.sop_instance_uid, what, picture.error)
    conflicts = select(Reception).where(Reception.outcome == Outcome.QUARANTINED).order_by(Reception.id.desc())
    for reception in session.scalars(conflicts.limit(_LIMIT)):
        yield Problem(reception.sop_instance_uid, "in quarantine", reception.detail)
    aside = select(Instance).where(~Instance.selected, Instance.route_reason != RouteReason.OWN_OBJECT)
    for instance in session.scalars(aside.order_by(Instance.id.desc()).limit(_LIMIT)):
        yield Problem(instance.sop_instance_uid, "set aside", instance.route_explanation)
