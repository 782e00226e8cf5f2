"""The ledger's tables: the truth about every study, image, analysis, result and delivery. Migrations follow them.

Times are the database's clock, in seconds since 1970-01-01 UTC (double): SQLite has no time type, and leases are
arithmetic. UIDs of result objects are minted here, once, when their row is made.
"""

from enum import StrEnum

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, MetaData, String, Text, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from schemas.result import OrderPriority, Urgency
from schemas.settings import ResultObject


class Outcome(StrEnum):
    """What became of an object that was received and kept."""

    #: First time that this SOP Instance UID came.
    NEW = "new"
    #: Known UID, other pixels: analysed again.
    PIXELS_CHANGED = "pixels_changed"
    #: Known UID, same pixels, other header: the result is issued again, without inference.
    HEADER_CHANGED = "header_changed"
    #: The same data set once more, of what was removed or rejected as expired: taken in again.
    RESTORED = "restored"
    #: It contradicts what is known of its study: kept, not used (Quarantined).
    QUARANTINED = "quarantined"


class WorkState(StrEnum):
    """State of a row that somebody has to work on."""

    #: To be done once its due time has come.
    DUE = "due"
    #: Claimed; back to due when the lease runs out.
    LEASED = "leased"
    DONE = "done"
    #: Given up, with the reason in `error`.
    FAILED = "failed"


class DeliveryState(StrEnum):
    """State of a delivery: those of WorkState (due, leased, done, failed), and one that only deliveries have."""

    DUE = "due"
    LEASED = "leased"
    #: The destination's own answer says that it has the object.
    DONE = "done"
    #: Given up: refused for good, or not taken for as long as the destination's settings allow.
    FAILED = "failed"
    #: Not to be sent any more, with the reason in `error`: a later version took its place, or an operator dropped it.
    WITHDRAWN = "withdrawn"


class Commitment(StrEnum):
    """How far a delivered object's storage commitment (PS3.4 annex J) is."""

    #: Its destination is not asked for any.
    NOT_WANTED = "not_wanted"
    #: To be asked for once `commitment_due_at` has come.
    WANTED = "wanted"
    #: Asked for; asked again when nothing was heard until `commitment_due_at`.
    REQUESTED = "requested"
    #: The destination has promised to keep it.
    COMMITTED = "committed"
    #: Given up, with the reason in `commitment_error`.
    FAILED = "failed"


class ReadState(StrEnum):
    """How far the reading of a listed study is."""

    NEW = "new"
    #: Somebody has looked at it.
    OPENED = "opened"
    READ = "read"


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """Constraint: the column holds one of the enumeration's values."""
    allowed = ", ".join(f"'{value.value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=column)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Work:
    """Columns of a row that is claimed under a fenced lease (node/ledger/leases.py)."""

    state: Mapped[str] = mapped_column(String(16), default=WorkState.DUE)
    due_at: Mapped[float] = mapped_column(Double)
    #: Lower is more urgent.
    priority: Mapped[int] = mapped_column(default=100)
    attempts: Mapped[int] = mapped_column(default=0)
    lease_token: Mapped[str | None] = mapped_column(String(32))
    lease_expires_at: Mapped[float | None] = mapped_column(Double)
    #: Reason of the last failure.
    error: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[float] = mapped_column(Double)
    #: Of the last claim.
    started_at: Mapped[float | None] = mapped_column(Double)
    finished_at: Mapped[float | None] = mapped_column(Double)


class BundleState(StrEnum):
    """State of a model bundle in the registry (node/bundles/registry.py)."""

    #: Known to this node, never served.
    CANDIDATE = "candidate"
    #: Served: at most one version of each name.
    ACTIVE = "active"
    #: Was served; can be rolled back to.
    RETIRED = "retired"


class Bundle(Base):
    """A model bundle that this node knows; its files lie in the node's home under its digest."""

    __tablename__ = "bundle"

    id: Mapped[int] = mapped_column(primary_key=True)
    #: SHA-256 over the whole folder (schemas/bundle.py).
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(32), index=True)
    version: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16), default=BundleState.CANDIDATE)
    #: manifest.json, for those who route and show without the files.
    manifest: Mapped[str] = mapped_column(Text)
    #: Came with the software: a newer one of the same name takes its place by itself.
    shipped: Mapped[bool] = mapped_column(default=False)
    #: The folder that it was registered from.
    source: Mapped[str] = mapped_column(Text, default="")
    registered_at: Mapped[float] = mapped_column(Double)
    #: Of the last activation; a rollback goes to the retired one of the same name that was active last.
    activated_at: Mapped[float | None] = mapped_column(Double)

    __table_args__ = (
        one_of("state", BundleState),
        # Two operators who activate two versions at the same moment: the database lets one of them win.
        Index(
            "ix_bundle_active",
            "name",
            unique=True,
            sqlite_where=text("state = 'active'"),
            postgresql_where=text("state = 'active'"),
        ),
    )


