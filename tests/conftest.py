"""Peers shared by the whole run, and the two modes of running that every chain test goes through."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.browser import chromium
from tests.support.live_node import LiveNode, orthanc_destination
from tests.support.peers import Orthanc, Postgres, RabbitMq, Redis

REAL_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@dataclass(frozen=True)
class Mode:
    """Where ledger and queue are."""

    name: str
    ledger_url: Callable[[], str]
    broker_url: Callable[[], str]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of tests that run side by side, those of one file, and all of one mode, stay together: they share peers."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        mode = callspec.params.get("mode") if callspec else None
        item.add_marker(pytest.mark.xdist_group(mode or item.location[0]))


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


@pytest.fixture(scope="session", params=["embedded", "production"])
def mode(request: pytest.FixtureRequest) -> Mode:
    """SQLite + file-system broker, and PostgreSQL + Redis: one code path, the same tests."""
    if request.param == "embedded":
        return Mode("embedded", lambda: "", lambda: "")
    postgres: Postgres = request.getfixturevalue("postgres")
    redis_server: Redis = request.getfixturevalue("redis_server")
    return Mode("production", postgres.database, redis_server.database)


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
