"""Peers shared by the whole run, and the two modes of running that every chain test goes through."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several tests at a time: the threads of one would only wait for those of another. Before anything imports torch.
    os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
from playwright.sync_api import Browser
from xdist.scheduler.loadscope import LoadScopeScheduling  # type: ignore[import-untyped]

from node.ledger.database import upgrade
from node.ledger.ledger import Ledger
from tests.support.browser import chromium
from tests.support.live_node import LiveNode, orthanc_destination
from tests.support.peers import Orthanc, Postgres, RabbitMq, Redis

MODES = ("embedded", "production")
REAL_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@dataclass(frozen=True)
class Mode:
    """Where ledger and queue are."""

    name: str
    ledger_url: Callable[[], str]
    broker_url: Callable[[], str]
    #: URL of a ledger of its own, migrated and empty; a file in the given folder, or a database.
    migrated: Callable[[Path], str]


#: Folders of long tests: what is begun last should be short, or one of those that run side by side ends long before
#: the other.
_LONG = {"viewer", "end_to_end", "training", "faults", "pictures", "backends"}


def _mode_of(nodeid: str) -> str | None:
    parameters = nodeid.partition("[")[2].rstrip("]").split("-")
    return next((mode for mode in MODES if mode in parameters), None)


class _Together(LoadScopeScheduling):  # type: ignore[misc]
    """Of tests that run side by side, those of one file, and all of one mode, stay together: they share peers.

    What pytest-xdist's own `loadgroup` would do; from pytest 9.2 on it does not see its marks.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _mode_of(nodeid) or nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a mode first, then long ones, then the others."""
    items.sort(key=lambda item: 0 if _mode_of(item.nodeid) else 1 if _LONG & set(item.path.parts) else 2)


@pytest.fixture(scope="session")
def chromium_browser() -> Iterator[Browser]:
    """One headless Chromium for the whole run; each test takes contexts of its own."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    server = RabbitMq(tmp_path_factory.mktemp("rabbitmq"))
    yield server
    server.stop()


@pytest.fixture(scope="session", params=MODES)
def mode(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mode:
    """SQLite + file-system broker, and PostgreSQL + Redis: one code path, the same tests."""
    if request.param == MODES[0]:
        file = tmp_path_factory.mktemp("migrated") / "ledger.db"
        _migrate(f"sqlite:///{file}")
        return Mode(
            "embedded", lambda: "", lambda: "", lambda folder: f"sqlite:///{copyfile(file, folder / file.name)}"
        )
    postgres: Postgres = request.getfixturevalue("postgres")
    redis_server: Redis = request.getfixturevalue("redis_server")
    template = postgres.database()
    _migrate(template)
    return Mode("production", postgres.database, redis_server.database, lambda _: postgres.database(template))


def _migrate(url: str) -> None:
    ledger = Ledger(url)
    upgrade(ledger)
    ledger.close()


@pytest.fixture(scope="session")
def live(mode: Mode, orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    """Receiver, inference worker and delivery worker, all present."""
    destination = orthanc_destination(orthanc.url, '["segmentation", "report", "secondary_capture", "rejection_note"]')
    home = tmp_path_factory.mktemp(f"node-{mode.name}")
    node = LiveNode(home, mode.ledger_url(), mode.broker_url(), destination)
    try:
        node.start("node", "worker", "delivery")
        yield node
    finally:
        node.stop()