class TrainingRun(Work, Base):
    """A bundle that is to be made from a recipe (training/runs/worker.py); what it has made lies in its stages."""

    __tablename__ = "training_run"

    id: Mapped[int] = mapped_column(primary_key=True)
    #: Of the bundle that it makes: name and version.
    title: Mapped[str] = mapped_column(String(64))
    #: The recipe as it was submitted, TOML: the file may change meanwhile.
    recipe: Mapped[str] = mapped_column(Text)
    #: The moment of the schedule that it is for; NULL when somebody submitted it.
    scheduled_for: Mapped[float | None] = mapped_column(Double, unique=True)
    #: What is under way, and how far it is: steps done of how many, and how long it will still take, seconds.
    stage: Mapped[str] = mapped_column(String(32), default="")
    stage_done: Mapped[float | None] = mapped_column(Double)
    stage_total: Mapped[float | None] = mapped_column(Double)
    stage_remaining_seconds: Mapped[float | None] = mapped_column(Double)
    #: Last word of it.
    heard_at: Mapped[float | None] = mapped_column(Double)
    #: What it made; registered as a candidate only when the gate passed.
    bundle_digest: Mapped[str | None] = mapped_column(String(64))
    #: NULL: not judged yet, or a recipe without a gate.
    gate_passed: Mapped[bool | None] = mapped_column()
    #: Why the gate refused it, one reason a line.
    gate_reasons: Mapped[str] = mapped_column(Text, default="")
    #: report.html on the host that made it.
    report: Mapped[str] = mapped_column(Text, default="")

    __table_args__ = (
        Index("ix_training_run_claim", "state", "priority", "due_at"),
        one_of("state", WorkState),
    )


class Study(Base):
    __tablename__ = "study"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    patient_id: Mapped[str] = mapped_column(Text, default="")
    accession_number: Mapped[str] = mapped_column(Text, default="")
    #: As in the header, decoded; for the worklist alone: messages and logs name a study by its UID.
    patient_name: Mapped[str] = mapped_column(Text, default="")
    patient_birth_date: Mapped[str] = mapped_column(String(8), default="")
    patient_sex: Mapped[str] = mapped_column(String(16), default="")
    study_description: Mapped[str] = mapped_column(Text, default="")
    #: Study Date and Time as YYYYMMDDHHMMSS, the department's local time; shorter where the header has no more.
    study_date_time: Mapped[str] = mapped_column(String(14), default="")
    #: What the search looks in: names and numbers, NFKC and case-folded (node/worklist.py).
    search_text: Mapped[str] = mapped_column(Text, default="")
    first_received_at: Mapped[float] = mapped_column(Double)
    last_received_at: Mapped[float] = mapped_column(Double)
    #: When the next results are to be planned; NULL while nothing has changed since the last ones.
    result_due_at: Mapped[float | None] = mapped_column(Double, index=True)
    order_priority: Mapped[str] = mapped_column(String(16), default=OrderPriority.ROUTINE)
    #: Of the current results and the order's priority.
    urgency: Mapped[str] = mapped_column(String(16), default=Urgency.ROUTINE)
    #: Of the current results; NULL before the first.
    malpositioned_tube: Mapped[bool | None] = mapped_column()
    #: From when on it waits for its reader; NULL: never listed (a prior, a migration, no chest radiograph).
    waiting_since: Mapped[float | None] = mapped_column(Double, index=True)
    #: The place in the worklist: waiting since + the allowed wait of its urgency; NULL when nobody has to read it.
    due_at: Mapped[float | None] = mapped_column(Double, index=True)
    read_state: Mapped[str] = mapped_column(String(16), default=ReadState.NEW)
    #: Why a study that was read is new again; "" for all others.
    reopened_reason: Mapped[str] = mapped_column(Text, default="")
    opened_at: Mapped[float | None] = mapped_column(Double)
    opened_by: Mapped[str] = mapped_column(String(64), default="")
    read_at: Mapped[float | None] = mapped_column(Double, index=True)
    read_by: Mapped[str] = mapped_column(String(64), default="")
    #: Last change of anything that the worklist or the study's page shows (node/ledger/changes.py).
    changed_at: Mapped[float] = mapped_column(Double, index=True)
    #: When retention removed its files (node/storage/retention.py); NULL while there are any.
    removed_at: Mapped[float | None] = mapped_column(Double)

    series: Mapped[list["Series"]] = relationship(back_populates="study")

    __table_args__ = (
        one_of("urgency", Urgency),
        one_of("order_priority", OrderPriority),
        one_of("read_state", ReadState),
        # What retention looks through, the oldest first.
        Index(
            "ix_study_kept",
            "last_received_at",
            sqlite_where=text("removed_at IS NULL"),
            postgresql_where=text("removed_at IS NULL"),
        ),
    )


