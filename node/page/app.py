"""The page as one ASGI application; run by `chexnode page`, driven by the tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from node.ledger.ledger import Ledger
from node.monitoring.watch import Watch
from node.page import api, checks, events, pacs_proxy, quarantine, study, viewer, worklist
from node.page.context import Page
from node.page.notice import NoticeBoard
from node.page.rendering import FOLDER
from node.page.security import install_security
from node.storage.object_store import ObjectStore
from schemas.identity import software_version
from schemas.settings import Settings


def create_page(settings: Settings, ledger: Ledger, store: ObjectStore) -> FastAPI:
    """The page over this ledger and object store."""
    app = FastAPI(
        title="CheXNode",
        version=software_version(),
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=_lifespan,
    )
    app.state.page = Page(settings, ledger, store)
    app.state.notice_board = NoticeBoard(ledger)
    app.state.watcher = events.Watcher(ledger)
    app.state.watch = Watch(settings)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    for each in (worklist, study, checks, quarantine, events, api, viewer, pacs_proxy):
        app.include_router(each.routes)
    install_security(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    watcher: events.Watcher = app.state.watcher
    watcher.start()
    try:
        yield
    finally:
        watcher.stop()
