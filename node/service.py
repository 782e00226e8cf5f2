"""The node process: receiver and sweep, until SIGTERM. Everything that it keeps is in the home folder or the ledger."""

import signal
import threading

import click
import structlog

import node.without_decoders  # noqa: F401 - before pydicom
from node.bundles.activation import provide_shipped
from node.commitment.responder import CommitmentResponder
from node.commitment.service import offer_commitment
from node.intake.reception import ReceptionDesk
from node.intake.reconciliation import reconcile
from node.ledger.database import ready_ledger
from node.ledger.ledger import Ledger, open_ledger
from node.monitoring.logs import configure_logs_of
from node.monitoring.metrics import watch_disk
from node.monitoring.presence import present
from node.network.dimse import DimseServer
from node.network.receivers import RECEIVER, Receivers
from node.queue import ANALYSIS, Publisher
from node.reading import reschedule
from node.storage.object_store import FolderObjectStore
from node.storage.stores import open_store, own_store
from node.sweep import Sweep
from schemas.errors import SettingsError
from schemas.settings import Settings, load_settings

log = structlog.get_logger()


class Node:
    """Receiver and sweep of one host.

    Raises PortInUseError, BundleError or SettingsError from start() with what to do.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        if settings.store_urls and not settings.store.host:
            raise SettingsError(
                "store_urls names other hosts' stores, and what this host receives would be readable by none of them: "
                "set store.host too, and run chexnode store."
            )
        self.ledger = ready_ledger(settings)
        self.store = own_store(settings)
        self.publisher = Publisher(settings)
        self.desk = ReceptionDesk(self.ledger, self.store, settings)
        self._receiver: DimseServer | Receivers = (
            Receivers(settings, self.ledger)
            if settings.dicom.receivers > 1
            else _make_server(settings, self.ledger, self.desk, self.store, self.publisher)
        )
        self._sweep = Sweep(self.ledger, self.store, self.publisher, settings)
        self._responder = CommitmentResponder(self.ledger, settings) if settings.dicom.storage_commitment else None

    def start(self) -> None:
        """Register the shipped bundle, reconcile, listen."""
        provide_shipped(self.ledger, self._settings)
        self.ledger.write(lambda session: reschedule(session, self._settings.triage.allowed_minutes))
        found = reconcile(self.ledger, self.store, self.desk, open_store(self._settings))
        log.info("reconciled", recorded=found.recorded, missing=len(found.missing))
        self._receiver.start()
        self._sweep.start()
        if self._responder is not None:
            self._responder.start()
        # The first message of a process takes ten times as long as the next: not at a study's cost.
        self.publisher.hint(ANALYSIS)

    def stop(self) -> None:
        """Stop listening; what was acknowledged is durable already."""
        self._receiver.stop()
        if self._responder is not None:
            self._responder.stop()
        self._sweep.stop()
        self.ledger.close()


class ReceiverProcess:
    """One of the receivers of a node that has several (node/network/receivers.py); the ledger is migrated by then."""

    def __init__(self, settings: Settings) -> None:
        self.ledger = open_ledger(settings)
        store = own_store(settings)
        desk = ReceptionDesk(self.ledger, store, settings)
        self._server = _make_server(settings, self.ledger, desk, store, Publisher(settings))

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()
        self.ledger.close()


def _make_server(
    settings: Settings, ledger: Ledger, desk: ReceptionDesk, store: FolderObjectStore, publisher: Publisher
) -> DimseServer:
    server = DimseServer(settings, desk, store, publisher)
    offer_commitment(server, ledger, settings)
    return server


@click.command("node")
@click.option("--receiver", is_flag=True, hidden=True, help="Be one of the receivers of dicom.receivers, and no more.")
def node_command(receiver: bool) -> None:
    """Run the receiver and the sweep; inference and delivery workers are started apart."""
    settings = load_settings()
    configure_logs_of(settings)
    watch_disk(settings.home)
    node = ReceiverProcess(settings) if receiver else Node(settings)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    node.start()
    with present(node.ledger, RECEIVER if receiver else "node"):
        stopped.wait()
    node.stop()
