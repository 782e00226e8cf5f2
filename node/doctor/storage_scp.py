"""Does a destination by C-STORE let us in, take our objects, and offer storage commitment where we ask for it?"""

from collections.abc import Iterator, Sequence

from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.commitment.messages import SOP_CLASS_UID
from node.delivery.dicom import peer_of
from node.doctor.verdict import Finding, Judge, Subject, Verdict, failed, ok, warning
from node.network.association import NoAssociationError, Peer, TimeLimits, associated
from schemas.allowed_caller import parse_caller
from schemas.errors import SettingsError
from schemas.settings import DicomDestination, ResultObject

_LIMITS = TimeLimits(connect=5.0, associate=10.0, answer=10.0)
_SOP_CLASSES = {
    ResultObject.REPORT: Comprehensive3DSRStorage,
    ResultObject.SEGMENTATION: SegmentationStorage,
    ResultObject.SECONDARY_CAPTURE: SecondaryCaptureImageStorage,
    ResultObject.REJECTION_NOTE: KeyObjectSelectionDocumentStorage,
}


def storage_scp_subject(destination: DicomDestination, callers: Sequence[str]) -> Subject:
    """Checks of a destination by C-STORE. Nothing is stored: DIMSE cannot delete it again.

    Parameters
    ----------
    callers
        Who may call us: its commitment reports come on associations of its own.
    """
    name = f"destination.{destination.name}"

    def examine(judge: Judge) -> Iterator[Verdict]:
        yield judge(f"{name}.dicom-echo", lambda: _echo(destination))
        yield judge(f"{name}.objects", lambda: _objects(destination))
        if destination.commitment:
            yield judge(f"{name}.commitment", lambda: _commitment(destination, callers))

    checks = ("dicom-echo", "objects", "commitment") if destination.commitment else ("dicom-echo", "objects")
    return Subject(name, checks, examine)


def _echo(destination: DicomDestination) -> Finding:
    peer = peer_of(destination)
    try:
        with associated(peer, [build_context(Verification)], _LIMITS) as association:
            status = association.send_c_echo().get("Status")
    except (NoAssociationError, SettingsError) as error:
        return _not_associated(error)
    if status != 0:
        said = "nothing" if status is None else f"0x{status:04X}"
        return failed(f"{peer} answers C-ECHO with {said}", "Look at its log.")
    return ok(f"{peer} answers C-ECHO of {peer.calling}")


def _objects(destination: DicomDestination) -> Finding:
    """What it accepts of the SOP classes that it is to be sent."""
    wanted = {_SOP_CLASSES[each]: each for each in destination.objects}
    syntaxes: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    peer = peer_of(destination)
    try:
        accepted = _accepted(peer, [build_context(uid, syntaxes) for uid in wanted])
    except (NoAssociationError, SettingsError) as error:
        return _not_associated(error)
    missing = [f"{each} ({uid.name})" for uid, each in wanted.items() if uid not in accepted]
    if missing:
        return failed(
            f"{peer} does not take: {', '.join(missing)}",
            f"Enable these SOP classes there, or take them out of objects of destination {destination.name}.",
        )
    return ok(f"{peer} takes every kind of object that it is to be sent")


def _commitment(destination: DicomDestination, callers: Sequence[str]) -> Finding:
    peer = peer_of(destination)
    try:
        offered = SOP_CLASS_UID in _accepted(peer, [build_context(SOP_CLASS_UID)])
    except (NoAssociationError, SettingsError) as error:
        return _not_associated(error)
    if not offered:
        return failed(
            f"{peer} does not offer storage commitment",
            f"Enable it there, or set commitment = false of destination {destination.name}.",
        )
    if destination.ae_title not in {parse_caller(each).title for each in callers}:
        return warning(
            f"{peer} offers storage commitment, but may not call us: reports that come later are rejected",
            f"Add {destination.ae_title} to dicom.calling_ae_titles, then restart the node.",
        )
    return ok(f"{peer} offers storage commitment, and may call us")


def _accepted(peer: Peer, contexts: Sequence[object]) -> set[UID]:
    with associated(peer, contexts, _LIMITS) as association:  # type: ignore[arg-type]
        return {each.abstract_syntax for each in association.accepted_contexts}


def _not_associated(error: NoAssociationError | SettingsError) -> Finding:
    if isinstance(error, NoAssociationError):
        return failed(error.detail, error.to_do)
    return failed(error.detail, "Correct the destination's TLS files.")
