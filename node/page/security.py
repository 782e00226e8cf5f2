"""The gate before every route of the page: who is let in, from where, and with what (docs/decisions/012-accounts.md).

Nothing is open by omission: a request that is for none of the few open addresses needs a visitor, whether its route
asks for one or not, and so does a mount. Pure ASGI, so that event streams pass through unbuffered.
"""

import time

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.page import access_log, accounts, forgery, login, monitoring, sessions
from node.page.addresses import address_of, is_loopback, is_proxied, names_this_host, origin_of_attempts
from node.page.attempts import Attempts
from node.page.basic import BasicLogins
from node.page.context import Page, page_of
from node.page.headers import is_static, protecting
from node.page.notice import NoticeBoard
from node.page.problems import LOGIN_PATH, answer, answer_to_crash, wants_page
from node.page.visitor import Visitor, visitor_of
from schemas.account_tables import Role
from schemas.errors import ChexnodeError, LoginNeededError, RefusedError

#: Requests that the page makes by itself are no click and keep nobody logged in: the event stream, and what carries
#: this header (the refresh of a list that the stream announces).
BACKGROUND_HEADER = "x-background"
_EVENTS_PATH = "/events"
_API = "/api/"
#: How long `chexnode user add` may take to be noticed.
_LOOK_SECONDS = 1.0

_NO_ACCOUNT = (
    "There is no account yet, so the page answers only browsers on the host that it runs on, called localhost, with "
    "no proxy between. To let others in, make an account on that host: chexnode user add NAME --role admin"
)
_NOT_ENCRYPTED = (
    "Patients' data and passwords cross the network encrypted only, and it came by plain HTTP. (On the host of the "
    "page itself, call it localhost.) Set tls_certificate and tls_key in the section "
    "[page] of the settings, or put a proxy in front that speaks HTTPS, sends X-Forwarded-For and X-Forwarded-Proto, "
    "and is named in trusted_proxies."
)


def install_security(app: FastAPI) -> None:
    """Put the gate before the routes of `app`, and the answers to errors behind them. Needs app.state.page."""
    app.state.gatekeeper = Gatekeeper(app.state.page)
    # The time to make it would tell the first name that does not exist.
    accounts.decoy()
    app.add_middleware(Gate)
    for error in (ChexnodeError, HTTPException, RequestValidationError, SQLAlchemyError):
        app.add_exception_handler(error, _answer_and_note)
    app.add_exception_handler(Exception, answer_to_crash)
    for routes in (monitoring.router, login.router, access_log.router):
        app.include_router(routes)


class Gatekeeper:
    """What the gate of one process remembers."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.attempts = Attempts(page)
        self.basic = BasicLogins(page, self.attempts)
        self._refusals = access_log.RefusalLog()
        self._accounts_exist = False
        self._looked_at = float("-inf")

    def accounts_exist(self) -> bool:
        """Whether anybody has an account, as of a second ago at most."""
        if time.monotonic() - self._looked_at >= _LOOK_SECONDS:
            with self.page.ledger.read() as session:
                self._accounts_exist = accounts.accounts_exist(session)
            self._looked_at = time.monotonic()
        return self._accounts_exist

    def note_refused(self, request: Request, error: ChexnodeError) -> None:
        """Write down that a request was refused, and why."""
        address, visitor = address_of(request), visitor_of(request)
        name = visitor.name if visitor else ""
        self._refusals.note(self.page, origin_of_attempts(address), address, name, str(error))


class Gate:
    """ASGI middleware around everything: decides whether a request reaches a route, and adds the headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # The page has no websockets.
            await send({"type": "websocket.close", "code": 1008})
            return
        send = protecting(scope, send)
        if is_static(scope["path"]) or scope["path"] in monitoring.OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            receive = await _admit(request)
        except ClientDisconnect:
            return
        except (ChexnodeError, SQLAlchemyError) as error:
            response = await run_in_threadpool(_answer_and_note, request, error)
            await response(scope, receive, send)
            return
        await self._app(scope, receive, _with_form_cookie(request, send))


