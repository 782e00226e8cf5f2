"""The ledger's tables of destinations: what is known of each, and storage commitment (PS3.4 annex J) in both roles.

Used by delivery (node/delivery), commitment (node/commitment), and whoever shows how destinations are.
"""

from enum import StrEnum

from sqlalchemy import Double, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from schemas.tables import Base, Work, WorkState, one_of


class Breaker(StrEnum):
    """Whether a destination is sent to."""

    #: It is.
    CLOSED = "closed"
    #: Too many deliveries in a row failed: one is tried now and then, until one succeeds.
    OPEN = "open"


class DestinationState(Base):
    """What all delivery workers know of one destination of the settings."""

    __tablename__ = "destination_state"

    #: Its name in the settings.
    destination: Mapped[str] = mapped_column(String(32), primary_key=True)
    breaker: Mapped[str] = mapped_column(String(16), default=Breaker.CLOSED)
    #: Failures since the last success that tell against the destination (node/delivery/breaker.py).
    failures: Mapped[int] = mapped_column(default=0)
    #: Delivery that failed last, so that one bad object alone never opens the breaker.
    failed_delivery_id: Mapped[int | None] = mapped_column()
    #: Reason of the last failure; "" after a success.
    error: Mapped[str] = mapped_column(Text, default="")
    failed_at: Mapped[float | None] = mapped_column(Double)
    succeeded_at: Mapped[float | None] = mapped_column(Double)
    #: When the breaker opened, and when the next delivery may be tried; NULL while it is closed.
    opened_at: Mapped[float | None] = mapped_column(Double)
    probe_at: Mapped[float | None] = mapped_column(Double)

    __table_args__ = (one_of("breaker", Breaker),)


class CommitmentRequest(Base):
    """A storage commitment request of ours: its Transaction UID says whose report it is that comes, however late."""

    __tablename__ = "commitment_request"

    id: Mapped[int] = mapped_column(primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(String(64), unique=True)
    destination: Mapped[str] = mapped_column(String(32))
    requested_at: Mapped[float] = mapped_column(Double)
    #: When its first report came.
    reported_at: Mapped[float | None] = mapped_column(Double)


class CommitmentInquiry(Work, Base):
    """A storage commitment request that somebody sent us; done once its report is taken."""

    __tablename__ = "commitment_inquiry"

    id: Mapped[int] = mapped_column(primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(String(64))
    #: Who asks, and is to be reported to.
    calling_ae_title: Mapped[str] = mapped_column(String(16))

    instances: Mapped[list["InquiredInstance"]] = relationship(order_by="InquiredInstance.id")

    __table_args__ = (
        UniqueConstraint("transaction_uid", "calling_ae_title"),
        Index("ix_commitment_inquiry_claim", "state", "priority", "due_at"),
        one_of("state", WorkState),
    )


class InquiredInstance(Base):
    """An instance whose storage commitment somebody asks for."""

    __tablename__ = "inquired_instance"

    id: Mapped[int] = mapped_column(primary_key=True)
    inquiry_id: Mapped[int] = mapped_column(ForeignKey("commitment_inquiry.id"), index=True)
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    sop_instance_uid: Mapped[str] = mapped_column(String(64))
