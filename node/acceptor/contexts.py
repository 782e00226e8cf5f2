"""The presentation contexts that the node accepts (PS3.8 7.1.1.13).

Used to negotiate, and by the conformance statement.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.acceptor.associate import AnsweredContext, ContextResult, ProposedContext, Roles
from schemas.settings import DicomSettings

#: What a service other than storage is exchanged in.
UNCOMPRESSED = (
    str(ExplicitVRLittleEndian),
    str(ImplicitVRLittleEndian),
    str(DeflatedExplicitVRLittleEndian),
    str(ExplicitVRBigEndian),
)
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
#: Of no patient (PS3.4 annex GG), though below the same root: procedure protocols and inventories.
_NON_PATIENT = (f"{_STORAGE_ROOT}200.", f"{_STORAGE_ROOT}201.")
_RETIRED_ELSEWHERE = {"StoredPrintStorage", "HardcopyGrayscaleImageStorage", "HardcopyColorImageStorage"}
#: Of other services, or encodings of something else than data sets.
_NO_TRANSFER_SYNTAX_FOR_STORAGE = {"RFC2557MIMEEncapsulation", "XMLEncoding", "Papyrus3ImplicitVRLittleEndian"}


@dataclass(frozen=True)
class OfferedContext:
    """A SOP class that the node takes part in, and the transfer syntaxes that it takes it in."""

    sop_class_uid: str
    transfer_syntaxes: frozenset[str]
    #: Whether the requestor may be the SCP, which role selection asks for (storage commitment reports).
    requestor_scp: bool = False


class OfferedContexts:
    """Everything that is accepted, by SOP class."""

    def __init__(self, offered: Iterable[OfferedContext]) -> None:
        self.by_class = {each.sop_class_uid: each for each in offered}

    def answer(self, proposed: Sequence[ProposedContext]) -> list[AnsweredContext]:
        """What to say to each. Of its transfer syntaxes the sender's first that we know: it knows what it has."""
        return [self._answer(each) for each in proposed]

    def roles(self, requested: Sequence[Roles]) -> list[Roles]:
        """The roles that are granted; without an answer the usual ones hold (requestor SCU)."""
        return [
            Roles(each.sop_class_uid, each.scu, each.scp)
            for each in requested
            if (offered := self.by_class.get(each.sop_class_uid)) and offered.requestor_scp
        ]

    def _answer(self, proposed: ProposedContext) -> AnsweredContext:
        offered = self.by_class.get(proposed.abstract_syntax)
        if offered is None:
            result = ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
        else:
            for syntax in proposed.transfer_syntaxes:
                if syntax in offered.transfer_syntaxes:
                    return AnsweredContext(
                        proposed.context_id, proposed.abstract_syntax, ContextResult.ACCEPTANCE, syntax
                    )
            result = ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
        return AnsweredContext(proposed.context_id, proposed.abstract_syntax, result, proposed.transfer_syntaxes[0])


def storage_contexts(settings: DicomSettings) -> list[OfferedContext]:
    """Every storage SOP class in every transfer syntax of the standard, and the private ones of the settings."""
    syntaxes = frozenset([*_standard_transfer_syntaxes(), *settings.private_transfer_syntaxes])
    classes = [*standard_storage_classes(), *settings.private_sop_classes]
    return [OfferedContext(uid, syntaxes) for uid in dict.fromkeys(classes)]


def verification_context() -> OfferedContext:
    return OfferedContext(str(Verification), frozenset(UNCOMPRESSED))


def standard_storage_classes() -> list[str]:
    """UIDs of the SOP classes of the Storage Service Class (PS3.4 annex B), retired ones included."""
    known = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    for uid, (name, kind, _, _, keyword) in UID_dictionary.items():
        if (
            kind == "SOP Class"
            and "Storage" in name
            and (uid.startswith(_STORAGE_ROOT) or keyword in _RETIRED_ELSEWHERE)
        ):
            known.add(uid)
    return sorted(uid for uid in known if not uid.startswith(_NON_PATIENT))


def _standard_transfer_syntaxes() -> list[str]:
    return sorted(
        uid
        for uid, (_, kind, _, _, keyword) in UID_dictionary.items()
        if kind == "Transfer Syntax" and keyword not in _NO_TRANSFER_SYNTAX_FOR_STORAGE
    )
