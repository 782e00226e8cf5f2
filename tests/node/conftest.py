"""A migrated, empty ledger on both databases, and a receiver without its process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.intake.reception import ReceptionDesk
from node.ledger.database import upgrade
from node.ledger.ledger import Ledger
from node.storage.object_store import FolderObjectStore
from schemas.settings import Settings
from tests.conftest import Mode
from tests.node.bundles import activated


@pytest.fixture(scope="module")
def sqlite_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """For tests to which the database does not matter; they share it."""
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db")
    upgrade(ledger)
    yield ledger
    ledger.close()


@pytest.fixture
def ledger(mode: Mode, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(mode.migrated(tmp_path))
    yield ledger
    ledger.close()


@pytest.fixture
def store(tmp_path: Path) -> FolderObjectStore:
    return FolderObjectStore(tmp_path / "objects")


@pytest.fixture
def desk(ledger: Ledger, store: FolderObjectStore) -> ReceptionDesk:
    """Receives for one active bundle."""
    activated(ledger)
    return ReceptionDesk(ledger, store, Settings())
