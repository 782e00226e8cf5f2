"""What our DICOM port answers to storage commitment: reports for us (N-EVENT-REPORT), requests of others (N-ACTION).

Added to the DIMSE server where the settings ask for either; an answer of success is given when the ledger has it.
"""

from collections.abc import Callable
from io import BytesIO

import structlog
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode
from sqlalchemy.exc import SQLAlchemyError

from node.acceptor.association import Answer, Request
from node.acceptor.contexts import UNCOMPRESSED, OfferedContext
from node.acceptor.message import CommandField, MemorySink
from node.commitment.inquiry import record_inquiry
from node.commitment.messages import (
    FAILURES_EXIST,
    REQUEST,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    SUCCESSFUL,
    MalformedMessageError,
    read_report,
    read_request,
)
from node.commitment.report import record_report
from node.ledger.ledger import Ledger
from node.network.dimse import DimseServer
from schemas.remote_ae import parse_remote_ae
from schemas.settings import DicomDestination, Settings

log = structlog.get_logger()

_SUCCESS = 0x0000
# PS3.7 annex C.
_PROCESSING_FAILURE = 0x0110
_NO_SUCH_INSTANCE = 0x0112
_NO_SUCH_EVENT_TYPE = 0x0113
_INVALID_ARGUMENT_VALUE = 0x0115
_NO_SUCH_ACTION = 0x0123
_NOT_AUTHORISED = 0x0124


def offer_commitment(server: DimseServer, ledger: Ledger, settings: Settings) -> None:
    """Have `server` take reports of the destinations that are asked, and requests where others may ask us."""
    asked = [each for each in settings.destinations if isinstance(each, DicomDestination) and each.commitment]
    context = OfferedContext(str(SOP_CLASS_UID), frozenset(UNCOMPRESSED), requestor_scp=bool(asked))
    if asked:
        reports = _Reports(ledger, settings, asked)
        server.add(context, CommandField.N_EVENT_REPORT_RQ, reports.answer)
    if settings.dicom.storage_commitment:
        requests = _Requests(ledger, settings)
        server.add(context, CommandField.N_ACTION_RQ, requests.answer)


class _Reports:
    """N-EVENT-REPORT of a destination on an association that it made (PS3.4 J.3.3)."""

    def __init__(self, ledger: Ledger, settings: Settings, asked: list[DicomDestination]) -> None:
        self._ledger = ledger
        self._work = settings.work
        self._asked = asked

    def answer(self, request: Request) -> Answer:
        command = request.message.command
        event_type = command.get("EventTypeID")
        response = Dataset()
        response.AffectedSOPClassUID, response.AffectedSOPInstanceUID = SOP_CLASS_UID, SOP_INSTANCE_UID
        response.EventTypeID = event_type if isinstance(event_type, int) else 0
        if event_type not in (SUCCESSFUL, FAILURES_EXIST):
            response.Status = _NO_SUCH_EVENT_TYPE
        elif command.get("AffectedSOPInstanceUID") != SOP_INSTANCE_UID:
            response.Status = _NO_SUCH_INSTANCE
        else:
            response.Status = _answered(request, self._take)
        return Answer(response)

    def _take(self, request: Request) -> int:
        report = read_report(_data_set(request))
        # The Transaction UID says which destination was asked; its AE title that the report comes from there.
        for destination in self._asked:
            if destination.ae_title == request.calling_ae_title and self._ledger.write(
                lambda session, name=destination.name: record_report(session, report, name, self._work)  # type: ignore[misc]
            ):
                return _SUCCESS
        log.warning("storage commitment report on what was never asked there", calling=request.calling_ae_title)
        return _INVALID_ARGUMENT_VALUE


class _Requests:
    """N-ACTION of a sender (PS3.4 J.3.2)."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._known = {parse_remote_ae(each).title for each in settings.dicom.storage_commitment_requestors}

    def answer(self, request: Request) -> Answer:
        command = request.message.command
        action_type = command.get("ActionTypeID")
        response = Dataset()
        response.AffectedSOPClassUID, response.AffectedSOPInstanceUID = SOP_CLASS_UID, SOP_INSTANCE_UID
        response.ActionTypeID = action_type if isinstance(action_type, int) else 0
        if action_type != REQUEST:
            response.Status = _NO_SUCH_ACTION
        elif command.get("RequestedSOPInstanceUID") != SOP_INSTANCE_UID:
            response.Status = _NO_SUCH_INSTANCE
        elif request.calling_ae_title not in self._known:
            log.warning(
                "storage commitment request without an address for its report: add it to "
                "dicom.storage_commitment_requestors",
                calling=request.calling_ae_title,
            )
            response.Status = _NOT_AUTHORISED
        else:
            response.Status = _answered(request, self._take)
        return Answer(response)

    def _take(self, request: Request) -> int:
        asked = read_request(_data_set(request))
        self._ledger.write(lambda session: record_inquiry(session, asked, request.calling_ae_title))
        log.info("storage commitment request", calling=request.calling_ae_title, instances=len(asked.instances))
        return _SUCCESS


def _answered(request: Request, take: Callable[[Request], int]) -> int:
    """The status of what `take` makes of the request."""
    try:
        return take(request)
    except MalformedMessageError as error:
        log.warning("storage commitment not understood", calling=request.calling_ae_title, error=error)
        return _INVALID_ARGUMENT_VALUE
    except SQLAlchemyError as error:
        log.error("ledger does not answer; refused", calling=request.calling_ae_title, error=type(error).__name__)
        return _PROCESSING_FAILURE


def _data_set(request: Request) -> Dataset:
    """The request's data set. Raises MalformedMessageError."""
    sink, syntax = request.message.data_set, UID(request.context.transfer_syntax)
    if not isinstance(sink, MemorySink):
        raise MalformedMessageError("it has no data set")
    try:
        return decode(BytesIO(bytes(sink.content)), syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    except Exception as error:
        raise MalformedMessageError(f"the data set cannot be read: {type(error).__name__}") from error
