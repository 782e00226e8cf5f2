"""The states of a node that somebody has to know of: what is refused, held or stuck at present, and what to do.

One list for everybody: the metrics and the page (node/monitoring/watch.py), readiness (node/monitoring/health.py),
`chexnode doctor`. deploy/prometheus/alerts.yml has a rule for each.
"""

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import nan
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from node.broker import broker_answers
from node.doctor.reach_ledger import LedgerUnavailableError, reach_ledger
from node.ledger.database import current_revision, head_revision
from node.ledger.figures import LedgerFigures, read_figures
from node.monitoring.metrics import parse_figures
from node.storage.stores import other_stores
from schemas.destination_tables import CommitmentInquiry
from schemas.errors import ChexnodeError
from schemas.settings import Settings

#: Least space that is not worth a word: ten times what stops reception, or a tenth of the disk.
_LOW_FACTOR, _LOW_PART = 10, 0.1
#: Whoever asked for a storage commitment and was not answered asks again.
_OTHERS_ASK_AGAIN = {CommitmentInquiry.__tablename__}
#: A name that no object has.
_NO_OBJECT = "0" * 64


class AlertName(StrEnum):
    """A state that is told of."""

    #: The database does not answer: nothing is received, everything waits.
    LEDGER_DOWN = "ledger_down"
    #: The ledger's tables are of another version.
    LEDGER_REVISION = "ledger_revision"
    #: Work is found by the sweep of nobody: workers wait for hints.
    BROKER_DOWN = "broker_down"
    #: Less free space than storage.minimum_free_bytes: senders are answered 0xA700.
    DISK_FULL = "disk_full"
    DISK_LOW = "disk_low"
    #: Nothing can be written to the node's folder.
    DISK_READ_ONLY = "disk_read_only"
    #: Another host's object store does not answer: what lies there waits.
    STORE_DOWN = "store_down"
    #: No receiver runs.
    RECEIVER_DOWN = "receiver_down"
    #: No inference worker runs.
    WORKER_DOWN = "worker_down"
    #: No delivery worker runs although there are destinations.
    DELIVERY_DOWN = "delivery_down"
    #: No bundle is active, or no worker serves one that is.
    BUNDLE_NOT_SERVED = "bundle_not_served"
    #: The breaker of a destination is open.
    DESTINATION_DOWN = "destination_down"
    #: Deliveries that were given up.
    DEAD_LETTERS = "dead_letters"
    #: Delivered objects whose storage commitment was given up.
    NOT_COMMITTED = "not_committed"
    #: Analyses, results or other work that was given up.
    GIVEN_UP = "given_up"
    QUARANTINE = "quarantine"
    #: Work has been due for longer than alerts.backlog_minutes.
    BACKLOG = "backlog"
    #: The database's clock and a host's differ by more than alerts.clock_seconds.
    CLOCK = "clock"


#: While one of them is there, the node does not do what it is for.
_STOPPING = {
    AlertName.LEDGER_DOWN,
    AlertName.LEDGER_REVISION,
    AlertName.BROKER_DOWN,
    AlertName.DISK_FULL,
    AlertName.DISK_READ_ONLY,
    AlertName.STORE_DOWN,
    AlertName.RECEIVER_DOWN,
    AlertName.WORKER_DOWN,
    AlertName.DELIVERY_DOWN,
    AlertName.BUNDLE_NOT_SERVED,
}


@dataclass(frozen=True)
class Alert:
    """One state that is there at present."""

    name: AlertName
    #: Which one of several: destination, host, bundle, stage; "" where there is but one.
    subject: str
    found: str
    to_do: str

    @property
    def stops(self) -> bool:
        """Whether the node does not do what it is for."""
        return self.name in _STOPPING


@dataclass(frozen=True)
class Situation:
    """How a node is at one moment."""

    alerts: list[Alert]
    #: None when the ledger does not answer, or is of another version.
    figures: LedgerFigures | None


