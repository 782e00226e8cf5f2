"""Names and passwords that are tried, at the login form or by HTTP Basic: counted in the ledger, few at a time.

Counting in the ledger holds over restarts and over several processes (OWASP ASVS 5.0, 6.3.1).
"""

import math
from functools import partial

import structlog
from anyio import CapacityLimiter, to_thread
from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from node.ledger.ledger import now
from node.page import access_log, accounts
from node.page.addresses import origin_of_attempts
from node.page.context import Page
from schemas.account_tables import AccessEntry, Account
from schemas.errors import LoginFailedError, PageBusyError, TooManyLoginsError

log = structlog.get_logger()

_WINDOW_SECONDS = 15 * 60
#: One name over all addresses, and one address over all names, may fail this many times as often as one name at one
#: address: a lower limit would let anybody lock anybody out, and one wrong script everybody in the reading room.
_WIDE_FACTOR = 10
#: An account that logged in from an address within these days is not locked out there by failures elsewhere.
_KNOWN_ADDRESS_SECONDS = 30 * 24 * 3600
#: Each takes a core and 64 MiB for a moment.
_AT_ONCE = 2
_QUEUE = 50


class Attempts:
    """The one place where passwords are tried."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._limiter = CapacityLimiter(_AT_ONCE)

    async def log_in(self, name: str, password: str, address: str) -> Account:
        """The account whose name and password these are.

        Raises LoginFailedError, TooManyLoginsError when too many failed before, PageBusyError in a flood.
        """
        if self._limiter.statistics().tasks_waiting >= _QUEUE:
            raise PageBusyError
        attempt = partial(_attempt, self._page, name, password, address)
        return await to_thread.run_sync(attempt, limiter=self._limiter)


def _attempt(page: Page, name: str, password: str, address: str) -> Account:
    name = access_log.loggable(accounts.canonical(name))
    with page.ledger.read() as session:
        wait = _seconds_to_wait(session, name, address, page.settings.page.failed_logins)
    if wait:
        raise TooManyLoginsError(wait)
    account = accounts.verify(page.ledger, name, password)
    if account is None:
        origin = origin_of_attempts(address)
        access_log.entry(page, name, address, "login_failed", detail="" if origin == address else origin)
        # Without the name: people type passwords there.
        log.warning("login failed", address=address)
        raise LoginFailedError
    return account


def _seconds_to_wait(session: Session, name: str, address: str, limit: int) -> int:
    origin = origin_of_attempts(address)
    from_there = or_(AccessEntry.address == origin, AccessEntry.detail == origin)
    waits = [
        _until_fewer(session, and_(from_there, AccessEntry.account == name), limit),
        _until_fewer(session, from_there, limit * _WIDE_FACTOR),
    ]
    if not _is_known(session, name, address):
        waits.append(_until_fewer(session, AccessEntry.account == name, limit * _WIDE_FACTOR))
    return max(waits)


def _until_fewer(session: Session, which: ColumnElement[bool], limit: int) -> int:
    """Seconds until fewer than `limit` of the failures `which` lie within the window; 0 when they are fewer now."""
    age = session.scalar(
        select(now() - AccessEntry.at)
        .where(AccessEntry.action == "login_failed", AccessEntry.at > now() - _WINDOW_SECONDS, which)
        .order_by(AccessEntry.at.desc())
        .offset(limit - 1)
        .limit(1)
    )
    return 0 if age is None else max(1, math.ceil(_WINDOW_SECONDS - age))


def _is_known(session: Session, name: str, address: str) -> bool:
    entry = and_(
        AccessEntry.action == "login",
        AccessEntry.at > now() - _KNOWN_ADDRESS_SECONDS,
        AccessEntry.account == name,
        AccessEntry.address == address,
    )
    return session.scalar(select(AccessEntry.id).where(entry).limit(1)) is not None
