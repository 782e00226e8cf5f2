"""The ledger's tables of accounts, logins and the access log: who may use the page, and who did what there.

Used by the page and `chexnode user`.
"""

from enum import StrEnum

from sqlalchemy import Double, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from schemas.tables import Base, one_of


class Role(StrEnum):
    """What an account may do; each role includes the ones before it."""

    #: See the worklist, the studies and the viewer; mark studies.
    READER = "reader"
    #: Run the checks.
    OPERATOR = "operator"
    #: See the access log.
    ADMIN = "admin"


class Account(Base):
    """Somebody who may use the page (`chexnode user`)."""

    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    #: argon2id, in the PHC string format with its parameters.
    password_hash: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Double)

    __table_args__ = (one_of("role", Role),)


class LoginSession(Base):
    """A login on the page. Neither the cookie nor the token of its forms can be read from here."""

    __tablename__ = "login_session"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    #: SHA-256 of the cookie's secret.
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[float] = mapped_column(Double)
    #: Last request, to the minute.
    seen_at: Mapped[float] = mapped_column(Double)

    account: Mapped[Account] = relationship()


class AccessEntry(Base):
    """The access log: who logged in, saw or marked what, and who was refused."""

    __tablename__ = "access_entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float] = mapped_column(Double, index=True)
    #: Account name; "" for this host without accounts. Of a failed login the name that was given.
    account: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64))
    #: login, login_failed, logout, account, worklist, study, state, viewer, quarantine, refused.
    action: Mapped[str] = mapped_column(String(16))
    study_instance_uid: Mapped[str] = mapped_column(String(64), default="", index=True)
    detail: Mapped[str] = mapped_column(Text, default="")

    __table_args__ = (Index("ix_access_entry_failed_logins", "action", "at"),)
