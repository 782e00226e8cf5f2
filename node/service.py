"""The node process: receiver and sweep, until SIGTERM. Everything that it keeps is in the home folder or the ledger."""

import signal
import threading
from pathlib import Path

import click
import structlog

from node.activation import provide_shipped
from node.database import upgrade
from node.dimse import DimseServer
from node.ledger import open_ledger
from node.logs import configure_logs
from node.object_store import FolderObjectStore
from node.presence import present
from node.queue import ANALYSIS, Publisher
from node.reading import reschedule
from node.reception import ReceptionDesk
from node.reconciliation import reconcile
from node.sweep import Sweep
from schemas.settings import Settings, load_settings

log = structlog.get_logger()


class Node:
    """Receiver and sweep of one host.

    Raises PortInUseError, BundleError or SettingsError from start() with what to do.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.ledger = open_ledger(settings)
        self.store = FolderObjectStore(Path(settings.home) / "objects")
        self.publisher = Publisher(settings)
        self.desk = ReceptionDesk(self.ledger, self.store, settings)
        self._server = DimseServer(settings.dicom, self.desk, self.store, self.publisher)
        self._sweep = Sweep(self.ledger, self.store, self.publisher, settings)

    def start(self) -> None:
        """Migrate, register the shipped bundle, reconcile, listen."""
        upgrade(self.ledger)
        provide_shipped(self.ledger, self._settings)
        self.ledger.write(lambda session: reschedule(session, self._settings.triage.allowed_minutes))
        found = reconcile(self.ledger, self.store, self.desk)
        log.info("reconciled", recorded=found.recorded, missing=len(found.missing))
        self._server.start()
        self._sweep.start()
        # The first message of a process takes ten times as long as the next: not at a study's cost.
        self.publisher.hint(ANALYSIS)

    def stop(self) -> None:
        """Stop listening; what was acknowledged is durable already."""
        self._server.stop()
        self._sweep.stop()
        self.ledger.close()


@click.command("node")
def node_command() -> None:
    """Run the receiver and the sweep; inference and delivery workers are started apart."""
    configure_logs()
    settings = load_settings()
    node = Node(settings)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    node.start()
    with present(node.ledger, "node"):
        stopped.wait()
    node.stop()