def examine(settings: Settings) -> Situation:
    """Look at host, broker and ledger; takes some milliseconds, at most some seconds when one of them is dead."""
    here = [*_disk(settings), *_broker(settings), *_stores(settings)]
    try:
        with reach_ledger(settings) as ledger:
            current, head = current_revision(ledger), head_revision()
            if current != head:
                found = f"the ledger is at revision {current or 'none'}, this software wants {head}"
                here.append(Alert(AlertName.LEDGER_REVISION, "", found, "chexnode doctor --only ledger says how."))
                return Situation(here, None)
            with ledger.read() as session:
                before = time.time()
                figures = read_figures(session, settings)
                clock = (before + time.time()) / 2
                return Situation([*here, *_in_ledger(settings, figures, clock)], figures)
    except LedgerUnavailableError as error:
        here.append(Alert(AlertName.LEDGER_DOWN, "", error.found, error.to_do))
    except SQLAlchemyError as error:
        found = f"the ledger broke off: {type(error).__name__}"
        here.append(Alert(AlertName.LEDGER_DOWN, "", found, "Look at the database server."))
    return Situation(here, None)


def _disk(settings: Settings) -> Iterator[Alert]:
    host, folder = socket.gethostname(), _existing(settings.home / "objects")
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        to_do = "Look at the system's log (dmesg)."
        yield Alert(AlertName.DISK_READ_ONLY, host, f"{folder} cannot be read: {error.strerror}", to_do)
        return
    if disk.f_flag & os.ST_RDONLY:
        to_do = "It is mounted read-only, often after a disk fault: look at the system's log (dmesg)."
        yield Alert(AlertName.DISK_READ_ONLY, host, f"nothing can be written to {folder}", to_do)
    free, whole = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    yield from _space(settings, host, free, whole)


def _disks_elsewhere(settings: Settings, figures: LedgerFigures) -> Iterator[Alert]:
    """Other hosts' disks, as their receivers have measured them."""
    here = {socket.gethostname()}
    for process in figures.processes:
        if process.role in ("node", "receiver") and process.host not in here:
            here.add(process.host)
            values = {each.name: each.samples[0].value for each in parse_figures(process.figures) if each.samples}
            free, whole = values.get("chexnode_disk_free_bytes", nan), values.get("chexnode_disk_size_bytes", nan)
            yield from _space(settings, process.host, free, whole)


def _space(settings: Settings, host: str, free: float, whole: float) -> Iterator[Alert]:
    least = settings.storage.minimum_free_bytes
    found = f"{free / 1e9:.1f} GB free of {whole / 1e9:.0f} GB on {host}"
    if free < least:
        to_do = "Free space, or give home a larger disk; every image is refused (0xA700) until then."
        yield Alert(AlertName.DISK_FULL, host, f"{found}, less than storage.minimum_free_bytes", to_do)
    elif free < max(_LOW_FACTOR * least, _LOW_PART * whole):
        yield Alert(AlertName.DISK_LOW, host, found, "Free space, or give home a larger disk.")


def _broker(settings: Settings) -> Iterator[Alert]:
    if said := broker_answers(settings):
        to_do = "Check that it runs, and broker_url. Work waits in the ledger meanwhile, and goes on by itself."
        yield Alert(AlertName.BROKER_DOWN, "", f"the broker does not answer: {said}", to_do)


def _stores(settings: Settings) -> Iterator[Alert]:
    for store in other_stores(settings):
        try:
            store.holds(_NO_OBJECT)
        except ChexnodeError as error:
            to_do = "Run chexnode store there; see that the secret is the same, and the network between."
            yield Alert(AlertName.STORE_DOWN, urlsplit(store.url).netloc, error.own_words.rstrip("."), to_do)


def _in_ledger(settings: Settings, figures: LedgerFigures, clock: float) -> Iterator[Alert]:
    yield from _disks_elsewhere(settings, figures)
    yield from _parts(settings, figures)
    yield from _bundles(figures)
    yield from _destinations(figures)
    yield from _stuck(settings, figures)
    if figures.quarantined:
        found = f"{_count(figures.quarantined, 'object')} in quarantine, kept and not used"
        yield Alert(AlertName.QUARANTINE, "", found, "chexnode quarantine list says why, and what can be done.")
    if abs(figures.at - clock) > settings.alerts.clock_seconds:
        which = "ahead of" if figures.at > clock else "behind"
        found = f"the database's clock is {abs(figures.at - clock):.0f} s {which} this host's"
        yield Alert(AlertName.CLOCK, "", found, "Let both hosts take their time from the same server (NTP).")


