"""The DIMSE services that the node offers: Verification and Storage SCP (PS3.4 annexes A and B), and what is added.

Listens for associations, with and without TLS, and gives each a thread of its own (node/acceptor).
"""

import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from pydicom import Dataset

from node.acceptor.admission import Admission
from node.acceptor.association import Acceptor, Answer, Association, Identity, InMemory, Request, Service
from node.acceptor.contexts import OfferedContext, OfferedContexts, storage_contexts, verification_context
from node.acceptor.message import CommandField
from node.intake.reception import ReceptionDesk
from node.network.dicom_tls import server_context
from node.network.storage_service import SUCCESS, StorageService
from node.queue import Publisher
from node.storage.object_store import FolderObjectStore
from schemas.errors import PortInUseError
from schemas.identity import IMPLEMENTATION_CLASS_UID, implementation_version_name
from schemas.settings import Settings

log = structlog.get_logger()

_BACKLOG = 128
#: Connections beyond the associations allowed: those that are being rejected, or say nothing.
_SPARE_CONNECTIONS = 50
_STOP_SECONDS = 10.0


class DimseServer:
    """C-ECHO and C-STORE for the listed callers, and whatever else is added.

    Raises PortInUseError from start() when a port is taken, SettingsError when a TLS file is not usable.
    """

    def __init__(self, settings: Settings, desk: ReceptionDesk, store: FolderObjectStore, publisher: Publisher) -> None:
        self._settings = settings.dicom
        self._storage = StorageService(settings, desk, store, publisher)
        self._offered = [verification_context(), *storage_contexts(self._settings)]
        self._services: dict[int, Service] = {
            CommandField.C_ECHO_RQ: InMemory(_echo),
            CommandField.C_STORE_RQ: self._storage,
        }
        self._listeners: list[socket.socket] = []
        self._associations: dict[Association, threading.Thread] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()

    def add(self, context: OfferedContext, field: CommandField, answer: Callable[[Request], Answer]) -> None:
        """Serve another kind of request, in memory. Before start()."""
        self._offered.append(context)
        self._services[field] = InMemory(answer)

    def start(self) -> None:
        """Listen, in threads."""
        settings = self._settings
        acceptor = Acceptor(
            settings=settings,
            identity=Identity(IMPLEMENTATION_CLASS_UID, implementation_version_name()),
            admission=Admission(settings),
            offered=OfferedContexts(self._offered),
            services=self._services,
            ended=self._storage.ended,
        )
        if settings.plain:
            self._listen(acceptor, settings.port, "CHEXNODE_DICOM__PORT (dicom.port)", None)
        if settings.tls.certificate is not None:
            tls = server_context(settings.tls)
            self._listen(acceptor, settings.tls.port, "CHEXNODE_DICOM__TLS__PORT (dicom.tls.port)", tls)

    def stop(self) -> None:
        """Stop listening, answer what is under way, end what is open; unanswered objects stay with their senders."""
        self._stopping.set()
        for listener in self._listeners:
            _close(listener)
        with self._lock:
            running = dict(self._associations)
        for association in running:
            association.stop()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in running.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        for association in running:
            association.break_off()

    def _listen(self, acceptor: Acceptor, port: int, setting: str, tls: ssl.SSLContext | None) -> None:
        host = self._settings.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._settings.receivers > 1:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            self.stop()
            raise PortInUseError(
                f"DICOM port {port} on {host}: {error.strerror}. Stop what uses it or set {setting} to another one."
            ) from error
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, acceptor, tls), name="accept", daemon=True).start()
        log.info("listening", ae_titles=self._settings.ae_titles, host=host, port=port, tls=tls is not None)

    def _accept(self, listener: socket.socket, acceptor: Acceptor, tls: ssl.SSLContext | None) -> None:
        while not self._stopping.is_set():
            try:
                peer, address = listener.accept()
            except OSError as error:
                if not self._stopping.is_set():
                    # Out of file descriptors: what is open gives some back.
                    log.error("cannot accept connections at present", error=error.strerror)
                    time.sleep(0.2)
                continue
            self._begin(acceptor, peer, address[0], tls)

    def _begin(self, acceptor: Acceptor, peer: socket.socket, address: str, tls: ssl.SSLContext | None) -> None:
        with self._lock:
            full = len(self._associations) >= self._settings.maximum_associations + _SPARE_CONNECTIONS
        if full:
            log.warning("too many connections, closed without an answer", address=address)
            peer.close()
            return
        association = Association(acceptor, next(self._numbers), peer, address, tls)

        def run() -> None:
            try:
                association.run()
            finally:
                with self._lock:
                    self._associations.pop(association, None)

        thread = threading.Thread(target=run, name="association", daemon=True)
        with self._lock:
            self._associations[association] = thread
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads
            log.error("no thread for another association, closed without an answer", address=address)
            peer.close()
            with self._lock:
                self._associations.pop(association, None)


def _echo(request: Request) -> Answer:
    response = Dataset()
    response.AffectedSOPClassUID = request.message.command.get("AffectedSOPClassUID", "")
    response.Status = SUCCESS
    return Answer(response)


def _close(listener: socket.socket) -> None:
    with suppress(OSError):
        # Wakes accept().
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
