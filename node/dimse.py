"""The DIMSE services: Verification and Storage SCP (PS3.4 annexes A and B) on pynetdicom.

An answer of success is a promise: it is given after the file and the ledger row are durable, and not before.
Nothing is decoded here; data sets are written to the object store's file system as they come in.
"""

import secrets
import tempfile
from time import monotonic
from typing import Any

import structlog
from pydicom import Dataset
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from sqlalchemy.exc import SQLAlchemyError

from node.object_store import FolderObjectStore
from node.queue import ANALYSIS, Publisher
from node.received import ReceivedFile, read_received
from node.reception import ReceptionDesk
from schemas.errors import ChexnodeError, IdentityError, OutOfResourcesError, PortInUseError
from schemas.identity import software_version
from schemas.settings import DicomSettings

log = structlog.get_logger()

SUCCESS = 0x0000
_PROCESSING_FAILURE = 0x0110


class DimseServer:
    """C-ECHO and C-STORE for the listed calling AE titles.

    Raises PortInUseError from start() when the port is taken.
    """

    def __init__(
        self, settings: DicomSettings, desk: ReceptionDesk, store: FolderObjectStore, publisher: Publisher
    ) -> None:
        self._settings = settings
        self._desk = desk
        self._store = store
        self._publisher = publisher
        #: Studies that each open association has brought.
        self._studies: dict[Any, set[str]] = {}
        self._server: Any = None

    def start(self) -> None:
        """Listen, in threads of pynetdicom's."""
        settings = self._settings
        _config.STORE_RECV_CHUNKED_DATASET = True
        # pynetdicom makes its file with tempfile: on the store's file system it can be moved in by rename.
        tempfile.tempdir = str(self._store.incoming)
        entity = AE(ae_title=settings.ae_title)
        entity.maximum_pdu_size = settings.maximum_pdu_bytes
        entity.maximum_associations = settings.maximum_associations
        entity.network_timeout = settings.network_timeout_seconds
        entity.require_called_aet = True
        # An empty list would let everybody in; nobody guesses this title.
        entity.require_calling_aet = list(settings.calling_ae_titles) or [secrets.token_hex(8)]
        entity.implementation_version_name = f"CHEXNODE_{software_version()}"[:16]
        entity.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), list(AllTransferSyntaxes))
        handlers: list[Any] = [
            (evt.EVT_C_ECHO, self._on_echo),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_RELEASED, self._on_released),
            (evt.EVT_ABORTED, self._on_aborted),
            (evt.EVT_CONN_CLOSE, self._on_aborted),
            (evt.EVT_REJECTED, self._on_rejected),
        ]
        try:
            self._server = entity.start_server((settings.host, settings.port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise PortInUseError(
                f"DICOM port {settings.port} on {settings.host}: {error.strerror}. "
                "Stop what uses it or set CHEXNODE_DICOM__PORT (dicom.port) to another one."
            ) from error
        log.info("listening", ae_title=settings.ae_title, host=settings.host, port=settings.port)

    def stop(self) -> None:
        """Stop listening and abort what is open; unanswered objects stay with their senders."""
        if self._server is not None:
            self._server.shutdown()

    def _on_echo(self, event: Any) -> int:
        return SUCCESS

    def _on_store(self, event: Any) -> int | Dataset:
        association = event.assoc
        calling = str(association.requestor.ae_title).strip()
        last_byte = monotonic()
        try:
            received = read_received(event.dataset_path)
            _check_request(received, event.request)
            self._desk.take(received, calling, last_byte)
        except ChexnodeError as error:
            log.warning("not accepted", calling=calling, error=str(error))
            return _status(error.dimse_status, error.detail or str(error))
        except SQLAlchemyError as error:
            log.error("ledger does not answer; refused", calling=calling, error=str(error))
            return _status(OutOfResourcesError.dimse_status, "The ledger does not answer; send again later.")
        except OSError as error:
            log.error("not stored", calling=calling, error=str(error))
            return _status(_PROCESSING_FAILURE, f"Storing failed: {error.strerror}.")
        except Exception as error:
            log.exception("not stored", calling=calling, error=type(error).__name__)
            event.dataset_path.unlink(missing_ok=True)
            return _status(_PROCESSING_FAILURE, f"Storing failed: {type(error).__name__}.")
        self._studies.setdefault(association, set()).add(received.study_instance_uid)
        self._publisher.hint(ANALYSIS)
        return SUCCESS

    def _on_released(self, event: Any) -> None:
        studies = self._studies.pop(event.assoc, set())
        if studies:
            try:
                self._desk.close_studies(studies)
            except SQLAlchemyError as error:
                # The quiet time closes them instead.
                log.warning("studies not closed at release", error=str(error))
            self._publisher.hint(ANALYSIS)

    def _on_aborted(self, event: Any) -> None:
        # A study whose association broke off may go on in another one: the quiet time decides.
        self._studies.pop(event.assoc, None)

    def _on_rejected(self, event: Any) -> None:
        log.warning("association rejected", calling=str(event.assoc.requestor.ae_title).strip())


def _check_request(received: ReceivedFile, request: Any) -> None:
    """Raise IdentityError when the data set is another object than the request announced (PS3.4 B.2.3)."""
    if received.sop_instance_uid != str(request.AffectedSOPInstanceUID):
        raise IdentityError("SOP Instance UID of data set and request differ.")
    if UID(received.sop_class_uid) != request.AffectedSOPClassUID:
        raise IdentityError("SOP Class UID of data set and request differ.")


def _status(code: int, comment: str) -> Dataset:
    status = Dataset()
    status.Status = code
    status.ErrorComment = comment.encode("ascii", "replace").decode("ascii")[:64]
    return status
