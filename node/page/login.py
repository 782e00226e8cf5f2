"""Logging in and out: GET and POST /login, POST /logout."""

from http import HTTPStatus

import structlog
from fastapi import APIRouter, Request
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from node.page import access_log, accounts, sessions
from node.page.addresses import address_of
from node.page.context import page_of
from node.page.problems import LOGIN_PATH, safe_path
from node.page.rendering import render
from node.page.visitor import Reader, Visitor, visitor_of
from schemas.account_tables import Account, Role
from schemas.errors import ChexnodeError, LoginFailedError, TooManyLoginsError

log = structlog.get_logger()

router = APIRouter(include_in_schema=False)

_FIELDS = ("name", "password", "next")


@router.get(LOGIN_PATH)
def login_page(request: Request) -> Response:
    """The form; whoever is logged in already goes on."""
    path = safe_path(request.query_params.get("next", "/"))
    return _go_on(path) if visitor_of(request) else _form(request, path)


@router.post(LOGIN_PATH)
async def log_in(request: Request) -> Response:
    """Check name and password, and go on to the page that was asked for."""
    form = await request.form()
    name, password, path = (value if isinstance(value := form.get(key), str) else "" for key in _FIELDS)
    path = safe_path(path)
    address = address_of(request)
    try:
        account = await request.app.state.gatekeeper.attempts.log_in(name, password, address)
        secret = await run_in_threadpool(_start, request, account, address)
    except (LoginFailedError, TooManyLoginsError) as error:
        return await run_in_threadpool(_refusal, request, error, path, name)
    response = _go_on(path)
    sessions.set_cookie(request, response, sessions.SESSION_COOKIE, secret)
    return response


@router.post("/logout")
def log_out(request: Request, visitor: Reader) -> Response:
    """End the session, and have the browser forget what it kept of it."""

    def end(session: Session) -> None:
        sessions.end(session, visitor.session)
        access_log.record(session, visitor, "logout")

    page_of(request).ledger.write(end)
    response = _go_on(LOGIN_PATH)
    sessions.delete_cookie(request, response, sessions.SESSION_COOKIE)
    # Not "storage": the choice of theme is kept there, and no patient.
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


def _start(request: Request, account: Account, address: str) -> str:
    """A new session instead of the one that the browser has, if any; returns its secret."""
    page = page_of(request)
    before = sessions.cookie(request, sessions.SESSION_COOKIE)

    def start(session: Session) -> str:
        if before:
            sessions.end(session, sessions.digest(before))
        current = accounts.find(session, account.name)
        if current is None or current.password_hash != account.password_hash:
            # Changed or removed while the password was being checked.
            raise LoginFailedError
        access_log.record(session, Visitor(account.name, Role(account.role), "", address), "login")
        return sessions.start(session, current, page.settings.page)

    secret = page.ledger.write(start)
    log.info("login", account=account.name, address=address)
    return secret


def _refusal(request: Request, error: ChexnodeError, path: str, name: str) -> Response:
    """The form again, saying what was wrong; the same for names that exist and names that do not."""
    response = _form(request, path, str(error), name, error.http_status)
    if isinstance(error, TooManyLoginsError):
        response.headers["Retry-After"] = str(error.wait_seconds)
        request.app.state.gatekeeper.note_refused(request, error)
    return response


def _form(request: Request, path: str, message: str = "", name: str = "", status: int = 200) -> Response:
    token = request.state.csrf_token
    return render(request, "login.html", status, csrf_token=token, next=path, message=message, account=name)


def _go_on(path: str) -> RedirectResponse:
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)
