"""The page as one ASGI application; run by `chexnode page`, driven by the tests."""

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from node.ledger import Ledger
from node.object_store import FolderObjectStore
from node.page.context import Page
from node.page.rendering import FOLDER
from schemas.identity import software_version
from schemas.settings import Settings


def create_page(settings: Settings, ledger: Ledger, store: FolderObjectStore) -> FastAPI:
    """The page over this ledger and object store."""
    app = FastAPI(title="CheXNode", version=software_version(), docs_url=None, redoc_url=None)
    app.state.page = Page(settings, ledger, store)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    return app
