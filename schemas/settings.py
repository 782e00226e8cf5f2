"""The settings: one TOML file plus CHEXNODE_ environment variables, each option documented where it is declared.

The file is the one named by --settings or CHEXNODE_SETTINGS, else ./chexnode.toml where it exists. An environment
variable wins over the file; nested options join with two underscores: CHEXNODE_DICOM__PORT=11113.
"""

import os
import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as EnvironmentVariableError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from schemas.allowed_caller import parse_caller
from schemas.errors import SettingsError
from schemas.remote_ae import parse_remote_ae

SETTINGS_VARIABLE = "CHEXNODE_SETTINGS"
DEFAULT_FILE = Path("chexnode.toml")

#: Application Entity title (PS3.5 table 6.2-1): 1 to 16 characters of the default repertoire, no backslash.
AeTitle = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[ -\[\]-~]{1,16}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]


_STORE_URL = re.compile(r"https?://[^/\s]+(/\S*)?")


def _separated(value: object) -> object:
    """A list as one text, as environment variables have it."""
    return [part for part in re.split(r"[,\s]+", value) if part] if isinstance(value, str) else value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _is_caller(value: str) -> str:
    parse_caller(value)
    return value.strip()


#: An entry of the allow-list, as text.
Caller = Annotated[str, AfterValidator(_is_caller)]
#: PS3.5 section 9.1.
Uid = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)+$", max_length=64)]


def _is_remote_ae(value: str) -> str:
    parse_remote_ae(value)
    return value.strip()


#: An AE title and where it listens, as text.
RemoteAe = Annotated[str, AfterValidator(_is_remote_ae)]


