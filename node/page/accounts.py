"""Local accounts: names, passwords (argon2id) and roles in the ledger. Used by the login and by `chexnode user`.

Nobody is there to begin with: no account and no password comes with the software (OWASP ASVS 5.0, 6.3.2).
"""

import re
import secrets
import unicodedata
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from node.ledger.ledger import Ledger, now
from schemas.account_tables import Account, LoginSession, Role
from schemas.errors import AccountError

#: OWASP ASVS 5.0, 6.2.1 asks for 8 and recommends 15; there is no second factor here, and nothing else to type.
MINIMUM_LENGTH = 12
#: ASVS 6.2.9 asks for 64 at least; a bound keeps hashing cheap.
_MAXIMUM_LENGTH = 1024
_DIFFERENT_CHARACTERS = 5
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")

#: RFC 9106 section 4, second recommended option: argon2id, 64 MiB, 3 passes, 4 lanes.
_HASHER = PasswordHasher()


def accounts_exist(session: Session) -> bool:
    return session.scalar(select(Account.id).limit(1)) is not None


def find(session: Session, name: str) -> Account | None:
    return session.scalar(select(Account).where(Account.name == canonical(name)))


def existing(session: Session, name: str) -> Account:
    """The account of this name. Raises AccountError when there is none."""
    account = find(session, name)
    if account is None:
        raise AccountError(f"There is no account {canonical(name)!r}.")
    return account


def every(session: Session) -> list[Account]:
    return list(session.scalars(select(Account).order_by(Account.name)))


def add(session: Session, name: str, password_hash: str, role: Role) -> Account:
    """Make an account. Raises AccountError for a name that is taken or not usable."""
    check_new_name(session, name)
    account = Account(name=canonical(name), role=role, password_hash=password_hash, created_at=now())
    session.add(account)
    session.flush()
    return account


def check_new_name(session: Session, name: str) -> None:
    """Raise AccountError unless an account could have this name."""
    name = canonical(name)
    if not _NAME.fullmatch(name):
        raise AccountError(f"A name is 1 to 64 letters a to z, digits, dots, _, @ or -; not {name!r}.")
    if find(session, name) is not None:
        raise AccountError(f"There is an account {name} already.")


def remove(session: Session, name: str) -> None:
    """Remove an account and its sessions. The access log keeps the name."""
    session.execute(delete(Account).where(Account.id == existing(session, name).id))


def change_password(session: Session, name: str, password_hash: str) -> None:
    """Set a password; whoever is logged in with the old one is logged out."""
    account = existing(session, name)
    account.password_hash = password_hash
    _log_out_everywhere(session, account)


def change_role(session: Session, name: str, role: Role) -> None:
    """Set a role; the account is logged out, so that no page of the old role stays open."""
    account = existing(session, name)
    account.role = role
    _log_out_everywhere(session, account)


def hash_password(name: str, password: str) -> str:
    """The argon2id hash to keep. Raises AccountError that says what is wrong with a password that is too weak."""
    password = _prepared(password)
    if len(password) < MINIMUM_LENGTH:
        raise AccountError(f"A password has {MINIMUM_LENGTH} characters at least; this one has {len(password)}.")
    if len(password) > _MAXIMUM_LENGTH:
        raise AccountError(f"A password has {_MAXIMUM_LENGTH} characters at most.")
    if len(set(password)) < _DIFFERENT_CHARACTERS:
        raise AccountError(f"A password has {_DIFFERENT_CHARACTERS} different characters at least.")
    if len(name) > 2 and canonical(name) in password.casefold():
        raise AccountError("A password may not hold the name of its account.")
    return _HASHER.hash(password)


def verify(ledger: Ledger, name: str, password: str) -> Account | None:
    """The account, if it exists and this is its password. A name that does not exist takes as long as one that does.

    A hash made with other parameters than today's is made anew.
    """
    with ledger.read() as session:
        account = find(session, name)
    if len(password) > _MAXIMUM_LENGTH:
        account, password = None, ""
    try:
        _HASHER.verify(account.password_hash if account else decoy(), _prepared(password))
    except VerifyMismatchError:
        return None
    if account is not None and _HASHER.check_needs_rehash(account.password_hash):
        _rehash(ledger, account, password)
    return account


@cache
def decoy() -> str:
    """Hash of a password that nobody knows, to compare with for names that do not exist."""
    return _HASHER.hash(secrets.token_urlsafe(32))


def canonical(name: str) -> str:
    """The one spelling of a name: accounts that differ in capitals alone would be one person's two."""
    return name.strip().casefold()


def _log_out_everywhere(session: Session, account: Account) -> None:
    session.execute(delete(LoginSession).where(LoginSession.account_id == account.id))


def _prepared(password: str) -> str:
    # RFC 8265 4.2.2: keyboards differ in how they compose an umlaut.
    return unicodedata.normalize("NFC", password)


def _rehash(ledger: Ledger, account: Account, password: str) -> None:
    renewed = _HASHER.hash(_prepared(password))
    # Not when the password was changed in the meantime.
    same = (Account.id == account.id) & (Account.password_hash == account.password_hash)
    ledger.write(lambda session: session.execute(update(Account).where(same).values(password_hash=renewed)))
    account.password_hash = renewed
