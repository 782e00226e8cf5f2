"""The DICOM Conformance Statement (PS3.2), written from the tables that the node goes by: `chexnode conformance`.

What it says beyond those tables stands in conformance.md.jinja.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import EnumType
from pathlib import Path

import click
import pydicom.charset
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

import schemas.codes
from node.acceptor.contexts import UNCOMPRESSED, OfferedContext, storage_contexts, verification_context
from node.commitment.messages import SOP_CLASS_UID as COMMITMENT
from node.commitment.messages import FailureReason
from node.delivery.stow import out_of_resources, refused_for_good
from node.network.dicom_tls import CIPHERS
from node.network.storage_service import PROCESSING_FAILURE
from schemas.code import PRIVATE_SCHEME, PRIVATE_SCHEME_NAME, Code
from schemas.errors import ChexnodeError
from schemas.identity import IMPLEMENTATION_CLASS_UID, MANUFACTURER, implementation_version_name, software_version
from schemas.settings import DicomSettings, DicomTlsSettings, ResultObject

_TEMPLATE = "conformance.md.jinja"
_MADE = {
    ResultObject.REPORT: Comprehensive3DSRStorage,
    ResultObject.SEGMENTATION: SegmentationStorage,
    ResultObject.SECONDARY_CAPTURE: SecondaryCaptureImageStorage,
    ResultObject.REJECTION_NOTE: KeyObjectSelectionDocumentStorage,
}
#: Answers of a Storage SCP, one of each kind (PS3.4 table B.2-1), for what we make of them.
_ANSWERS = (0x0000, 0xB000, 0xB006, 0xB007, 0x0111, 0xA700, 0x0124, 0x0110, 0x0122, 0xA900, 0xC000)


@dataclass(frozen=True)
class NamedUid:
    """A UID of the standard with its name."""

    name: str
    uid: str


@dataclass(frozen=True)
class StatusMeaning:
    """A status of a C-STORE response."""

    status: str
    meaning: str


@dataclass(frozen=True)
class Option:
    """A setting with its default."""

    name: str
    default: str


@click.command("conformance")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write it there instead of showing it.")
def conformance_command(out: Path | None) -> None:
    """Write the DICOM Conformance Statement of this version (docs/conformance.md), with the default settings."""
    if out is None:
        click.echo(conformance_statement(), nl=False)
    else:
        out.write_text(conformance_statement(), encoding="utf-8")


def conformance_statement() -> str:
    """The statement as Markdown."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Markdown, and nothing in it comes from outside.
        autoescape=False,
    )
    dicom = DicomSettings()
    storage = storage_contexts(dicom)
    return environment.get_template(_TEMPLATE).render(
        manufacturer=MANUFACTURER,
        version=software_version(),
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=implementation_version_name(),
        storage_classes=_named(each.sop_class_uid for each in storage),
        storage_syntaxes=_named(_syntaxes(storage)),
        verification_syntaxes=_named(verification_context().transfer_syntaxes),
        commitment=NamedUid(COMMITMENT.name, str(COMMITMENT)),
        commitment_syntaxes=_named(UNCOMPRESSED),
        commitment_failures=[
            StatusMeaning(f"0x{each:04X}", each.name.replace("_", " ").capitalize()) for each in FailureReason
        ],
        made_classes=_named(_MADE[kind] for kind in ResultObject),
        refusals=_refusals(),
        answers=[StatusMeaning(f"0x{each:04X}", _made_of(each)) for each in _ANSWERS],
        ciphers=CIPHERS,
        dicom_options=[*_options("dicom", dicom), *_options("dicom.tls", DicomTlsSettings())],
        character_sets=sorted(term for term in pydicom.charset.python_encoding if term),
        private_scheme=PRIVATE_SCHEME,
        private_scheme_name=PRIVATE_SCHEME_NAME,
        private_codes=private_codes(),
    )


def private_codes() -> list[Code]:
    """Every code of the private scheme, by value."""
    found: dict[str, Code] = {}
    for value in vars(schemas.codes).values():
        for member in value if isinstance(value, EnumType) else [value]:
            code = member if isinstance(member, Code) else getattr(member, "code", None)
            if isinstance(code, Code) and code.scheme == PRIVATE_SCHEME:
                found[code.value] = code
    return [found[value] for value in sorted(found)]


def _refusals() -> list[StatusMeaning]:
    """What a C-STORE is answered with when it is not accepted, from the tree of errors."""
    said = {PROCESSING_FAILURE: "Storing failed for a reason of the node's own."}
    errors: list[type[ChexnodeError]] = [ChexnodeError, *_below(ChexnodeError)]
    for error in errors:
        if "dimse_status" in vars(error):
            said.setdefault(error.dimse_status, (error.__doc__ or "").strip().split("\n")[0])
    # What the base class stands for.
    said[ChexnodeError.dimse_status] = "The data set cannot be read as DICOM."
    return [StatusMeaning(f"0x{status:04X}", said[status]) for status in sorted(said)]


def _below(error: type[ChexnodeError]) -> list[type[ChexnodeError]]:
    return [each for below in error.__subclasses__() for each in (below, *_below(below))]


def _made_of(status: int) -> str:
    if status == 0x0000:
        return "Delivered."
    if status >> 12 == 0xB:
        return "Delivered; the warning is kept with the delivery."
    if status == 0x0111:
        return "Delivered: an earlier attempt got through, and its answer did not."
    if refused_for_good(status):
        return "Given up, with the reason; an operator can send it again."
    if out_of_resources(status):
        return "Sent again; after several failures in a row the destination is left alone for a while."
    return "Sent again with growing waits, until it is given up after a stated time."


def _syntaxes(contexts: Iterable[OfferedContext]) -> set[str]:
    return {syntax for context in contexts for syntax in context.transfer_syntaxes}


def _named(uids: Iterable[str]) -> list[NamedUid]:
    named = {NamedUid(UID(uid).name, str(uid)) for uid in uids}
    return sorted(named, key=lambda each: (each.name, each.uid))


def _options(section: str, settings: BaseModel) -> list[Option]:
    return [
        Option(f"{section}.{name}", _shown(getattr(settings, name)))
        for name in type(settings).model_fields
        if not isinstance(getattr(settings, name), BaseModel)
    ]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value not in (None, "", []) else "none"
