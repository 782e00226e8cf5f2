"""The page over a migrated, empty ledger, on both databases; no port is opened."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI

from node.database import upgrade
from node.ledger import Ledger
from node.object_store import FolderObjectStore
from node.page import accounts
from node.page.app import create_page
from schemas.settings import PageSettings, Settings
from schemas.tables import Role
from tests.conftest import Mode
from tests.page.browser import HERE, Browser
from tests.support.processes import wait_for

#: Of every account that the tests make.
PASSWORD = "a tube above the carina"


@dataclass
class ServedPage:
    """The application with what it stands on."""

    app: FastAPI
    settings: Settings
    ledger: Ledger
    store: FolderObjectStore

    def browser(self, base_url: str = "http://localhost:8080", address: str = HERE[0]) -> Browser:
        """A browser at `address` that knows the page as `base_url`; without accounts it is let in as it is."""
        return Browser(self.app, base_url, (address, 50000))

    def add_account(self, name: str, role: Role = Role.READER, password: str = PASSWORD) -> None:
        """Make an account, and wait until the page knows."""
        password_hash = accounts.hash_password(name, password)
        self.ledger.write(lambda session: accounts.add(session, name, password_hash, role))
        wait_for("the page has noticed the account", self.app.state.gatekeeper.accounts_exist)

    def logged_in(self, name: str, role: Role = Role.READER) -> Browser:
        """A browser on this host that is logged in as a new account."""
        self.add_account(name, role)
        browser = self.browser()
        assert browser.log_in(name, PASSWORD).status_code == 303
        return browser


@pytest.fixture
def page(mode: Mode, tmp_path: Path) -> Iterator[ServedPage]:
    """The page as it is after installation: no account, no study."""
    settings = Settings(home=tmp_path, ledger_url=mode.ledger_url(), page=PageSettings())
    ledger = Ledger(settings.resolved_ledger_url)
    upgrade(ledger)
    store = FolderObjectStore(tmp_path / "objects")
    yield ServedPage(create_page(settings, ledger, store), settings, ledger, store)
    ledger.close()
