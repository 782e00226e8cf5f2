"""The page over a migrated, empty ledger, on both databases: as an application, and behind a port for a browser."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import select
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from node.ledger.ledger import Ledger
from node.page import accounts
from node.page.app import create_page
from node.storage.object_store import FolderObjectStore
from schemas.account_tables import Role
from schemas.settings import PageSettings, Settings
from schemas.tables import ReadState, Study
from tests.conftest import Mode
from tests.page.browser import HERE, Browser
from tests.support.processes import free_port, wait_for

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
    settings = Settings(home=tmp_path, ledger_url=mode.migrated(tmp_path), page=PageSettings())
    ledger = Ledger(settings.resolved_ledger_url)
    store = FolderObjectStore(tmp_path / "objects")
    yield ServedPage(create_page(settings, ledger, store), settings, ledger, store)
    ledger.close()


@dataclass
class Server:
    """The page behind a port, before which a test can put a proxy that refuses the stream."""

    page: ServedPage
    url: str
    #: HTTP status that /events is answered with; None lets it through.
    refuses: int | None = None
    asked: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.asked.append(scope["path"])
            if scope["path"] == "/events" and self.refuses is not None:
                await PlainTextResponse("no", self.refuses)(scope, receive, send)
                return
        await self.page.app(scope, receive, send)

    def count(self, path: str) -> int:
        return self.asked.count(path)

    @property
    def streams(self) -> int:
        return len(self.page.app.state.watcher._listeners)

    def state(self, uid: str) -> ReadState:
        with self.page.ledger.read() as session:
            return ReadState(session.scalars(select(Study.read_state).where(Study.study_instance_uid == uid)).one())


@pytest.fixture
def server(page: ServedPage) -> Iterator[Server]:
    port = free_port()
    served = Server(page, f"http://127.0.0.1:{port}")
    runner = uvicorn.Server(
        uvicorn.Config(served, host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=2)
    )
    thread = Thread(target=runner.run, daemon=True)
    thread.start()
    wait_for("the page answers", lambda: runner.started)
    yield served
    runner.should_exit = True
    thread.join(20)