async def _admit(request: Request) -> Receive:
    """Let a request in, with request.state.visitor and .csrf_token, or raise the error that stands for the refusal.

    Returns where its body is to be read from.
    """
    # Paths are the scope's: request.url is put together from the Host header, which the sender writes.
    gatekeeper: Gatekeeper = request.app.state.gatekeeper
    exist = await run_in_threadpool(_look, request, gatekeeper)
    _check_way(request, exist)
    forgery.check_site(request)
    by_basic = exist and _has_credentials(request)
    visitor = await _identify(request, gatekeeper, exist, by_basic)
    request.state.visitor = visitor
    if visitor is None and request.scope["path"] != LOGIN_PATH:
        raise LoginNeededError
    request.state.csrf_token = visitor.csrf_token if visitor else _form_token(request)
    receive = request.receive
    if not forgery.is_safe(request) and not by_basic:
        receive = await forgery.check_token(request, request.state.csrf_token)
        if visitor is None and receive is request.receive:
            # The token came in a header; whoever is not logged in may not send much in any case.
            receive = forgery.replaying(await forgery.read_small(request), request.receive)
    return receive


def _look(request: Request, gatekeeper: Gatekeeper) -> bool:
    """What every answer depends on, read anew from time to time: the notice, and whether anybody has an account."""
    exist = gatekeeper.accounts_exist()
    board: NoticeBoard = request.app.state.notice_board
    board.look()
    return exist


def _check_way(request: Request, accounts_exist: bool) -> None:
    """Raise RefusedError for a request that came a way on which it is not answered."""
    local = (
        is_loopback(address_of(request))
        and names_this_host(request.headers)
        and not is_proxied(request.headers, request.scope["http_version"])
    )
    if not accounts_exist and not local:
        raise RefusedError(_NO_ACCOUNT)
    if accounts_exist and not local and not sessions.is_https(request):
        raise RefusedError(_NOT_ENCRYPTED)


async def _identify(request: Request, gatekeeper: Gatekeeper, accounts_exist: bool, by_basic: bool) -> Visitor | None:
    address = address_of(request)
    if not accounts_exist:
        return Visitor("", Role.ADMIN, _form_token(request), address)
    if by_basic:
        return await gatekeeper.basic.visitor(request.headers["authorization"], address)
    secret = sessions.cookie(request, sessions.SESSION_COOKIE)
    return await run_in_threadpool(_visitor_of_session, request, secret, address) if secret else None


def _visitor_of_session(request: Request, secret: str, address: str) -> Visitor | None:
    page = page_of(request)
    digest = sessions.digest(secret)
    with page.ledger.read() as session:
        found = sessions.find(session, digest, page.settings.page)
    if found is None:
        return None
    if request.scope["path"] != _EVENTS_PATH and BACKGROUND_HEADER not in request.headers:
        sessions.note_click(page.ledger, found, page.settings.page)
    return Visitor(found.name, found.role, sessions.csrf_token(secret), address, digest)


def _has_credentials(request: Request) -> bool:
    """Whether a script calls with credentials of its own; a browser cannot be made to send this header unseen."""
    return request.scope["path"].startswith(_API) and "authorization" in request.headers


def _form_token(request: Request) -> str:
    """Token of a browser that is not logged in; "" for a program, which gets no cookie without a page."""
    secret = sessions.cookie(request, sessions.FORM_COOKIE)
    if not secret and forgery.is_safe(request) and wants_page(request):
        secret = request.state.new_form_secret = sessions.new_secret()
    return sessions.csrf_token(secret) if secret else ""


def _with_form_cookie(request: Request, send: Send) -> Send:
    secret = getattr(request.state, "new_form_secret", None)
    if secret is None:
        return send
    carrier = Response()
    sessions.set_cookie(request, carrier, sessions.FORM_COOKIE, secret)

    async def with_cookie(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).append("set-cookie", carrier.headers["set-cookie"])
        await send(message)

    return with_cookie


def _answer_and_note(request: Request, error: Exception) -> Response:
    response = answer(request, error)
    if isinstance(error, ChexnodeError) and error.http_status in (403, 429):
        gatekeeper: Gatekeeper = request.app.state.gatekeeper
        gatekeeper.note_refused(request, error)
    return response
