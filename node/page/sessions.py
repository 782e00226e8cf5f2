"""Sessions of people who are logged in: a random cookie whose SHA-256 is in the ledger (OWASP ASVS 5.0, chapter 7).

Who reads the ledger can neither make the cookie from it nor the token of its forms.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, not_, select, update
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection
from starlette.responses import Response

from node.ledger.ledger import Ledger, now
from node.page import accounts
from node.page.context import Page
from node.page.visitor import Visitor
from schemas.account_tables import Account, LoginSession, Role
from schemas.settings import PageSettings

SESSION_COOKIE = "chexnode_session"
#: Of a browser that is not logged in: the secret behind the token of the login form.
FORM_COOKIE = "chexnode_form"

_SECRET_BYTES = 32
#: How often the time of the last click is written.
_SEEN_SECONDS = 60.0


@dataclass(frozen=True)
class Login:
    """A session that has not ended."""

    id: int
    name: str
    role: Role
    #: Seconds since the last click that was written.
    idle_seconds: float


def new_secret() -> str:
    """What a cookie holds: 256 random bits."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def digest(secret: str) -> str:
    """What the ledger knows of a cookie: SHA-256 in hexadecimal. The secret is random, so no slow hash is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def csrf_token(secret: str) -> str:
    """The token of the forms of a cookie's owner; it does not tell the cookie."""
    return hmac.new(secret.encode(), b"csrf", hashlib.sha256).hexdigest()


def start(session: Session, account: Account, settings: PageSettings) -> str:
    """Log `account` in; returns the new cookie's secret. Sessions that have ended are cleaned up on the way."""
    session.execute(delete(LoginSession).where(not_(_lasts(settings))))
    secret = new_secret()
    session.add(LoginSession(account_id=account.id, token_sha256=digest(secret), created_at=now(), seen_at=now()))
    return secret


def end(session: Session, token_sha256: str) -> None:
    session.execute(delete(LoginSession).where(LoginSession.token_sha256 == token_sha256))


def find(session: Session, token_sha256: str, settings: PageSettings) -> Login | None:
    """The session of this cookie; None when there is none, or when it has ended."""
    row = session.execute(
        select(LoginSession.id, Account.name, Account.role, now() - LoginSession.seen_at)
        .join(Account, Account.id == LoginSession.account_id)
        .where(LoginSession.token_sha256 == token_sha256, _lasts(settings))
    ).one_or_none()
    return None if row is None else Login(row[0], row[1], Role(row[2]), row[3])


def note_click(ledger: Ledger, login: Login, settings: PageSettings) -> None:
    """Put off the idle end of a session; written once a minute at most."""
    if login.idle_seconds >= min(_SEEN_SECONDS, settings.idle_minutes * 60 / 4):
        change = update(LoginSession).where(LoginSession.id == login.id).values(seen_at=now())
        ledger.write(lambda session: session.execute(change))


def still_valid(page: Page, visitor: Visitor) -> bool:
    """Whether who was let in would still be: for streams that outlive their request. Keeps nobody logged in."""
    with page.ledger.read() as session:
        if not visitor.name:
            return not accounts.accounts_exist(session)
        if not visitor.session:
            account = accounts.find(session, visitor.name)
            return account is not None and account.role == visitor.role
        return find(session, visitor.session, page.settings.page) is not None


def cookie(connection: HTTPConnection, name: str) -> str:
    """Value of a cookie of ours; "" for none."""
    return connection.cookies.get(_full_name(connection, name), "")


def set_cookie(connection: HTTPConnection, response: Response, name: str, value: str) -> None:
    """A cookie that scripts cannot read and that other sites' requests do not carry, until the browser is closed."""
    response.set_cookie(
        _full_name(connection, name), value, path="/", secure=is_https(connection), httponly=True, samesite="lax"
    )


def delete_cookie(connection: HTTPConnection, response: Response, name: str) -> None:
    response.delete_cookie(
        _full_name(connection, name), path="/", secure=is_https(connection), httponly=True, samesite="lax"
    )


def is_https(connection: HTTPConnection) -> bool:
    """Whether the request came encrypted, here or up to a proxy that the settings trust."""
    return connection.scope.get("scheme") == "https"


def _full_name(connection: HTTPConnection, name: str) -> str:
    # RFC 6265bis 4.1.3.2: no neighbour within the domain, and nobody without encryption, can set a __Host- cookie.
    return f"__Host-{name}" if is_https(connection) else name


def _lasts(settings: PageSettings) -> ColumnElement[bool]:
    return and_(
        LoginSession.created_at > now() - settings.session_hours * 3600,
        LoginSession.seen_at > now() - settings.idle_minutes * 60,
    )
