"""Migrations: up, down and up again, on both databases, and the result is what the tables say."""

import threading

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from node.database import current_revision, downgrade, head_revision, upgrade
from node.ledger import Ledger
from schemas.tables import Base


def test_the_migrated_ledger_has_exactly_the_tables_of_the_code(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    assert current_revision(ledger) == head_revision()


def test_down_and_up_again(ledger: Ledger) -> None:
    downgrade(ledger, "base")
    assert set(inspect(ledger.engine).get_table_names()) <= {"alembic_version"}
    upgrade(ledger)
    assert current_revision(ledger) == head_revision()


def test_several_processes_may_start_at_once(ledger: Ledger) -> None:
    downgrade(ledger, "base")
    errors: list[Exception] = []

    def start() -> None:
        try:
            upgrade(Ledger(ledger.url))
        except Exception as error:  # noqa: BLE001 - handed to the assertion
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert current_revision(ledger) == head_revision()
