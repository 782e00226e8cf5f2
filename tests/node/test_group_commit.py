"""Changes that share a transaction: what each caller may rely on."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from node.ledger.group_commit import GroupCommit
from node.ledger.ledger import Ledger, now
from schemas.tables import Study
from tests.support.processes import wait_for


def add_study(session: Session, uid: str) -> str:
    study = Study(study_instance_uid=uid, first_received_at=now())
    study.changed_at = study.last_received_at = now()
    session.add(study)
    return uid


def broken(session: Session) -> str:
    add_study(session, "9")
    raise ValueError("it cannot be made")


class Held:
    """A group commit whose first transaction waits until everybody else has come."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.commits = GroupCommit(ledger)
        self.transactions = 0
        event.listen(ledger.engine, "commit", self._count)

    def _count(self, _: object) -> None:
        self.transactions += 1

    def run(self, pool: ThreadPoolExecutor, *changes: partial[str]) -> list[Future[str]]:
        begun, everybody = threading.Event(), threading.Event()

        def first(session: Session) -> str:
            begun.set()
            assert everybody.wait(60)
            return add_study(session, "1")

        futures = [pool.submit(self.commits.write, first)]
        assert begun.wait(60)
        futures += [pool.submit(self.commits.write, change) for change in changes]
        wait_for("everybody has come", lambda: len(self.commits._waiting) == len(changes))
        everybody.set()
        return futures

    def studies(self) -> list[str]:
        with self.ledger.read() as session:
            return list(session.scalars(select(Study.study_instance_uid).order_by(Study.study_instance_uid)))


def test_those_who_come_during_a_commit_share_the_next_one(ledger: Ledger) -> None:
    held = Held(ledger)
    with ThreadPoolExecutor(8) as pool:
        futures = held.run(pool, *(partial(add_study, uid=uid) for uid in "2345"))
        assert [future.result() for future in futures] == list("12345")
    assert held.transactions == 2
    assert held.studies() == list("12345")


def test_a_change_that_fails_takes_none_of_its_group_along(ledger: Ledger) -> None:
    held = Held(ledger)
    with ThreadPoolExecutor(8) as pool:
        futures = held.run(pool, partial(add_study, uid="2"), partial(broken), partial(add_study, uid="3"))
        assert [futures[at].result() for at in (0, 1, 3)] == list("123")
        with pytest.raises(ValueError, match="it cannot be made"):
            futures[2].result()
    assert held.studies() == list("123")
