"""The queue carries hints in both modes, and the sweep makes up for every one that is lost."""

import sys
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from node.ledger import Ledger, now
from node.object_store import FolderObjectStore
from node.queue import ANALYSIS, TRAINING, Publisher, delivery_queue, empty_file_broker
from node.sweep import Sweep
from schemas.settings import FolderDestination, Settings
from schemas.tables import Inference
from tests.conftest import Mode
from tests.node.bundles import activated
from tests.support.processes import Running, wait_for

_SERVE = """
import sys, pathlib
from node.object_store import FolderObjectStore
from node.queue import ANALYSIS, make_celery, run_worker
from schemas.settings import Settings
app = make_celery(Settings(home=sys.argv[1], broker_url=sys.argv[2]))
seen = pathlib.Path(sys.argv[1]) / "seen"
def task():
    with seen.open("a") as stream:
        stream.write("x")
app.task(task, name=ANALYSIS)
run_worker(app, [ANALYSIS], 2, "test")
"""


@pytest.fixture
def settings(mode: Mode, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path, broker_url=mode.broker_url(), destinations=[FolderDestination(name="out", path=tmp_path)]
    )


def test_a_worker_receives_every_hint(settings: Settings, tmp_path: Path) -> None:
    worker = Running([sys.executable, "-c", _SERVE, str(tmp_path), settings.broker_url], tmp_path / "worker.log")
    try:
        publisher = Publisher(settings)
        seen = tmp_path / "seen"
        for number in range(1, 21):
            publisher.hint(ANALYSIS)
            wait_for("the hint arrives", lambda n=number: seen.exists() and len(seen.read_text()) == n, 30)  # type: ignore[misc]
        assert publisher.waiting(ANALYSIS) == 0
    finally:
        worker.stop()


def test_the_sweep_publishes_what_is_due_and_does_not_pile_up(
    ledger: Ledger, settings: Settings, tmp_path: Path
) -> None:
    digest = activated(ledger)

    def change(session: Session) -> None:
        for number in range(10):
            session.add(
                Inference(
                    pixel_digest=str(number),
                    bundle_digest=digest,
                    file_sha256="f",
                    due_at=now() + (0 if number else 3600),
                    created_at=now(),
                )
            )

    ledger.write(change)
    publisher = Publisher(settings)
    sweep = Sweep(ledger, FolderObjectStore(tmp_path / "objects"), publisher, settings)
    for _ in range(5):
        due = sweep.once()
        wait_for("the hints are published", lambda: publisher.waiting(ANALYSIS) >= 4)
    assert due == {ANALYSIS: 9, TRAINING: 0, delivery_queue("out"): 0}
    assert publisher.waiting(ANALYSIS) == 4


def test_a_broker_that_is_down_stops_nobody(tmp_path: Path) -> None:
    publisher = Publisher(Settings(home=tmp_path, broker_url="redis://127.0.0.1:1/0"))
    publisher.hint(ANALYSIS)
    assert publisher.waiting(ANALYSIS) == 0


def test_messages_of_a_killed_node_do_not_stop_the_next_start(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    publisher = Publisher(settings)
    table = tmp_path / "broker" / "control" / f"{ANALYSIS}.exchange"
    table.write_text("")  # torn by a kill -9
    Publisher(settings).hint(ANALYSIS)
    wait_for("the hint is published all the same", lambda: publisher.waiting(ANALYSIS) == 1)
    empty_file_broker(settings)
    publisher = Publisher(settings)
    assert publisher.waiting(ANALYSIS) == 0
