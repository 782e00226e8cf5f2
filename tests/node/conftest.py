"""A migrated, empty ledger on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.database import upgrade
from node.ledger import Ledger
from tests.conftest import Mode


@pytest.fixture
def ledger(mode: Mode, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(mode.ledger_url() or f"sqlite:///{tmp_path}/ledger.db")
    upgrade(ledger)
    yield ledger
    ledger.close()