class DicomTlsSettings(_Section):
    """DICOM over TLS as PS3.15 B.9 has it (BCP 195: TLS 1.2 or later), in force with a certificate."""

    port: Port = 2762
    #: PEM files of the node's own certificate (with the intermediate ones behind it) and its key.
    certificate: Path | None = None
    key: Path | None = None
    #: PEM file of the authorities behind the senders' certificates. Set, every sender has to show one.
    client_authorities: Path | None = None

    @model_validator(mode="after")
    def _certificate_has_key(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        if self.client_authorities is not None and self.certificate is None:
            raise ValueError("client_authorities have no effect without certificate and key")
        return self


class DicomSettings(_Section):
    """The DIMSE services (C-ECHO, C-STORE)."""

    ae_title: AeTitle = "CHEXNODE"
    #: Further AE titles that it may be called by; any other is rejected (called AE title not recognised).
    other_ae_titles: list[AeTitle] = Field(default_factory=list)
    #: Address to listen on. Only this host until you say otherwise; "0.0.0.0" for every interface.
    host: str = "127.0.0.1"
    port: Port = 11112
    #: Whether `port` is served without TLS; false where every sender speaks TLS.
    plain: bool = True
    tls: DicomTlsSettings = Field(default_factory=DicomTlsSettings)
    #: Who may associate: "TITLE", or "TITLE@ADDRESS" or "TITLE@NETWORK" (10.1.0.0/16), several entries per title where
    #: there are several addresses. Everybody else is rejected (PS3.8 9.3.4: calling AE title not recognised).
    calling_ae_titles: list[Caller] = Field(default_factory=list)
    #: SOP classes and transfer syntaxes to accept beside all of the standard: UIDs of private ones, or of a later
    #: edition. What is encoded in a transfer syntax that nobody here can parse is refused by status all the same.
    private_sop_classes: list[Uid] = Field(default_factory=list)
    private_transfer_syntaxes: list[Uid] = Field(default_factory=list)
    #: Longest PDU accepted, bytes. 128 KiB doubles the receive rate against the usual 16 KiB.
    maximum_pdu_bytes: Annotated[int, Field(ge=4096, le=1 << 24)] = 128 * 1024
    #: Open associations of one receiver process, in all and from one address; more are rejected for the moment.
    maximum_associations: Annotated[int, Field(ge=1)] = 100
    maximum_associations_per_peer: Annotated[int, Field(ge=1)] = 60
    #: Seconds without traffic after which an association is aborted.
    network_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    #: Seconds from the first to the last byte of a message (an object with its request) after which it is aborted.
    message_timeout_seconds: Annotated[float, Field(gt=0)] = 300.0
    #: Largest object taken, bytes; a larger one is refused when its last byte has come.
    maximum_object_bytes: Annotated[int, Field(ge=1 << 20)] = 1 << 30
    #: Receiver processes that share the port. One is enough for a department; more use more cores, about 70 MB each.
    receivers: Annotated[int, Field(ge=1, le=64)] = 1

    #: Storage commitment for senders (PS3.4 annex J): name of the destination that has to prove that it holds what they
    #: ask about, since the node itself is no archive. Empty: not offered.
    storage_commitment: Name | Literal[""] = ""
    #: Where their reports go, TITLE@HOST:PORT of each sender that may ask.
    storage_commitment_requestors: list[RemoteAe] = Field(default_factory=list)

    @property
    def ae_titles(self) -> list[str]:
        """Every AE title that it may be called by."""
        return [self.ae_title, *self.other_ae_titles]

    @model_validator(mode="after")
    def _somewhere_to_listen(self) -> Self:
        if not self.plain and self.tls.certificate is None:
            raise ValueError("with plain = false nobody listens: set tls.certificate and tls.key, or plain = true")
        if self.plain and self.tls.certificate is not None and self.port == self.tls.port:
            raise ValueError("port and tls.port are the same: give TLS a port of its own, or set plain = false")
        return self


def _is_store_url(value: str) -> str:
    if not _STORE_URL.fullmatch(value):
        raise ValueError(f"{value!r} is no http:// or https:// address with a host")
    return value.rstrip("/")


StoreUrl = Annotated[str, AfterValidator(_is_store_url)]


class StoreSettings(_Section):
    """The object store over HTTP (`chexnode store`): workers on other hosts need no disk of the node's."""

    #: Address to serve the objects of this host's home folder on; empty: they are not served. Other hosts than this one
    #: are served with a certificate, or when you say that the network can be trusted.
    host: str = ""
    port: Port = 8090
    #: What nodes and workers know and nobody else, at least 32 characters (`openssl rand -hex 32`). There is none until
    #: you set it: in a file of its own, or as CHEXNODE_STORE__SECRET.
    secret: SecretStr | None = None
    secret_file: Path | None = None
    #: PEM files for HTTPS.
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    #: PEM file of the authorities behind the certificates of the stores that are asked; empty: the system's.
    authorities: Path | None = None
    #: Serve other hosts without HTTPS: secret and images are readable on the way.
    trusted_network: bool = False
    #: Most that a host keeps of other hosts' objects, bytes (`home`/cache).
    cache_bytes: Annotated[int, Field(ge=0)] = 2 << 30
    timeout_seconds: Annotated[float, Field(gt=0)] = 30.0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        if self.secret is not None and self.secret_file is not None:
            raise ValueError("set secret or secret_file, not both")
        local = self.host in ("", "127.0.0.1", "::1", "localhost")
        if not local and self.tls_certificate is None and not self.trusted_network:
            raise ValueError(
                "other hosts are served with tls_certificate and tls_key, or with trusted_network = true where nobody "
                "else can listen"
            )
        return self


class StorageSettings(_Section):
    """Space for what is received and made."""

    #: Below this much free space on the disk of the object store nothing is received: senders get 0xA700 and keep what
    #: they have. It leaves room for the ledger and the results of what is stored already.
    minimum_free_bytes: Annotated[int, Field(ge=0)] = 500_000_000
    #: Images of studies that are done (analysed, delivered, committed where that is asked for) are removed this many
    #: days after the last one came; not set: they stay. Result objects stay in any case, as does every row.
    retention_days: Annotated[float, Field(gt=0)] | None = None
    #: Below this much free space the oldest of them are removed at once, whatever their age; 0: never. Set it well
    #: above minimum_free_bytes, or senders are refused before anything is removed.
    keep_free_bytes: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _removes_before_it_refuses(self) -> Self:
        if 0 < self.keep_free_bytes <= self.minimum_free_bytes:
            raise ValueError("keep_free_bytes has to be more than minimum_free_bytes: set it to twice as much or more")
        return self


class StudySettings(_Section):
    #: A study whose association was not released counts as complete after this long without a new image.
    quiet_seconds: Annotated[float, Field(ge=0)] = 2.0


class ResultObject(StrEnum):
    """Kinds of objects that a destination can be sent."""

    REPORT = "report"
    SEGMENTATION = "segmentation"
    SECONDARY_CAPTURE = "secondary_capture"
    #: Says which of the objects above are not to be used any more, when their result is withdrawn (IHE IOCM).
    REJECTION_NOTE = "rejection_note"


class _Destination(_Section):
    name: Name
    #: What is sent there. The Structured Report is the result of record; the Secondary Capture is for viewers that
    #: show neither SR nor SEG; the rejection note withdraws what was sent, which a destination has to understand.
    objects: list[ResultObject] = Field(
        default_factory=lambda: [ResultObject.SEGMENTATION, ResultObject.REPORT, ResultObject.REJECTION_NOTE]
    )
    #: Objects under way to it at a time, by all delivery workers together.
    concurrent_sends: Annotated[int, Field(ge=1, le=64)] = 2
    #: After that many deliveries in a row that failed it is left alone, and one is tried now and then.
    failures_until_open: Annotated[int, Field(ge=1)] = 5
    #: How long it is left alone until the next one is tried, seconds; with jitter of a fifth.
    probe_seconds: Annotated[float, Field(gt=0)] = 30.0
    #: What it has not taken for this long is given up, with the reason (`chexnode deliveries`).
    give_up_after_hours: Annotated[float, Field(gt=0)] = 168.0

    @model_validator(mode="after")
    def _some_object(self) -> Self:
        if not self.objects:
            raise ValueError(f"destination {self.name}: name at least one kind of object")
        return self


class OrthancDestination(_Destination):
    """An Orthanc server: STOW-RS through its DICOMweb plugin, its own REST API for what DICOMweb lacks."""

    kind: Literal["orthanc"] = "orthanc"
    #: Root of the REST API, for example http://127.0.0.1:8042
    url: str
    username: str | None = None
    password: SecretStr | None = None
    #: Its page as the readers' browsers reach it, for links where there is no viewer; empty: `url`.
    page_url: str = ""
    #: Path of the DICOMweb root below `url`.
    dicomweb_root: str = "dicom-web"
    #: User metadata (1024 to 65535) on the study that carries the urgency where labels are not to be had.
    urgency_metadata: Annotated[int, Field(ge=1024, le=65535)] = 4242
    timeout_seconds: Annotated[float, Field(gt=0)] = 30.0


class FolderDestination(_Destination):
    """A folder: STUDY/SERIES/INSTANCE.dcm."""

    kind: Literal["folder"] = "folder"
    path: Path


class DicomwebDestination(_Destination):
    """Any server that takes STOW-RS (PS3.18 section 10.5)."""

    kind: Literal["dicomweb"] = "dicomweb"
    #: The service root, what /studies comes after: https://pacs.example/dicom-web
    url: str
    #: HTTP Basic; or a bearer token.
    username: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None
    #: PEM file of the authorities behind its certificate; empty: the system's.
    tls_authorities: Path | None = None
    timeout_seconds: Annotated[float, Field(gt=0)] = 30.0

    @model_validator(mode="after")
    def _one_way_to_log_in(self) -> Self:
        if self.token and (self.username or self.password):
            raise ValueError(f"destination {self.name}: a token, or username and password, not both")
        return self


class DicomDestination(_Destination):
    """Any Storage SCP (PS3.4 annex B): C-STORE, and storage commitment where it offers that (annex J)."""

    kind: Literal["dicom"] = "dicom"
    host: str
    port: Port
    #: AE title of the peer.
    ae_title: AeTitle
    #: Our own AE title there; empty: dicom.ae_title.
    calling_ae_title: AeTitle | Literal[""] = ""
    #: DICOM over TLS, version 1.2 or later (PS3.15 annex B).
    tls: bool = False
    #: PEM file of the authorities behind its certificate; empty: the system's.
    tls_authorities: Path | None = None
    #: PEM files of our own certificate, where it asks for one.
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    #: For each answer.
    timeout_seconds: Annotated[float, Field(gt=0)] = 30.0
    #: Ask it to commit to what it stored: a result is safe then, and not before. Its report may come to our own DICOM
    #: port: dicom.calling_ae_titles has to name it.
    commitment: bool = False
    #: A request that was not answered is repeated after this long; doubled each time, up to a day.
    commitment_repeat_seconds: Annotated[float, Field(gt=0)] = 900.0

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError(f"destination {self.name}: tls_certificate and tls_key belong together")
        if not self.tls and (self.tls_certificate or self.tls_authorities):
            raise ValueError(f"destination {self.name}: certificates are for tls = true")
        return self


Destination = Annotated[
    OrthancDestination | FolderDestination | DicomwebDestination | DicomDestination, Field(discriminator="kind")
]


class SegmentationGeometry(StrEnum):
    """What a segmentation says of the plane of a projection image (docs/decisions/005-segmentation-geometry.md)."""

    #: An invented frame of reference per image and an axial plane, so that OHIF shows it; not for measurement.
    PLANES = "planes"
    #: No frame of reference; Patient Orientation is copied.
    NONE = "none"


class ResultSettings(_Section):
    segmentation_geometry: SegmentationGeometry = SegmentationGeometry.PLANES


class AllowedWaits(_Section):
    """How long a study of each urgency may wait for its reader, minutes, from when it came."""

    immediate: Annotated[float, Field(gt=0)] = 15.0
    urgent: Annotated[float, Field(gt=0)] = 60.0
    soon: Annotated[float, Field(gt=0)] = 240.0
    #: The bound that no study waits longer than without standing first.
    routine: Annotated[float, Field(gt=0)] = 1440.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        waits = [self.immediate, self.urgent, self.soon, self.routine]
        if waits != sorted(waits):
            raise ValueError("a more urgent study may not be allowed a longer wait than a less urgent one")
        return self


class TriageSettings(_Section):
    """The order of the worklist (docs/decisions/010-worklist.md)."""

    allowed_minutes: AllowedWaits = Field(default_factory=AllowedWaits)
    #: A study whose Study Date and Time is older than this when it comes is a prior or a migration: analysed after
    #: everything else, and never listed. Studies without a date are listed.
    backfill_after_hours: Annotated[float, Field(gt=0)] = 72.0
    #: Senders of priors and migrations, whatever the date.
    backfill_calling_ae_titles: list[AeTitle] = Field(default_factory=list)


class PageSettings(_Section):
    """The worklist page and its API (`chexnode page`)."""

    #: Address to listen on. Until accounts exist only this host is answered, whatever is set here.
    host: str = "127.0.0.1"
    port: Port = 8080
    #: PEM files for HTTPS; without them put a proxy that speaks HTTPS in front before others may log in.
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    #: Addresses or networks of proxies in front, whose X-Forwarded-For and -Proto are believed.
    trusted_proxies: list[IPvAnyNetwork] = Field(default_factory=list)
    #: A login ends after this long, and after this long without a click.
    session_hours: Annotated[float, Field(gt=0)] = 12.0
    idle_minutes: Annotated[float, Field(gt=0)] = 60.0
    #: Failed logins of one name from one address within a quarter of an hour, after which it has to wait; ten times as
    #: many of one name from everywhere, or of all names from one address.
    failed_logins: Annotated[int, Field(ge=1)] = 5
    #: Folder of the OHIF build; empty: where `make viewer` puts it.
    viewer: Path | None = None

    @model_validator(mode="after")
    def _certificate_has_key(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        return self


class MetricsSettings(_Section):
    """Figures for Prometheus: /metrics of the page (docs/monitoring.md)."""

    #: Addresses or networks besides this host that may read them, by plain HTTP and without a login. They name hosts
    #: and destinations, no patient and no study.
    allowed_networks: list[IPvAnyNetwork] = Field(default_factory=list)


class AlertSettings(_Section):
    """When a state of the node becomes an alert (docs/monitoring.md)."""

    #: Work that has been due for this long without being taken.
    backlog_minutes: Annotated[float, Field(gt=0)] = 15.0
    #: Difference between the clocks of the database and of a host.
    clock_seconds: Annotated[float, Field(gt=0)] = 5.0


class LogFormat(StrEnum):
    """How the parts of the node write their logs."""

    TEXT = "text"
    #: One JSON object per line.
    JSON = "json"


class LogLevel(StrEnum):
    """What the parts of the node write into their logs; none of it names a patient."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class WorkerSettings(_Section):
    #: "cpu", one or more CUDA devices ("cuda:0" or "cuda:0,cuda:1"), or "auto": all CUDA devices, else the CPU.
    #: One engine process per device and bundle, and one queue for all of a bundle's devices.
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda:\d+(,cuda:\d+)*)$")] = "auto"
    #: Largest batch; halved while it does not fit into the device's memory. On a CPU always 1, since batching gains
    #: nothing there.
    batch: Annotated[int, Field(ge=1, le=256)] = 16
    #: How long the batcher waits for company for an image, seconds; on a CPU always 0.
    batch_wait_seconds: Annotated[float, Field(ge=0, le=1)] = 0.005
    #: A batch that takes longer has hung: the engine is killed and restarted.
    engine_deadline_seconds: Annotated[float, Field(gt=0)] = 60.0
    #: Time for the engine to load the bundle and pass its self-test.
    engine_start_seconds: Annotated[float, Field(gt=0)] = 180.0
    #: Processes that decode pixels and build result objects, about 250 MB each; by default one per core: there is more
    #: of this work than of the engine's, also when that runs on the CPU.
    processes: Annotated[int, Field(ge=1)] = Field(default_factory=lambda: os.cpu_count() or 2)
    #: An image or a report that takes one of those processes longer is given up.
    process_deadline_seconds: Annotated[float, Field(gt=0)] = 60.0
    #: Threads that claim work; at least twice the largest batch keeps a GPU fed.
    threads: Annotated[int, Field(ge=1)] = 4


class WorkSettings(_Section):
    """How due work is claimed, retried and given up (inference, study results, deliveries)."""

    #: A claim that is not renewed for this long is taken to be dead; renewed every third of it.
    lease_seconds: Annotated[float, Field(gt=0)] = 15.0
    #: Claims of one row before it is given up with its reason. Deliveries: give_up_after_hours.
    attempts: Annotated[int, Field(ge=1)] = 4
    #: First wait after a failure; doubled each time, with jitter.
    backoff_seconds: Annotated[float, Field(gt=0)] = 1.0
    backoff_maximum_seconds: Annotated[float, Field(gt=0)] = 300.0
    #: How often every node publishes what is due.
    sweep_seconds: Annotated[float, Field(gt=0)] = 0.5


class TrainingSettings(_Section):
    """Making bundles anew on this host (`chexnode train worker`; needs chexnode[training])."""

    #: Whether `chexnode up` runs a training worker too. It gives way to everything else on the host.
    enabled: bool = False
    #: When a bundle is made by itself: minute, hour, day of month, month, day of week as for cron, local time
    #: ("0 2 * * sat": Saturdays at two). Empty: only what `chexnode train submit` asks for.
    schedule: str = ""
    #: Recipe of what the schedule makes; empty: the shipped bundle's.
    recipe: Path | None = None
    #: Folder of stages and reports, some GB; empty: "training" in `home`.
    cache: Path | None = None
    #: Folders of real radiographs for recipes that name them, each KIND=FOLDER or KIND:NAME=FOLDER
    #: (`chexnode train curate --list`).
    sources: list[str] = Field(default_factory=list)
    #: How often a run is taken up again after its process died, before it is given up. Each time it goes on from what
    #: it had.
    attempts: Annotated[int, Field(ge=1)] = 20

    @field_validator("schedule")
    @classmethod
    def _is_crontab(cls, value: str) -> str:
        if value:
            # Here, since it takes longer to import than everything else that reads settings.
            from celery.schedules import ParseException, crontab

            try:
                crontab.from_string(value)
            except (ParseException, ValueError) as error:
                raise ValueError(f"no five fields of cron: {error}") from error
        return value


class Settings(BaseSettings):
    """Everything a node, a worker or a command needs to know."""

    model_config = SettingsConfigDict(env_prefix="CHEXNODE_", env_nested_delimiter="__", extra="forbid")

    #: Folder of everything this node keeps: object store, SQLite ledger, file-system broker.
    home: Path = Path("chexnode-home")
    #: SQLAlchemy URL; empty: SQLite in `home`. PostgreSQL: postgresql+psycopg2://user:password@host/database
    ledger_url: str = ""
    #: Celery broker URL; empty: the file-system broker in `home`. Redis: redis://host:6379/0
    broker_url: str = ""
    #: Addresses of other hosts' object stores, separated by commas: http://node:8090. Empty: everything is in `home`.
    #: Needed where worker, delivery or page run on another host than the receiver, and where there are two receivers.
    store_urls: Annotated[list[StoreUrl], NoDecode, BeforeValidator(_separated)] = Field(default_factory=list)

    dicom: DicomSettings = Field(default_factory=DicomSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    storage: StorageSettings = Field(default_factory=StorageSettings)
    study: StudySettings = Field(default_factory=StudySettings)
    results: ResultSettings = Field(default_factory=ResultSettings)
    triage: TriageSettings = Field(default_factory=TriageSettings)
    page: PageSettings = Field(default_factory=PageSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    work: WorkSettings = Field(default_factory=WorkSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    alerts: AlertSettings = Field(default_factory=AlertSettings)
    log_format: LogFormat = LogFormat.TEXT
    #: Least level that is written.
    log_level: LogLevel = LogLevel.INFO
    destinations: list[Destination] = Field(default_factory=list)

    @field_validator("ledger_url")
    @classmethod
    def _is_database_url(cls, value: str) -> str:
        if value:
            try:
                make_url(value)
            except ArgumentError as error:
                raise ValueError("no database URL; see the comment at ledger_url") from error
        return value

    @model_validator(mode="after")
    def _destination_names_differ(self) -> Self:
        names = [destination.name for destination in self.destinations]
        if len(set(names)) < len(names):
            raise ValueError("two destinations share a name")
        return self

    @model_validator(mode="after")
    def _destinations_know_our_ae_title(self) -> Self:
        for destination in self.destinations:
            if isinstance(destination, DicomDestination):
                destination.calling_ae_title = destination.calling_ae_title or self.dicom.ae_title
        return self

    @model_validator(mode="after")
    def _commitments_are_proven_somewhere(self) -> Self:
        name = self.dicom.storage_commitment
        kinds = {destination.name: destination.kind for destination in self.destinations}
        if name and kinds.get(name) not in ("orthanc", "dicomweb", "dicom"):
            raise ValueError(f"dicom.storage_commitment = {name!r} is no destination that could be asked what it holds")
        return self

    @property
    def resolved_ledger_url(self) -> str:
        return self.ledger_url or f"sqlite:///{self.home.resolve() / 'ledger.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, settings_file())


def settings_file() -> Path | None:
    """The settings file in force, or None when there is none. Raises SettingsError when the one named is missing."""
    named = os.environ.get(SETTINGS_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise SettingsError(f"{SETTINGS_VARIABLE} names {named}, which is not a file.")
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.is_file() else None


def load_settings() -> Settings:
    """Read the settings file and the environment. Raises SettingsError that lists every option that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"{_source(problem['loc'])}: "
            + ("unknown option" if problem["type"] == "extra_forbidden" else problem["msg"])
            for problem in error.errors()
        )
        raise SettingsError(problems) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{settings_file()} is not TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{settings_file()} is not UTF-8: {error.reason} at byte {error.start}.") from error
    except EnvironmentVariableError as error:
        # Its cause holds the value, which may be a password; its own message does not.
        raise SettingsError(f"environment: {error}") from None
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}.") from error


def _source(location: tuple[int | str, ...]) -> str:
    """Where the option at `location` was set: the variable of the environment that wins, else the file."""
    option = ".".join(str(part) for part in location) or "settings"
    variable = f"CHEXNODE_{'__'.join(str(part) for part in location)}".upper()
    return (
        f"environment variable {variable}" if variable in os.environ else f"{settings_file() or 'settings'}: {option}"
    )
