"""A browser, as far as the page can tell: cookies, the headers that browsers send, the token in its requests."""

from typing import Any

from starlette.testclient import TestClient

from node.page import sessions

HERE = ("127.0.0.1", 50000)
_HTML = "text/html,application/xhtml+xml,*/*;q=0.8"


class Browser(TestClient):
    """Follows no redirect; as a browser asks for pages, and sends the token with what changes something."""

    def __init__(self, app: Any, base_url: str = "http://localhost:8080", client: tuple[str, int] = HERE) -> None:
        super().__init__(
            app, base_url=base_url, client=client, follow_redirects=False, raise_server_exceptions=False,
            headers={"Accept": _HTML},
        )  # fmt: skip

    @property
    def token(self) -> str:
        """The token of the forms that this browser was given; "" before its first page."""
        for name in (sessions.SESSION_COOKIE, sessions.FORM_COOKIE):
            secret = self.cookies.get(f"__Host-{name}") or self.cookies.get(name)
            if secret:
                return sessions.csrf_token(secret)
        return ""

    def send_form(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> Any:
        """POST of a form of the page, with its token."""
        return self.post(path, data={"csrf_token": self.token, **fields}, headers=headers)

    def send_json(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """What a script of the page sends."""
        return self.request(method, path, json=body, headers={"X-CSRF-Token": self.token})

    def log_in(self, name: str, password: str, following: str = "/") -> Any:
        """The login form, filled in and sent."""
        self.get("/login")
        return self.send_form("/login", name=name, password=password, next=following)
