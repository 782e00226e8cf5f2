"""`chexnode deliveries`: what has not reached its destination, and what an operator can do about it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.markup import escape
from sqlalchemy import ColumnElement, case, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from node.delivery.breaker import try_now
from node.delivery.withdrawal import drop, replaced
from node.ledger.ledger import now, open_ledger
from schemas.destination_tables import Breaker, DestinationState
from schemas.settings import load_settings
from schemas.tables import Commitment, Delivery, DeliveryState, Result, StoredObject, Study

#: What somebody may have to look at.
_OPEN = (DeliveryState.DUE, DeliveryState.LEASED, DeliveryState.FAILED)


@dataclass(frozen=True)
class DeliveryLine:
    """A delivery as an operator sees it; times are seconds since 1970-01-01 UTC."""

    id: int
    destination: str
    state: str
    object: str
    study_instance_uid: str
    sop_instance_uid: str
    version: int
    attempts: int
    created_at: float
    #: When it is tried next; None when it is not.
    due_at: float | None
    commitment: str
    #: Why it is not there, or how it was taken.
    words: str


@dataclass(frozen=True)
class LeftAlone:
    """A destination whose breaker is open."""

    destination: str
    opened_at: float
    probe_at: float
    error: str


@click.group("deliveries")
def deliveries_group() -> None:
    """List what has not reached its destination; try again or drop it."""


@deliveries_group.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in DeliveryState]),
    help="Only these states; by default due, leased and failed.",
)
@click.option("--destination", help="Only this destination.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="The latest so many.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def list_command(states: Sequence[str], destination: str | None, limit: int, as_json: bool) -> None:
    """Show deliveries with their state and reason, those that were given up first."""
    ledger = open_ledger(load_settings())
    with ledger.read() as session:
        left_alone = _left_alone(session, destination)
        lines = _lines(session, states or _OPEN, destination, limit)
    if as_json:
        document = {
            "left_alone": [asdict(each) for each in left_alone],
            "deliveries": [asdict(each) for each in lines],
        }
        click.echo(json.dumps(document, indent=2))
        return
    console = Console()
    for each in left_alone:
        console.print(
            f"[bold red]{each.destination}[/] is left alone since {_clock(each.opened_at)}, tried again at "
            f"{_clock(each.probe_at)}: {escape(each.error)}",
            soft_wrap=True,
        )
    if not lines:
        console.print("nothing waits and nothing was given up" if not states else "none")
        return
    for line in lines:
        _print(console, line)


@deliveries_group.command("retry")
@click.argument("ids", nargs=-1, type=int, metavar="[ID]...")
@click.option("--destination", help="Everything of this destination that waits or was given up.")
@click.option("--all", "everything", is_flag=True, help="Everything that waits or was given up.")
def retry_command(ids: Sequence[int], destination: str | None, everything: bool) -> None:
    """Try deliveries again at once: those with an ID also when they were dropped.

    The time that they may take begins anew.
    """
    if (bool(ids), destination is not None, everything).count(True) != 1:
        raise click.UsageError("Name deliveries by their ID, or give --destination NAME, or --all.")
    if ids:
        which: ColumnElement[bool] = Delivery.id.in_(ids)
        states = [DeliveryState.DUE, DeliveryState.FAILED, DeliveryState.WITHDRAWN]
    else:
        which = Delivery.destination == destination if destination is not None else Delivery.id.is_not(None)
        states = [DeliveryState.DUE, DeliveryState.FAILED]
    ledger = open_ledger(load_settings())
    taken_up = ledger.write(lambda session: _take_up(session, which, states))
    click.echo(f"{taken_up} due again")
    if ids and not taken_up:
        raise click.ClickException("None of them waits, was given up or was dropped (chexnode deliveries list).")


@deliveries_group.command("drop")
@click.argument("ids", nargs=-1, type=int, required=True, metavar="ID...")
@click.option("--why", required=True, help="Kept with the delivery, and shown.")
def drop_command(ids: Sequence[int], why: str) -> None:
    """Send these deliveries no more. What is under way at this moment or done is left as it is."""
    ledger = open_ledger(load_settings())
    dropped = ledger.write(lambda session: drop(session, list(ids), why))
    click.echo(f"{dropped} dropped")
    if not dropped:
        raise click.ClickException("None of them waits or was given up (chexnode deliveries list).")


def _lines(session: Session, states: Sequence[str], destination: str | None, limit: int) -> list[DeliveryLine]:
    wanted: list[ColumnElement[bool]] = [Delivery.state.in_(states)]
    if destination is not None:
        wanted.append(Delivery.destination == destination)
    rows = session.execute(
        select(Delivery, StoredObject, Result, Study)
        .join(StoredObject, Delivery.object_id == StoredObject.id)
        .join(Result, Delivery.result_id == Result.id)
        .join(Study, Result.study_id == Study.id)
        .where(*wanted)
        .order_by(case((Delivery.state == DeliveryState.FAILED, 0), else_=1), Delivery.id.desc())
        .limit(limit)
    ).all()
    return [
        DeliveryLine(
            id=delivery.id,
            destination=delivery.destination,
            state=delivery.state,
            object=stored.kind.replace("_", " "),
            study_instance_uid=study.study_instance_uid,
            sop_instance_uid=stored.sop_instance_uid,
            version=result.version,
            attempts=delivery.attempts,
            created_at=delivery.created_at,
            due_at=delivery.due_at if delivery.state == DeliveryState.DUE else None,
            commitment=delivery.commitment,
            words=delivery.commitment_error or delivery.error or delivery.answer,
        )
        for delivery, stored, result, study in rows
    ]


def _print(console: Console, line: DeliveryLine) -> None:
    """Lines of their own: a table of UIDs and reasons fits into no terminal."""
    style = "bold red" if line.state == DeliveryState.FAILED else "bold"
    committed = "" if line.commitment == Commitment.NOT_WANTED else f", commitment {line.commitment.replace('_', ' ')}"
    upcoming = "" if line.due_at is None else f", next {_clock(line.due_at)}"
    tried = f"tried {line.attempts} {'time' if line.attempts == 1 else 'times'} since {_clock(line.created_at)}"
    for text in (
        f"{line.id:>6}  [{style}]{line.state}[/]{committed}: {line.object} to {line.destination}, {tried}{upcoming}",
        f"        study {line.study_instance_uid}, version {line.version}",
        *([f"        {escape(line.words)}"] if line.words else []),
    ):
        console.print(text, soft_wrap=True, highlight=False)


def _left_alone(session: Session, destination: str | None) -> list[LeftAlone]:
    opened = select(DestinationState).where(DestinationState.breaker == Breaker.OPEN)
    if destination is not None:
        opened = opened.where(DestinationState.destination == destination)
    return [
        LeftAlone(each.destination, each.opened_at or 0.0, each.probe_at or 0.0, each.error)
        for each in session.scalars(opened.order_by(DestinationState.destination))
    ]


def _take_up(session: Session, which: ColumnElement[bool], states: Sequence[str]) -> int:
    """Make them due, unless a later version took their place, and ask again for commitments that were given up."""
    for name in session.scalars(select(Delivery.destination).where(which).distinct()).all():
        try_now(session, name)
    sent_again = session.execute(
        update(Delivery)
        .where(which, Delivery.state.in_(states), ~replaced())
        .values(state=DeliveryState.DUE, attempts=0, due_at=now(), taken_up_at=now(), commitment_attempts=0)
        .execution_options(synchronize_session=False)
    )
    asked_again = session.execute(
        update(Delivery)
        .where(which, Delivery.state == DeliveryState.DONE, Delivery.commitment == Commitment.FAILED)
        # From now on, as if it had been sent now.
        .values(commitment=Commitment.WANTED, commitment_due_at=now(), commitment_attempts=0, finished_at=now())
        .execution_options(synchronize_session=False)
    )
    assert isinstance(sent_again, CursorResult) and isinstance(asked_again, CursorResult)
    return sent_again.rowcount + asked_again.rowcount


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
