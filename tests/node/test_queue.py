"""The queue carries hints on every broker, and the sweep makes up for every one that is lost."""

import sys
from pathlib import Path

import pytest
import redis
from sqlalchemy.orm import Session

from node.ledger.database import upgrade
from node.ledger.ledger import Ledger, now
from node.queue import ANALYSIS, TRAINING, Publisher, delivery_queue, empty_file_broker, make_celery
from node.storage.object_store import FolderObjectStore
from node.sweep import Sweep
from schemas.settings import FolderDestination, Settings
from schemas.tables import Inference
from tests.node.bundles import activated
from tests.support.processes import Running, wait_for

_SERVE = """
import sys, pathlib
from node.storage.object_store import FolderObjectStore
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


@pytest.fixture(params=["files", "redis", "rabbitmq"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    broker_url = ""
    if request.param == "redis":
        broker_url = request.getfixturevalue("redis_server").database()
    elif request.param == "rabbitmq":
        broker_url = request.getfixturevalue("rabbitmq").url()
    return Settings(home=tmp_path, broker_url=broker_url, destinations=[FolderDestination(name="out", path=tmp_path)])


def test_a_worker_receives_every_hint_also_after_the_broker_was_emptied(settings: Settings, tmp_path: Path) -> None:
    worker = Running([sys.executable, "-c", _SERVE, str(tmp_path), settings.broker_url], tmp_path / "worker.log")
    try:
        publisher = Publisher(settings)
        seen = tmp_path / "seen"

        def arrives(number: int) -> None:
            publisher.hint(ANALYSIS)
            wait_for("the hint arrives", lambda: seen.exists() and len(seen.read_text()) == number, 90)

        def hinted_until_seen() -> bool:
            publisher.hint(ANALYSIS)
            return len(seen.read_text()) > 10

        for number in range(1, 11):
            arrives(number)
        assert publisher.waiting(ANALYSIS) == 0
        _empty(settings)
        # As the sweep does: what is published while the worker finds its queue again may be lost.
        wait_for("hints arrive again", hinted_until_seen, 30, every=0.2)
    finally:
        worker.stop()


def _empty(settings: Settings) -> None:
    """Somebody removes everything from the broker."""
    if settings.broker_url.startswith("redis"):
        redis.Redis.from_url(settings.broker_url).flushdb()
    elif settings.broker_url:
        app = make_celery(settings)
        with app.connection_for_write() as connection:
            app.amqp.queues[ANALYSIS](connection.default_channel).delete()
    else:
        for folder in ("messages", "control"):
            for path in (settings.home / "broker" / folder).iterdir():
                path.unlink()


def test_the_sweep_publishes_what_is_due_and_does_not_pile_up(settings: Settings, tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    upgrade(ledger)
    digest = activated(ledger)

    def change(session: Session) -> None:
        for number in range(10):
            session.add(
                Inference(
                    pixel_digest=str(number),
                    bundle_digest=digest,
                    file_sha256="f",
                    due_at=now() + (0 if number else 300),
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
    if settings.broker_url:
        _empty(settings)
    ledger.close()


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
