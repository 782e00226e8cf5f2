"""Delivery by C-STORE (PS3.4 annex B) to any Storage SCP, several objects over one association.

The peer's own status decides, and nothing else. The stored bytes go out as they are where the peer takes their transfer
syntax; where it takes implicit VR little endian alone, the default that everybody has to take (PS3.5 10.1), they are
converted on the way.
"""

import tempfile
from contextlib import ExitStack
from io import BytesIO
from typing import Any

import structlog
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom import _config, build_context

from node.delivery.parcel import Parcel
from node.delivery.stow import out_of_resources, refused_for_good
from node.network.association import NoAssociationError, Peer, TimeLimits, associated
from node.network.dicom_tls import ClientTls
from node.network.store_status import explain
from schemas.errors import DeliveryError, DeliveryRefusedError, DestinationDownError, SettingsError
from schemas.settings import DicomDestination

log = structlog.get_logger()

#: What results are made of; whatever else comes is proposed when it comes.
_USUAL = (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    SegmentationStorage,
    SecondaryCaptureImageStorage,
    KeyObjectSelectionDocumentStorage,
)
_CONNECT_SECONDS = 10.0
_DUPLICATE = 0x0111
_NOT_AUTHORISED = 0x0124


def peer_of(destination: DicomDestination) -> Peer:
    """Whom to call, and as whom."""
    tls = None
    if destination.tls:
        tls = ClientTls(destination.tls_authorities, destination.tls_certificate, destination.tls_key)
    return Peer(destination.host, destination.port, destination.ae_title, destination.calling_ae_title, tls)


def limits_of(destination: DicomDestination) -> TimeLimits:
    """How long the destination may take."""
    seconds = destination.timeout_seconds
    return TimeLimits(min(_CONNECT_SECONDS, seconds), seconds, seconds)


class DicomSender:
    """One Storage SCP; keeps its association open between objects until `close`."""

    def __init__(self, destination: DicomDestination) -> None:
        # Files then go out fragment by fragment as they are, and never by way of a data set.
        _config.STORE_SEND_CHUNKED_DATASET = True
        self._destination = destination
        self._peer = peer_of(destination)
        self._kinds: set[tuple[UID, UID]] = {(each, ExplicitVRLittleEndian) for each in _USUAL}
        self._association: Any = None
        self._open = ExitStack()

    def send(self, parcel: Parcel) -> str:
        """Store the object; returns the peer's answer. Raises DeliveryError or DeliveryRefusedError."""
        with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
            file.write(parcel.content)
            file.flush()
            syntax = UID(dcmread(file.name, stop_before_pixels=True, specific_tags=[]).file_meta.TransferSyntaxUID)
            association = self._associated(UID(parcel.sop_class_uid), syntax)
            accepted = self._accepted(association, parcel.sop_class_uid)
            if syntax in accepted:
                status = self._store(association, file.name)
            elif syntax == ExplicitVRLittleEndian and ImplicitVRLittleEndian in accepted:
                status = self._store(association, dcmread(BytesIO(parcel.content)))
            else:
                raise DeliveryRefusedError(
                    f"{self._peer} takes no objects of SOP class {UID(parcel.sop_class_uid).name} in {syntax.name}: "
                    "enable both there, then chexnode deliveries retry."
                )
        return self._judge(status, parcel)

    def close(self) -> None:
        """Release the association."""
        self._association = None
        self._open.close()

    def _associated(self, sop_class: UID, syntax: UID) -> Any:
        if (sop_class, syntax) not in self._kinds:
            self._kinds.add((sop_class, syntax))
            self.close()
        if self._association is not None and not self._association.is_established:
            # The peer ended it between two objects, as it may.
            self.close()
        if self._association is None:
            # Each syntax in a context of its own: what the peer accepts is then known for each.
            contexts = [build_context(*kind) for kind in sorted(self._kinds)]
            uncompressed = {each for each, kind in self._kinds if kind == ExplicitVRLittleEndian}
            contexts += [build_context(each, ImplicitVRLittleEndian) for each in sorted(uncompressed)]
            try:
                self._association = self._open.enter_context(
                    associated(self._peer, contexts, limits_of(self._destination))
                )
            except NoAssociationError as error:
                raise DestinationDownError(f"{error.detail} {error.to_do}") from error
            except SettingsError as error:
                # Its TLS files: they can be mended while it waits.
                raise DestinationDownError(f"{self._peer}: {error.detail}") from error
        return self._association

    def _accepted(self, association: Any, sop_class_uid: str) -> set[UID]:
        contexts = [each for each in association.accepted_contexts if each.abstract_syntax == sop_class_uid]
        return {each.transfer_syntax[0] for each in contexts}

    def _store(self, association: Any, what: str | Dataset) -> Dataset:
        try:
            status: Dataset = association.send_c_store(what)
        except (RuntimeError, ValueError, AttributeError) as error:
            self.close()
            raise DeliveryError(f"{self._peer}: the association ended: {error}.") from error
        return status

    def _judge(self, status: Dataset, parcel: Parcel) -> str:
        """What the answer means (PS3.4 table B.2-1). Without one nothing is known, and it is sent again."""
        if "Status" not in status:
            self.close()
            raise DeliveryError(
                f"{self._peer} broke off, or did not answer within {self._destination.timeout_seconds:g} s, on "
                f"{parcel.sop_instance_uid}."
            )
        code = int(status.Status)
        comment = str(status.get("ErrorComment", "") or "")
        status_words = f"0x{code:04X} ({explain(code).words})"
        said = f"{status_words}{': ' + comment if comment else ''}"
        if code == 0:
            return "stored by C-STORE"
        if code == _DUPLICATE:
            # Its UID is nobody else's: an earlier attempt got through, and its answer did not.
            return f"held already, says C-STORE: {said}"
        if code >> 12 == 0xB:
            return f"stored by C-STORE with warning {said}"
        message = f"{self._peer} answered {status_words} to {parcel.sop_instance_uid}."
        if refused_for_good(code):
            raise DeliveryRefusedError(message, comment)
        if out_of_resources(code) or code == _NOT_AUTHORISED:
            raise DestinationDownError(message, comment)
        raise DeliveryError(message, comment)