class Series(Base):
    __tablename__ = "series"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    series_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    modality: Mapped[str] = mapped_column(String(16), default="")

    study: Mapped[Study] = relationship(back_populates="series")
    instances: Mapped[list["Instance"]] = relationship(back_populates="series")


class Instance(Base):
    """The current version of one SOP instance."""

    __tablename__ = "instance"

    id: Mapped[int] = mapped_column(primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), index=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    transfer_syntax_uid: Mapped[str] = mapped_column(String(64))
    #: Key in the object store: SHA-256 of the file.
    file_sha256: Mapped[str] = mapped_column(String(64))
    #: SHA-256 of the data set as received, without group 0002.
    dataset_digest: Mapped[str] = mapped_column(String(64))
    #: SHA-256 of pixels and image module.
    pixel_digest: Mapped[str] = mapped_column(String(64), index=True)
    #: SHA-256 of everything else.
    header_digest: Mapped[str] = mapped_column(String(64))
    #: When its last byte came.
    received_at: Mapped[float] = mapped_column(Double)
    #: When retention removed its file and what was made of it; NULL while they are kept (node/storage/retention.py).
    removed_at: Mapped[float | None] = mapped_column(Double)
    #: Whether routing gives it to the model, and why (node/intake/routing.py).
    selected: Mapped[bool] = mapped_column()
    route_reason: Mapped[str] = mapped_column(String(32))
    route_explanation: Mapped[str] = mapped_column(Text)
    #: Of a frontal chest radiograph its view (PA, AP, or frontal when that is all that is known), "" of all else: what
    #: each bundle's population is asked with (node/intake/population.py).
    view: Mapped[str] = mapped_column(String(8), default="")
    #: The patient's age at the examination, where the header says it.
    age_years: Mapped[float | None] = mapped_column(Double)
    #: What its header says of the order; the study takes the most pressing of its instances.
    order_priority: Mapped[str] = mapped_column(String(16), default=OrderPriority.ROUTINE)

    series: Mapped[Series] = relationship(back_populates="instances")

    __table_args__ = (one_of("order_priority", OrderPriority),)


class Reception(Base):
    """Every object that was answered with success and is not an exact duplicate: nothing accepted is without a row."""

    __tablename__ = "reception"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), default="", index=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    file_sha256: Mapped[str] = mapped_column(String(64), index=True)
    dataset_digest: Mapped[str] = mapped_column(String(64))
    calling_ae_title: Mapped[str] = mapped_column(String(16))
    received_at: Mapped[float] = mapped_column(Double)
    outcome: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str] = mapped_column(Text, default="")

    __table_args__ = (one_of("outcome", Outcome),)


