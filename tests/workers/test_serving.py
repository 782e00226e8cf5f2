"""The engines of a worker follow the registry: beside each other, one after the other, and again after a failure."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection, event, select

from node.bundles.activation import activate, register
from node.bundles.files import bundle_path
from node.ledger.database import upgrade
from node.ledger.ledger import Ledger, open_ledger
from node.monitoring.presence import present
from schemas.settings import Settings, WorkerSettings, WorkSettings
from schemas.tables import ServedBundle
from tests.node.bundles import retired
from tests.support.bundles import write_tiny_bundle
from tests.support.processes import wait_for
from workers.serving import Serving

IMAGE = np.zeros((64, 64), np.float32)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", worker=WorkerSettings(device="cpu"), work=WorkSettings(backoff_seconds=0.1))


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    ledger = open_ledger(settings)
    upgrade(ledger)
    yield ledger
    ledger.close()


@pytest.fixture
def serving(ledger: Ledger, settings: Settings) -> Iterator[Serving]:
    serving = Serving(ledger, settings)
    yield serving
    serving.close()


def activated(ledger: Ledger, settings: Settings, folder: Path) -> str:
    digest = register(ledger, settings.home, folder)
    ledger.write(lambda session: activate(session, digest))
    return digest


def test_the_old_version_finishes_what_is_held_while_the_new_one_serves(
    ledger: Ledger, settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    first = activated(ledger, settings, write_tiny_bundle(tmp_path / "1", "tiny", "1"))
    serving.start()
    with serving.hold() as held:
        second = activated(ledger, settings, write_tiny_bundle(tmp_path / "2", "tiny", "2", seed=1))
        wait_for("the new one is served", lambda: serving.digests() == [second])
        assert held[first].engine.run(IMAGE).by.bundle_digest == first
        with serving.hold() as now_held:
            assert now_held[second].engine.run(IMAGE).by.bundle_digest == second
    retired(ledger, "tiny")
    wait_for("nothing is served", lambda: not serving.digests())


def test_a_bundle_that_does_not_load_here_keeps_no_other_from_being_served_and_is_tried_again(
    ledger: Ledger, settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    good = activated(ledger, settings, write_tiny_bundle(tmp_path / "good", "good", "1"))
    late = activated(ledger, settings, write_tiny_bundle(tmp_path / "late", "late", "1", seed=1))
    folder = bundle_path(settings.home, late)
    shutil.move(folder, tmp_path / "away")
    serving.start()
    assert serving.digests() == [good]

    def reported() -> dict[str, tuple[str, str]]:
        with ledger.read() as session:
            return {row.bundle_digest: (row.engines, row.error) for row in session.scalars(select(ServedBundle))}

    with present(ledger, "worker") as process_id:
        serving.report_as(process_id)
        assert reported()[good][0].startswith("torch float32 on cpu")
        assert "manifest.json" in reported()[late][1]
        shutil.move(tmp_path / "away", folder)
        wait_for("it is served after all", lambda: set(serving.digests()) == {good, late})
        wait_for("the report follows", lambda: not any(error for _, error in reported().values()))
    assert reported() == {}  # a worker that is gone serves nothing


def test_a_ledger_that_takes_nothing_while_a_worker_starts_is_told_later(
    ledger: Ledger, settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    digest = activated(ledger, settings, write_tiny_bundle(tmp_path / "1", "tiny", "1"))
    serving.start()
    locked = ["OFF"]

    @event.listens_for(ledger.engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA query_only = {locked[0]}")

    with present(ledger, "worker") as process_id:
        locked[0] = "ON"
        serving.report_as(process_id)
        locked[0] = "OFF"

        def reported() -> list[str]:
            with ledger.read() as session:
                return list(session.scalars(select(ServedBundle.bundle_digest)))

        wait_for("the report is there", lambda: reported() == [digest])
