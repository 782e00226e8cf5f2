"""HTTP Basic (RFC 7617) for scripts that call /api: an account's name and password with each request.

It is never asked for (no WWW-Authenticate), so that browsers neither prompt for it nor send it by themselves.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import threading
import time
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from node.ledger.ledger import now
from node.page import access_log, accounts
from node.page.attempts import Attempts
from node.page.context import Page
from node.page.visitor import Visitor
from schemas.account_tables import AccessEntry, Account, Role
from schemas.errors import LoginFailedError

_CACHE_SECONDS = 60.0
_CACHE_SIZE = 256
#: A script that asks every second would fill the access log with logins.
_LOGIN_ENTRY_SECONDS = 3600.0
_DETAIL = "HTTP Basic"


@dataclass(frozen=True)
class _Verified:
    password_hash: str
    until: float


class BasicLogins:
    """Remembers for a minute which credentials were right, by a hash whose key no other process has.

    What is remembered counts only while the account's password is the same: a change takes effect at once.
    """

    def __init__(self, page: Page, attempts: Attempts) -> None:
        self._page = page
        self._attempts = attempts
        self._key = secrets.token_bytes(32)
        self._verified: dict[bytes, _Verified] = {}
        self._lock = threading.Lock()

    async def visitor(self, authorization: str, address: str) -> Visitor:
        """Who sends this Authorization header. Raises LoginFailedError, TooManyLoginsError or PageBusyError."""
        name, password = credentials(authorization)
        key = hmac.new(self._key, f"{name}\0{password}".encode(), hashlib.sha256).digest()
        account = await run_in_threadpool(self._remembered, key, name)
        if account is None:
            account = await self._attempts.log_in(name, password, address)
            await run_in_threadpool(self._remember, key, account, address)
        return Visitor(account.name, Role(account.role), "", address)

    def _remembered(self, key: bytes, name: str) -> Account | None:
        with self._lock:
            verified = self._verified.get(key)
        if verified is None or time.monotonic() > verified.until:
            return None
        with self._page.ledger.read() as session:
            account = accounts.find(session, name)
        same = account is not None and account.password_hash == verified.password_hash
        return account if same else None

    def _remember(self, key: bytes, account: Account, address: str) -> None:
        moment = time.monotonic()
        with self._lock:
            self._verified = {each: known for each, known in self._verified.items() if known.until > moment}
            if len(self._verified) < _CACHE_SIZE:
                self._verified[key] = _Verified(account.password_hash, moment + _CACHE_SECONDS)
        self._page.ledger.write(lambda session: _record_login(session, account.name, address))


def credentials(authorization: str) -> tuple[str, str]:
    """Name and password of an Authorization header. Raises LoginFailedError for another scheme or a broken one."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.casefold() != "basic":
        raise LoginFailedError("The page knows HTTP Basic only.")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise LoginFailedError("The Authorization header is broken.") from error
    name, _, password = decoded.partition(":")
    return name, password


def _record_login(session: Session, name: str, address: str) -> None:
    lately = select(AccessEntry.id).where(
        AccessEntry.action == "login",
        AccessEntry.at > now() - _LOGIN_ENTRY_SECONDS,
        AccessEntry.account == name,
        AccessEntry.address == address,
        AccessEntry.detail == _DETAIL,
    )
    if session.scalar(lately.limit(1)) is None:
        access_log.entry(session, name, address, "login", detail=_DETAIL)