class Inference(Work, Base):
    """One image under one bundle; keyed by pixels, so that the same picture is never computed twice."""

    __tablename__ = "inference"

    id: Mapped[int] = mapped_column(primary_key=True)
    pixel_digest: Mapped[str] = mapped_column(String(64))
    bundle_digest: Mapped[str] = mapped_column(String(64))
    #: File to read the pixels from.
    file_sha256: Mapped[str] = mapped_column(String(64))
    #: Object store key of the model's output (workers/output.py), once done.
    output_sha256: Mapped[str | None] = mapped_column(String(64))
    #: What computed it (workers/backends), for example "torch" or "openvino".
    engine_name: Mapped[str | None] = mapped_column(String(32))
    engine_device: Mapped[str | None] = mapped_column(String(64))
    engine_precision: Mapped[str | None] = mapped_column(String(16))
    software_version: Mapped[str | None] = mapped_column(String(32))
    #: Stages of the last attempt in milliseconds: reading (NULL when it had been read for another bundle), and waiting
    #: for and running the forward pass.
    read_ms: Mapped[float | None] = mapped_column(Double)
    forward_ms: Mapped[float | None] = mapped_column(Double)

    __table_args__ = (
        UniqueConstraint("pixel_digest", "bundle_digest"),
        Index("ix_inference_claim", "state", "priority", "due_at"),
        one_of("state", WorkState),
    )


class Result(Work, Base):
    """One version of the result of one study under one bundle."""

    __tablename__ = "result"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    bundle_digest: Mapped[str] = mapped_column(String(64))
    #: Versions count, and follow one another, per study and bundle name: another version of a bundle replaces what the
    #: one before it said.
    bundle_name: Mapped[str] = mapped_column(String(32))
    version: Mapped[int] = mapped_column()
    #: The newest committed version of its study and bundle name.
    current: Mapped[bool] = mapped_column(default=False)
    predecessor_id: Mapped[int | None] = mapped_column(ForeignKey("result.id"))
    #: The result document (schemas/result.py), once committed.
    document: Mapped[str | None] = mapped_column(Text)
    urgency: Mapped[str | None] = mapped_column(String(16))

    study: Mapped[Study] = relationship()
    images: Mapped[list["ResultImage"]] = relationship(order_by="ResultImage.id")
    objects: Mapped[list["StoredObject"]] = relationship(order_by="StoredObject.id")

    __table_args__ = (
        UniqueConstraint("study_id", "bundle_name", "version"),
        Index("ix_result_claim", "state", "priority", "due_at"),
        one_of("state", WorkState),
    )


class Planned(Base):
    """Of a study whose result is due: an active bundle whose part is planned already, while others still compute."""

    __tablename__ = "planned"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    bundle_digest: Mapped[str] = mapped_column(String(64))

    __table_args__ = (UniqueConstraint("study_id", "bundle_digest"),)


