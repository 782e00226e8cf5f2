"""Requests that another site makes a visitor's browser send (OWASP ASVS 5.0, 3.5; cross-site request forgery)."""

import hmac
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.types import Message, Receive

from schemas.errors import RefusedError, RequestTooLargeError

TOKEN_HEADER = "x-csrf-token"
TOKEN_FIELD = "csrf_token"

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
#: The page's forms hold a few words.
_FORM_BYTES = 64 * 1024
_FORM_FIELDS = 100
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_safe(request: Request) -> bool:
    """Whether the method changes nothing (RFC 9110 9.2.1). Anything unknown is not safe."""
    return request.method in _SAFE_METHODS


def check_site(request: Request) -> None:
    """Raise RefusedError for what another site sends: anything but a link to a page that somebody follows.

    Sec-Fetch-Site (W3C Fetch Metadata) decides where the browser sends it; Origin (RFC 6454) where not, and only for
    what changes something, since links carry none. A program sends neither.
    """
    site = request.headers.get("sec-fetch-site")
    if site is None:
        if not is_safe(request) and not _is_own_origin(request):
            raise RefusedError("It came from another site.")
        return
    followed_link = (
        request.method in ("GET", "HEAD")
        and request.headers.get("sec-fetch-mode") == "navigate"
        and request.headers.get("sec-fetch-dest") == "document"
    )
    if site not in ("same-origin", "none") and not followed_link:
        raise RefusedError("It came from another site.")


async def check_token(request: Request, token: str) -> Receive:
    """Raise RefusedError unless the request brings `token`; returns where to read the request from now on.

    The token is looked for in the header X-CSRF-Token, else in the field csrf_token of a URL-encoded form.
    """
    given = request.headers.get(TOKEN_HEADER)
    receive = request.receive
    if given is None and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        body = await read_small(request)
        receive = replaying(body, request.receive)
        given = _field(body)
    if not token or not hmac.compare_digest((given or "").encode(), token.encode()):
        raise RefusedError("The form is out of date: load the page again. The browser has to allow cookies.")
    return receive


async def read_small(request: Request) -> bytes:
    """The request's body. Raises RequestTooLargeError before more than a form's worth was kept."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _FORM_BYTES:
            raise RequestTooLargeError
    return body


def replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` for somebody who wants to read `body` again."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _field(body: bytes) -> str | None:
    try:
        fields = parse_qs(body.decode("latin-1"), max_num_fields=_FORM_FIELDS)
    except ValueError as error:
        raise RequestTooLargeError("It has too many fields.") from error
    values = fields.get(TOKEN_FIELD, [])
    return values[0] if len(values) == 1 else None


def _is_own_origin(request: Request) -> bool:
    origin = request.headers.get("origin")
    if origin is None:
        return True
    theirs, ours = _place(origin), _place(f"{request.url.scheme}://{request.headers.get('host', '')}")
    return theirs is not None and theirs == ours


def _place(origin: str) -> tuple[str, str | None, int | None] | None:
    """Scheme, host and port; None for what is none of these ("null", which privacy modes and sandboxes send)."""
    try:
        parts = urlsplit(origin)
        place = (parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme))
    except ValueError:
        return None
    return place if parts.hostname else None
