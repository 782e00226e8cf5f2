"""A node with a destination that is looked at from outside, on both databases; no part of it runs."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.ledger.database import upgrade
from node.ledger.ledger import Ledger, now
from node.monitoring.alerts import Alert, AlertName, examine
from schemas.settings import FolderDestination, Settings, StorageSettings
from schemas.tables import Base, Inference, WorkState
from tests.conftest import Mode


@dataclass
class Watched:
    """The settings of a node and its ledger."""

    settings: Settings
    ledger: Ledger

    def alerts(self) -> list[Alert]:
        return examine(self.settings).alerts

    def add_inference(self, state: WorkState, due_seconds_ago: float = 0.0) -> None:
        """An image that is to be analysed, of no study."""
        digest = secrets.token_hex(32)
        self.ledger.write(
            lambda session: session.add(
                Inference(
                    pixel_digest=digest,
                    bundle_digest="b",
                    file_sha256=digest,
                    state=state,
                    due_at=now() - due_seconds_ago,
                    created_at=now() - due_seconds_ago,
                )
            )
        )

    def names(self) -> set[AlertName]:
        return {each.name for each in self.alerts()}


@pytest.fixture(scope="module")
def migrated(mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    ledger = Ledger(mode.ledger_url() or f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db")
    upgrade(ledger)
    yield ledger
    ledger.close()


@pytest.fixture
def watched(mode: Mode, migrated: Ledger, tmp_path: Path) -> Watched:
    """The node with an empty ledger."""
    with migrated.engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    settings = Settings(
        home=tmp_path,
        ledger_url=migrated.url,
        broker_url=mode.broker_url(),
        # How full the host's disk is does not matter here.
        storage=StorageSettings(minimum_free_bytes=0),
        destinations=[FolderDestination(name="pacs", path=tmp_path / "pacs")],
    )
    return Watched(settings, migrated)
