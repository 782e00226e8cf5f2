"""The page with its proxy in front of a PACS that a test writes; fixtures in conftest.py."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from starlette.testclient import TestClient

from node.ledger.database import upgrade
from node.ledger.ledger import Ledger
from node.page.app import create_page
from node.storage.object_store import FolderObjectStore
from schemas.settings import OrthancDestination, Settings

JSON = {"Accept": "application/dicom+json"}


class Page:
    """The page's application with its proxy, without a port; a browser on this host."""

    def __init__(self, folder: Path, destination: OrthancDestination | None) -> None:
        folder.mkdir()
        settings = Settings(home=folder, destinations=[destination] if destination else [])
        self.ledger = Ledger(settings.resolved_ledger_url)
        upgrade(self.ledger)
        app = create_page(settings, self.ledger, FolderObjectStore(folder / "objects"))
        self.client = TestClient(app, "http://localhost", client=("127.0.0.1", 50000), raise_server_exceptions=False)
        self.client.__enter__()

    def close(self) -> None:
        self.client.__exit__()
        self.ledger.close()


Answer = Callable[[BaseHTTPRequestHandler], None]


class Pacs:
    """An HTTP server whose answer the test writes; it keeps what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        pacs = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                pacs.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer(self)

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *arguments: object) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def reply(handler: BaseHTTPRequestHandler, status: int, content: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(content)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)