class ResultImage(Base):
    """An image that a result version is made from, as it was when the version was planned."""

    __tablename__ = "result_image"

    id: Mapped[int] = mapped_column(primary_key=True)
    result_id: Mapped[int] = mapped_column(ForeignKey("result.id"), index=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"))
    inference_id: Mapped[int] = mapped_column(ForeignKey("inference.id"), index=True)
    #: The file whose header goes into the objects.
    file_sha256: Mapped[str] = mapped_column(String(64))

    instance: Mapped[Instance] = relationship()
    inference: Mapped[Inference] = relationship()
    picture: Mapped["Picture | None"] = relationship(back_populates="result_image")


class Picture(Work, Base):
    """What the page shows of an image of a result: grey image, evidence maps, masks (workers/pictures.py)."""

    __tablename__ = "picture"

    id: Mapped[int] = mapped_column(primary_key=True)
    result_image_id: Mapped[int] = mapped_column(ForeignKey("result_image.id"), unique=True)
    bundle_digest: Mapped[str] = mapped_column(String(64))
    #: Object store key of the archive of pictures, once drawn.
    sha256: Mapped[str | None] = mapped_column(String(64))

    result_image: Mapped[ResultImage] = relationship(back_populates="picture")

    __table_args__ = (
        Index("ix_picture_claim", "state", "priority", "due_at"),
        one_of("state", WorkState),
    )


class StoredObject(Base):
    """A result object: its UIDs are minted with the row, its bytes fixed by the first commit."""

    __tablename__ = "stored_object"

    id: Mapped[int] = mapped_column(primary_key=True)
    result_id: Mapped[int] = mapped_column(ForeignKey("result.id"), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    #: The image it is about; NULL for the report, which is about the study.
    instance_id: Mapped[int | None] = mapped_column(ForeignKey("instance.id"))
    sop_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    series_instance_uid: Mapped[str] = mapped_column(String(64))
    #: NULL until committed, and for ever where there was nothing to say (a segmentation without a region).
    sop_class_uid: Mapped[str | None] = mapped_column(String(64))
    sha256: Mapped[str | None] = mapped_column(String(64))
    size_bytes: Mapped[int | None] = mapped_column()

    __table_args__ = (one_of("kind", ResultObject),)


class Tracking(Base):
    """Tracking UID of a finding, device or region of an image as one bundle sees it, in all its versions (TID 4108)."""

    __tablename__ = "tracking"

    id: Mapped[int] = mapped_column(primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"))
    #: Another bundle's region is another region, and must not be taken for the next state of this one.
    bundle_name: Mapped[str] = mapped_column(String(32))
    key: Mapped[str] = mapped_column(String(64))
    tracking_uid: Mapped[str] = mapped_column(String(64), unique=True)

    __table_args__ = (UniqueConstraint("instance_id", "bundle_name", "key"),)


class Delivery(Work, Base):
    """One object for one destination."""

    __tablename__ = "delivery"

    id: Mapped[int] = mapped_column(primary_key=True)
    object_id: Mapped[int] = mapped_column(ForeignKey("stored_object.id"))
    result_id: Mapped[int] = mapped_column(ForeignKey("result.id"), index=True)
    destination: Mapped[str] = mapped_column(String(32))
    #: Objects of a lower rank of the same result go first: a report refers to its segmentations.
    rank: Mapped[int] = mapped_column()
    #: How the destination took it, in its own words.
    answer: Mapped[str] = mapped_column(Text, default="")
    #: When an operator took it up again: the time that it may take counts from here.
    taken_up_at: Mapped[float | None] = mapped_column(Double)
    commitment: Mapped[str] = mapped_column(String(16), default=Commitment.NOT_WANTED)
    commitment_due_at: Mapped[float | None] = mapped_column(Double)
    #: Requests since it was sent.
    commitment_attempts: Mapped[int] = mapped_column(default=0)
    #: Transaction UID of the last request (CommitmentRequest).
    commitment_transaction_uid: Mapped[str | None] = mapped_column(String(64), index=True)
    #: Reason of the last failure; "" once it is committed.
    commitment_error: Mapped[str] = mapped_column(Text, default="")

    object: Mapped[StoredObject] = relationship()

    __table_args__ = (
        UniqueConstraint("object_id", "destination"),
        Index("ix_delivery_claim", "destination", "state", "priority", "due_at"),
        # What is under way, whatever its destination: of millions of deliveries nearly all are done.
        Index(
            "ix_delivery_open",
            "state",
            "due_at",
            sqlite_where=text("state IN ('due', 'leased')"),
            postgresql_where=text("state IN ('due', 'leased')"),
        ),
        one_of("state", DeliveryState),
        one_of("commitment", Commitment),
        Index("ix_delivery_commitment", "destination", "commitment", "commitment_due_at"),
    )


class Process(Base):
    """A running part of the node, as long as it says so itself (node/monitoring/presence.py)."""

    __tablename__ = "process"

    id: Mapped[int] = mapped_column(primary_key=True)
    #: node, worker or delivery.
    role: Mapped[str] = mapped_column(String(16))
    host: Mapped[str] = mapped_column(String(255))
    process_id: Mapped[int] = mapped_column()
    started_at: Mapped[float] = mapped_column(Double)
    seen_at: Mapped[float] = mapped_column(Double, index=True)
    #: What it has counted and measured, as Prometheus reads it (node/monitoring/metrics.py).
    figures: Mapped[str] = mapped_column(Text, default="")


class ServedBundle(Base):
    """What a running worker makes of an active bundle: it serves it, or says why not (workers/serving.py)."""

    __tablename__ = "served_bundle"

    id: Mapped[int] = mapped_column(primary_key=True)
    process_id: Mapped[int] = mapped_column(ForeignKey("process.id", ondelete="CASCADE"), index=True)
    bundle_digest: Mapped[str] = mapped_column(String(64))
    #: What computes it, for example "torch bfloat16 on cuda:0"; "" while it does not.
    engines: Mapped[str] = mapped_column(Text, default="")
    #: Why it is not served; "" when it is.
    error: Mapped[str] = mapped_column(Text, default="")
    #: When this came to be so.
    since: Mapped[float] = mapped_column(Double)

    __table_args__ = (UniqueConstraint("process_id", "bundle_digest"),)
