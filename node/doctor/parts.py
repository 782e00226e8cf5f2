"""Is every part of the node there, and does the work get done?"""

import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from node.doctor.ledger import migrations
from node.doctor.reach_ledger import LedgerUnavailableError, reach_ledger
from node.doctor.verdict import Finding, Judge, Status, Subject, Verdict, failed, ok, warning
from node.ledger.ledger import Ledger, now
from node.monitoring.presence import present_processes
from schemas.settings import Settings, settings_file
from schemas.tables import Delivery, Inference, Picture, Process, Result, Study, WorkState

#: A study is done in seconds: due for longer than this, it waits for somebody who does not come.
_WAITING_SECONDS = 60.0
#: One, several, and where they stand.
_WORK = (
    ("analysis", "analyses", Inference),
    ("result", "results", Result),
    ("picture", "pictures", Picture),
    ("delivery", "deliveries", Delivery),
)


def parts_subject(settings: Settings) -> Subject:
    """Whether every role is filled, on any host."""
    roles = ["node", "worker", "delivery", "page", *(["store"] if settings.store.host else [])]

    def examine(judge: Judge) -> Iterator[Verdict]:
        try:
            with reach_ledger(settings) as ledger, ledger.read() as session:
                present = present_processes(session)
        except LedgerUnavailableError:
            yield judge("parts", _without_ledger)
            return
        for role in roles:
            if role != "delivery" or settings.destinations:
                yield judge(f"parts.{role}", lambda role=role: _part(role, present, settings))  # type: ignore[misc]
        yield judge("parts.settings", lambda: _settings(present))

    return Subject("parts", (*roles, "settings"), examine)


def work_subject(settings: Settings) -> Subject:
    """Whether due work is taken, delivered and not given up."""

    def examine(judge: Judge) -> Iterator[Verdict]:
        try:
            with reach_ledger(settings) as ledger:
                if migrations(ledger).status != Status.OK:
                    yield judge("work", _without_migrations)
                    return
                yield judge("work.waiting", lambda: _waiting(ledger, settings))
                yield judge("work.retried", lambda: _retried(ledger))
                yield judge("work.given-up", lambda: _given_up(ledger))
        except LedgerUnavailableError:
            yield judge("work", _without_ledger)

    return Subject("work", ("waiting", "retried", "given-up"), examine)


def how_to_start(role: str, present: Sequence[Process], settings: Settings) -> str:
    """What to do when nobody fills `role`."""
    logs = settings.home / "logs"
    if not present:
        return "Run chexnode up." + (f" How the last run ended: {logs}" if logs.is_dir() else "")
    log = logs / f"{role}.log"
    return f"Run chexnode {role}." + (f" How its last run ended: {log}" if log.is_file() else "")


def _without_ledger() -> Finding:
    return failed("cannot be looked up, the ledger does not answer", "First mend the ledger (ledger.answers).")


def _without_migrations() -> Finding:
    return failed(
        "cannot be looked up, the ledger's tables are of another version", "First mend the ledger (ledger.migrations)."
    )


def _part(role: str, present: list[Process], settings: Settings) -> Finding:
    found = [each for each in present if each.role == role]
    if found:
        return ok(
            ", ".join(f"process {each.process_id} on {each.host} since {_clock(each.started_at)}" for each in found)
        )
    to_do = how_to_start(role, present, settings)
    if role == "page":
        return warning("none runs: nobody sees the worklist page", to_do)
    without = {
        "node": "nothing is received",
        "worker": "nothing is analysed, what comes in waits",
        "delivery": "results wait and reach no destination",
    }
    return failed(f"none runs: {without[role]}", to_do)


def _settings(present: list[Process]) -> Finding:
    """Parts of this host that started before the settings file was last changed."""
    path = settings_file()
    if path is None:
        return ok("there is no settings file that could have changed")
    changed = path.stat().st_mtime
    older = [each for each in present if each.host == socket.gethostname() and each.started_at < changed]
    if older:
        return warning(
            f"{path} was changed at {_clock(changed)}, after {', '.join(each.role for each in older)} had started",
            "Restart them, so that they go by it.",
        )
    return ok(f"no part on this host started before {path.name} was last changed")


def _waiting(ledger: Ledger, settings: Settings) -> Finding:
    """Work that has been due for long and that nobody has claimed."""
    overdue = []
    with ledger.read() as session:
        for one, several, table in _WORK:
            due = (table.state == WorkState.DUE) & (table.due_at < now() - _WAITING_SECONDS)
            left = (table.state == WorkState.LEASED) & (table.lease_expires_at < now() - _WAITING_SECONDS)
            since = case((table.state == WorkState.LEASED, table.lease_expires_at), else_=table.due_at)
            count, oldest = session.execute(select(func.count(), now() - func.min(since)).where(due | left)).one()
            if count:
                overdue.append(f"{_count(count, one, several)}, the oldest for {_long(oldest)}")
        complete = Study.result_due_at < now() - _WAITING_SECONDS
        count, oldest = session.execute(
            select(func.count(), now() - func.min(Study.result_due_at)).where(complete)
        ).one()
        if count:
            overdue.append(f"{_count(count, 'study', 'studies')} without a result, the oldest for {_long(oldest)}")
        total = _total_due(session)
    if overdue:
        return warning(
            f"waiting for over a minute: {'; '.join(overdue)}",
            "See that worker and delivery run (parts.worker, parts.delivery); when they do, look at their logs in "
            f"{settings.home / 'logs'}, or give the node more workers.",
        )
    return ok(f"nothing has waited for over a minute; {total} due")


def _total_due(session: Session) -> int:
    return sum(
        session.scalar(select(func.count()).select_from(table).where(table.state == WorkState.DUE)) or 0
        for *_, table in _WORK
    )


def _retried(ledger: Ledger) -> Finding:
    """Work that failed and will be tried again. Reasons are not repeated: they can hold what a header holds."""
    with ledger.read() as session:
        tried = (Delivery.state == WorkState.DUE) & (Delivery.attempts > 0)
        deliveries = session.execute(
            select(Delivery.destination, func.count(), func.max(Delivery.attempts))
            .where(tried)
            .group_by(Delivery.destination)
        ).all()
        found = [
            f"{_count(count, 'delivery', 'deliveries')} to {name} (up to {most} attempts)"
            for name, count, most in deliveries
        ]
        for one, several, table in _WORK[:-1]:
            count = session.scalar(
                select(func.count()).select_from(table).where(table.state == WorkState.DUE, table.attempts > 0)
            )
            if count:
                found.append(_count(count, one, several))
    if found:
        return warning(
            f"failed and to be tried again: {', '.join(found)}",
            "chexnode db status gives the reasons; for a destination see its own checks.",
        )
    return ok("nothing failed that is to be tried again")


def _given_up(ledger: Ledger) -> Finding:
    with ledger.read() as session:
        counts = [
            (
                session.scalar(select(func.count()).select_from(table).where(table.state == WorkState.FAILED)),
                one,
                several,
            )
            for one, several, table in _WORK
        ]
    found = [_count(count, one, several) for count, one, several in counts if count]
    if found:
        return warning(
            f"given up: {', '.join(found)}",
            "chexnode db status gives the reasons; after their cause is mended chexnode db retry takes them up again.",
        )
    return ok("nothing was given up")


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def _long(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 48 else f"{hours // 24} d"
