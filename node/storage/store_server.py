"""`chexnode store`: this host's object store over HTTP, for workers, delivery, pages and nodes on other hosts.

    GET, HEAD  /objects/SHA256         an object
    PUT        /objects/SHA256         keep it: 201 when it is on the disk, 422 when it is not what its name says, 507
    GET        /bundles/DIGEST         the files of a registered model bundle, a JSON list of relative paths
    GET        /bundles/DIGEST/PATH    one of them

Every request has the shared secret as its bearer token (RFC 6750). An object is never changed and never removed here.
"""

import hashlib
import hmac
import re
import signal
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import TypeAlias

import click
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from node.bundles.files import bundle_path
from node.ledger.database import ready_ledger
from node.monitoring.logs import configure_logs_of
from node.monitoring.presence import present
from node.storage.object_store import FolderObjectStore
from node.storage.stores import own_store, store_secret
from node.supervisor import check_port
from schemas.errors import OutOfResourcesError, SettingsError
from schemas.settings import Settings, load_settings

log = structlog.get_logger()

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Written to the disk at a time.
_CHUNK_BYTES = 1 << 20
_GOODBYE_SECONDS = 5
#: Requests at a time; more are answered 503 and come again.
_REQUESTS = 256


def create_store_server(store: FolderObjectStore, home: Path, secret: str) -> ASGIApp:
    """The server over this folder, as one ASGI application."""
    server = _Server(store, home)
    app = Starlette(
        routes=[
            Route("/objects/{sha256}", server.get_object, methods=["GET", "HEAD"]),
            Route("/objects/{sha256}", server.put_object, methods=["PUT"]),
            Route("/bundles/{digest}", server.list_bundle),
            Route("/bundles/{digest}/{name:path}", server.get_bundle_file),
        ]
    )
    return _Guard(app, secret)


@click.command("store")
def store_command() -> None:
    """Serve this host's object store to other hosts until SIGTERM (settings: [store])."""
    settings = load_settings()
    configure_logs_of(settings)
    if not settings.store.host:
        raise SettingsError("The object store is not served: set store.host to the address to serve it on.")
    secret = store_secret(settings)
    check_port(settings.store.host, settings.store.port, "The object store", "CHEXNODE_STORE__PORT (store.port)")
    ledger = ready_ledger(settings)
    app = create_store_server(own_store(settings), settings.home, secret)
    # uvicorn stops at the signal and then raises it again: this process has still to say goodbye.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with present(ledger, "store"):
        uvicorn.Server(_configuration(settings, app)).run()


class _Guard:
    """Answers 401 to everybody who does not know the secret, before anything is read."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._expected = f"Bearer {secret}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            # Takes as long for a secret that is nearly right.
            if not hmac.compare_digest(given, self._expected):
                log.warning("request without the store's secret", address=(scope.get("client") or ("?",))[0])
                headers = {"WWW-Authenticate": "Bearer", "Connection": "close"}
                await PlainTextResponse("", HTTPStatus.UNAUTHORIZED, headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _File(FileResponse):
    chunk_size = _CHUNK_BYTES


class _Server:
    def __init__(self, store: FolderObjectStore, home: Path) -> None:
        self._store = store
        self._home = home

    async def get_object(self, request: Request) -> Response:
        sha256 = request.path_params["sha256"]
        if not _SHA256.fullmatch(sha256) or not self._store.holds(sha256):
            return Response(status_code=HTTPStatus.NOT_FOUND)
        return _File(self._store.path(sha256), media_type="application/octet-stream")

    async def put_object(self, request: Request) -> Response:
        sha256 = request.path_params["sha256"]
        if not _SHA256.fullmatch(sha256):
            return Response(status_code=HTTPStatus.NOT_FOUND)
        try:
            return Response(status_code=await self._receive(request, sha256))
        except OutOfResourcesError as error:
            log.error("object not stored", object=sha256, error=error)
            return Response(status_code=HTTPStatus.INSUFFICIENT_STORAGE)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it

    async def _receive(self, request: Request, sha256: str) -> HTTPStatus:
        digest, pending = hashlib.sha256(), bytearray()
        with self._store.draft() as draft:
            with draft.open("wb") as stream:
                async for chunk in request.stream():
                    digest.update(chunk)
                    pending += chunk
                    if len(pending) >= _CHUNK_BYTES:
                        await run_in_threadpool(stream.write, bytes(pending))
                        pending.clear()
                await run_in_threadpool(stream.write, bytes(pending))
            if digest.hexdigest() != sha256:
                log.warning("object refused: it is not what its name says", object=sha256)
                return HTTPStatus.UNPROCESSABLE_ENTITY
            await run_in_threadpool(self._store.adopt, draft, sha256)
        return HTTPStatus.CREATED

    async def list_bundle(self, request: Request) -> Response:
        folder = self._bundle(request)
        if folder is None:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        return JSONResponse(sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()))

    async def get_bundle_file(self, request: Request) -> Response:
        folder = self._bundle(request)
        if folder is None:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        path = (folder / request.path_params["name"]).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            return Response(status_code=HTTPStatus.NOT_FOUND)
        return _File(path, media_type="application/octet-stream")

    def _bundle(self, request: Request) -> Path | None:
        digest = request.path_params["digest"]
        folder = bundle_path(self._home, digest)
        return folder if _SHA256.fullmatch(digest) and folder.is_dir() else None


def _configuration(settings: Settings, app: ASGIApp) -> uvicorn.Config:
    store = settings.store
    return uvicorn.Config(
        app,
        host=store.host,
        port=store.port,
        ssl_certfile=store.tls_certificate,
        ssl_keyfile=store.tls_key,
        server_header=False,
        access_log=False,
        log_config=None,
        limit_concurrency=_REQUESTS,
        timeout_graceful_shutdown=_GOODBYE_SECONDS,
    )