def _parts(settings: Settings, figures: LedgerFigures) -> Iterator[Alert]:
    present = {each.role for each in figures.processes}
    if ("receiver" if settings.dicom.receivers > 1 else "node") not in present:
        yield Alert(AlertName.RECEIVER_DOWN, "", "no receiver runs: nothing is received", _start("node"))
    if "worker" not in present:
        yield Alert(AlertName.WORKER_DOWN, "", "no worker runs: what comes in waits for analysis", _start("worker"))
    if settings.destinations and "delivery" not in present:
        found = "no delivery worker runs: results wait and reach no destination"
        yield Alert(AlertName.DELIVERY_DOWN, "", found, _start("delivery"))


def _bundles(figures: LedgerFigures) -> Iterator[Alert]:
    if not figures.bundles:
        found = "no model bundle is active: nothing is analysed"
        yield Alert(AlertName.BUNDLE_NOT_SERVED, "", found, "Activate one: chexnode bundle activate BUNDLE.")
    if not any(each.role == "worker" for each in figures.processes):
        return
    for bundle in figures.bundles:
        if not bundle.served_by:
            found = f"no worker serves {bundle.name} {bundle.version}"
            yield Alert(
                AlertName.BUNDLE_NOT_SERVED, bundle.name, found, "chexnode doctor --only bundle says why; or it loads."
            )


def _destinations(figures: LedgerFigures) -> Iterator[Alert]:
    for each in figures.destinations:
        name = each.name
        if each.breaker_open:
            to_do = f"chexnode doctor --only destination.{name}. One object is tried now and then; none is lost."
            yield Alert(AlertName.DESTINATION_DOWN, name, f"{name} does not take results", to_do)
        if each.commitments_failed:
            found = f"{name} does not commit to {_count(each.commitments_failed, 'object')} that it has taken"
            yield Alert(AlertName.NOT_COMMITTED, name, found, "chexnode deliveries list says why.")


def _stuck(settings: Settings, figures: LedgerFigures) -> Iterator[Alert]:
    limit = settings.alerts.backlog_minutes * 60
    for stage in figures.stages:
        where = f"{stage.stage} to {stage.destination}" if stage.destination else stage.stage
        if stage.failed and stage.destination:
            found = f"{_count(stage.failed, 'delivery', 'deliveries')} to {stage.destination} given up"
            to_do = "chexnode deliveries list says why; chexnode deliveries retry sends them once it is mended."
            yield Alert(AlertName.DEAD_LETTERS, stage.destination, found, to_do)
        elif stage.failed and stage.stage not in _OTHERS_ASK_AGAIN:
            found = f"{_count(stage.failed, 'row')} of {stage.stage} given up"
            to_do = "chexnode db status says why; chexnode db retry takes them up once it is mended."
            yield Alert(AlertName.GIVEN_UP, stage.stage, found, to_do)
        if stage.stage != "training_run" and stage.overdue_seconds > limit:
            found = f"{_count(stage.due, 'row')} of {where} due, the oldest for {stage.overdue_seconds / 60:.0f} min"
            yield Alert(AlertName.BACKLOG, where.replace(" to ", "."), found, _MORE_WORKERS)
    if figures.studies_overdue_seconds > limit:
        minutes = figures.studies_overdue_seconds / 60
        found = f"{_count(figures.studies_due, 'study', 'studies')} without a result, the first for {minutes:.0f} min"
        yield Alert(AlertName.BACKLOG, "study", found, _MORE_WORKERS)


_MORE_WORKERS = "See that workers run and what their logs say, or give the node more workers."


def _start(role: str) -> str:
    return f"Run chexnode up, or chexnode {role} (chexnode doctor --only parts says how it ended)."


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def _existing(folder: Path) -> Path:
    folder = folder.resolve()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder
