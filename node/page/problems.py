"""Answers to requests that come to nothing: a page for people, problem JSON (RFC 9457) for programs.

Neither holds a traceback, and of the server's own faults (5xx) neither holds details: they may name a patient. That the
page is busy is no fault, and says with what.
"""

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import structlog
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from node.page.headers import protect
from node.page.rendering import render
from schemas.errors import ChexnodeError, LoginFailedError, LoginNeededError, PageBusyError, TooManyLoginsError

log = structlog.get_logger()

LOGIN_PATH = "/login"
_API = "/api/"
_EVENTS = "/events"
_BUSY_SECONDS = 5


def answer(request: Request, error: Exception) -> Response:
    """The response to `request` that stands for `error`."""
    if isinstance(error, LoginNeededError):
        return _to_login(request, error)
    if isinstance(error, ChexnodeError):
        return _chexnode_problem(request, error)
    if isinstance(error, HTTPException):
        return problem(request, error.status_code, str(error.detail), headers=error.headers)
    if isinstance(error, RequestValidationError):
        # Without what was given: it may be a name or a password.
        wrong = "; ".join(f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors())
        return problem(request, 422, "The request is not understood.", wrong)
    if isinstance(error, SQLAlchemyError):
        log.error("ledger does not answer", exc_info=error)
        return problem(request, 503, "The ledger does not answer.", headers={"Retry-After": str(_BUSY_SECONDS)})
    return problem(request, 500, "Something went wrong here.")


def answer_to_crash(request: Request, error: Exception) -> Response:
    """The response to what nobody foresaw; whoever runs the server logs the traceback."""
    response = answer(request, error)
    # It is sent from outside of everything that adds them.
    protect(request.scope, response.headers)
    return response


def problem(
    request: Request, status: int, title: str, detail: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """An answer of this status that says what is the matter, in the form that the request asks for."""
    response: Response
    if wants_page(request):
        response = render(request, "refused.html", status, problem=title, advice=detail)
    else:
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        response = JSONResponse(body, status, media_type="application/problem+json")
    response.headers.update(headers or {})
    return response


def wants_page(request: Request) -> bool:
    """Whether a person waits for a page: not for /api, pictures, event streams, or parts that htmx puts in."""
    path = request.scope["path"]
    if path.startswith(_API) or path == _EVENTS or "hx-request" in request.headers:
        return False
    wanted = request.headers.get("sec-fetch-dest")
    if wanted is not None:
        return wanted == "document"
    accepted = request.headers.get("accept", "*/*")
    return "text/html" in accepted or accepted == "*/*"


def safe_path(address: str) -> str:
    """`address` when it is a path of this page with its query, else "/": nobody is led to another site (CWE-601)."""
    strange = any(char <= " " or char in "\\\x7f" for char in address)
    if strange or not address.startswith("/") or address.startswith("//"):
        return "/"
    return "/" if urlsplit(address).path in (LOGIN_PATH, "/logout") else address


def login_address(path: str) -> str:
    """Where to log in and then go on to `path`."""
    return LOGIN_PATH if path == "/" else f"{LOGIN_PATH}?{urlencode({'next': path})}"


def _to_login(request: Request, error: LoginNeededError) -> Response:
    if "hx-request" in request.headers:
        shown = _shown_path(request.headers.get("hx-current-url", ""))
        return problem(request, 401, str(error), headers={"HX-Redirect": login_address(shown)})
    if wants_page(request):
        asked = quote(request.scope["path"]), request.scope["query_string"].decode("latin-1")
        path = _with_query(*asked) if request.method in ("GET", "HEAD") else "/"
        return RedirectResponse(login_address(path), HTTPStatus.SEE_OTHER)
    return problem(request, 401, str(error))


def _shown_path(address: str) -> str:
    """The page that is open in the browser, as htmx says."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "/"
    return _with_query(parts.path, parts.query)


def _with_query(path: str, query: str) -> str:
    # The query is written anew, so that nothing but characters of an address is in it.
    query = urlencode(parse_qsl(query, keep_blank_values=True))
    return safe_path(path + (f"?{query}" if query else ""))


def _chexnode_problem(request: Request, error: ChexnodeError) -> Response:
    sentence = (type(error).__doc__ or "").strip().split("\n")[0]
    headers = {"Retry-After": str(_BUSY_SECONDS)} if error.retryable else {}
    if isinstance(error, TooManyLoginsError):
        headers = {"Retry-After": str(error.wait_seconds)}
    if error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, PageBusyError):
        log.error("request failed", error=type(error).__name__, route=_route(request), exc_info=error)
        return problem(request, error.http_status, sentence, headers=headers)
    if not isinstance(error, LoginFailedError | TooManyLoginsError):
        log.info("request refused", error=type(error).__name__, route=_route(request))
    return problem(request, error.http_status, sentence, error.detail, headers)


def _route(request: Request) -> str:
    """The route's pattern, not the address: that may hold what was searched for."""
    return getattr(request.scope.get("route"), "path", "")
