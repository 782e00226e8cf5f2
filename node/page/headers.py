"""Headers of every response (OWASP ASVS 5.0, 3.4 and 14.3.2). A response that sets one of them itself keeps its own.

So a route or a mount that needs another policy (the viewer) sets its own Content-Security-Policy, and a picture that
never changes its own Cache-Control.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Scope, Send

from node.page.addresses import names_this_host

_POLICY = {
    "default-src": "'self'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
_FEATURES = ("camera", "display-capture", "geolocation", "microphone", "payment", "serial", "usb")
_ALWAYS = {
    "Content-Security-Policy": "; ".join(f"{directive} {sources}" for directive, sources in _POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    # Addresses hold study UIDs and what was searched for.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in _FEATURES),
}
_YEAR_SECONDS = 365 * 24 * 3600


def protect(scope: Scope, headers: MutableHeaders) -> None:
    """Add to `headers` of the response to `scope` what is missing."""
    for name, value in _ALWAYS.items():
        headers.setdefault(name, value)
    if is_static(scope["path"]):
        headers.setdefault("Cache-Control", "no-cache")
    else:
        headers.setdefault("Cache-Control", "no-store")
        # What a browser may keep is not for who logs in there next.
        headers.add_vary_header("Cookie")
    # RFC 6797 8.3: without the sub-domains, which are others'. Browsers apply it to every port of the host, so this
    # host's own name is left out: its other services (Orthanc) speak plain HTTP.
    if scope["scheme"] == "https" and not names_this_host(Headers(scope=scope)):
        headers.setdefault("Strict-Transport-Security", f"max-age={_YEAR_SECONDS}")


def protecting(scope: Scope, send: Send) -> Send:
    """`send` that adds the headers."""

    async def protected(message: Message) -> None:
        if message["type"] == "http.response.start":
            protect(scope, MutableHeaders(scope=message))
        await send(message)

    return protected


def is_static(path: str) -> bool:
    """Whether `path` is a file of the software: style, script, icon; the same for everybody."""
    return path.startswith("/static/")
