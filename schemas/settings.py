"""The settings: one TOML file plus CHEXNODE_ environment variables, each option documented where it is declared.

The file is the one named by --settings or CHEXNODE_SETTINGS, else ./chexnode.toml where it exists. An environment
variable wins over the file; nested options join with two underscores: CHEXNODE_DICOM__PORT=11113.
"""

import os
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
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
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as EnvironmentVariableError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from schemas.errors import SettingsError

SETTINGS_VARIABLE = "CHEXNODE_SETTINGS"
DEFAULT_FILE = Path("chexnode.toml")

#: Application Entity title (PS3.5 table 6.2-1): 1 to 16 characters of the default repertoire, no backslash.
AeTitle = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[ -\[\]-~]{1,16}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DicomSettings(_Section):
    """The DIMSE services (C-ECHO, C-STORE)."""

    ae_title: AeTitle = "CHEXNODE"
    #: Address to listen on. Only this host until you say otherwise; "0.0.0.0" for every interface.
    host: str = "127.0.0.1"
    port: Port = 11112
    #: Calling AE titles that may associate; everybody else is rejected (PS3.8 9.3.4: calling AE title not recognised).
    calling_ae_titles: list[AeTitle] = Field(default_factory=list)
    #: Longest PDU accepted, bytes. 128 KiB doubles the receive rate against the usual 16 KiB.
    maximum_pdu_bytes: Annotated[int, Field(ge=4096, le=1 << 24)] = 128 * 1024
    maximum_associations: Annotated[int, Field(ge=1)] = 25
    #: Seconds without traffic after which an association is aborted.
    network_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0


class StudySettings(_Section):
    #: A study whose association was not released counts as complete after this long without a new image.
    quiet_seconds: Annotated[float, Field(ge=0)] = 2.0


class ResultObject(StrEnum):
    """Kinds of objects that a destination can be sent."""

    REPORT = "report"
    SEGMENTATION = "segmentation"
    SECONDARY_CAPTURE = "secondary_capture"


class _Destination(_Section):
    name: Name
    #: What is sent there. The Structured Report is the result of record; the Secondary Capture is for viewers that
    #: show neither SR nor SEG.
    objects: list[ResultObject] = Field(default_factory=lambda: [ResultObject.SEGMENTATION, ResultObject.REPORT])

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


Destination = Annotated[OrthancDestination | FolderDestination, Field(discriminator="kind")]


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
    #: Claims of one row before it is given up with its reason.
    attempts: Annotated[int, Field(ge=1)] = 4
    #: First wait after a failure; doubled each time, with jitter.
    backoff_seconds: Annotated[float, Field(gt=0)] = 1.0
    backoff_maximum_seconds: Annotated[float, Field(gt=0)] = 300.0
    #: Deliveries are tried for longer than computations: a PACS may be down for days (2,000 are about a week).
    delivery_attempts: Annotated[int, Field(ge=1)] = 2000
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

    dicom: DicomSettings = Field(default_factory=DicomSettings)
    study: StudySettings = Field(default_factory=StudySettings)
    results: ResultSettings = Field(default_factory=ResultSettings)
    triage: TriageSettings = Field(default_factory=TriageSettings)
    page: PageSettings = Field(default_factory=PageSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    work: WorkSettings = Field(default_factory=WorkSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
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
