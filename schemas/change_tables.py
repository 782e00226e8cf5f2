"""The ledger's tables of what does not stay as it came: rejected, set aside in quarantine, withdrawn, removed.

Used by reception (node/intake/recording.py), planning of results, retention, quarantine, and the page.
"""

from enum import StrEnum

from sqlalchemy import Double, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from schemas.codes import RejectionReason
from schemas.tables import Base, Reception, Result, Work, WorkState, one_of


class Rejection(Base):
    """An instance that a rejection note names (IHE RAD TF-3 4.66), whether it was received yet or not."""

    __tablename__ = "rejection"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    #: SOP Instance UID of the note.
    note_sop_instance_uid: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(String(16))
    noted_at: Mapped[float] = mapped_column(Double)
    #: When it came again although its retention had expired: the note is not in force for it any more.
    lifted_at: Mapped[float | None] = mapped_column(Double)

    __table_args__ = (
        UniqueConstraint("note_sop_instance_uid", "sop_instance_uid"),
        one_of("reason", RejectionReason),
    )


class Contradiction(StrEnum):
    """Why an object is in quarantine."""

    #: Its study is known with another Patient ID.
    OTHER_PATIENT = "other_patient"
    #: Its SOP Instance UID or Series Instance UID is known elsewhere.
    OTHER_STUDY = "other_study"


class Quarantined(Base):
    """An object that contradicts what is known: kept and not used until the contradiction is gone."""

    __tablename__ = "quarantined"

    id: Mapped[int] = mapped_column(primary_key=True)
    #: UIDs, file and words are there.
    reception_id: Mapped[int] = mapped_column(ForeignKey("reception.id"), unique=True)
    contradiction: Mapped[str] = mapped_column(String(16))
    #: What a corrected study is known by (node/intake/quarantine.py).
    patient_id: Mapped[str] = mapped_column(Text)
    pixel_digest: Mapped[str] = mapped_column(String(64))

    reception: Mapped[Reception] = relationship()

    __table_args__ = (one_of("contradiction", Contradiction),)


class Withdrawal(Work, Base):
    """A result that was sent out and holds no longer: whoever has its objects is sent a rejection note."""

    __tablename__ = "withdrawal"

    id: Mapped[int] = mapped_column(primary_key=True)
    result_id: Mapped[int] = mapped_column(ForeignKey("result.id"), unique=True)
    #: Title of the note.
    reason: Mapped[str] = mapped_column(String(16))

    result: Mapped[Result] = relationship()

    __table_args__ = (
        Index("ix_withdrawal_claim", "state", "priority", "due_at"),
        one_of("state", WorkState),
        one_of("reason", RejectionReason),
    )


class Removal(Base):
    """A key of the object store whose bytes nobody needs any more: noted before the file goes, deleted after."""

    __tablename__ = "removal"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: The study that it belonged to; its row is held while the file goes.
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    noted_at: Mapped[float] = mapped_column(Double)
