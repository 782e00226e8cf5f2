"""Codes of the vocabulary as highdicom's content items want them."""

from highdicom import AlgorithmIdentificationSequence
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import AlgorithmIdentification, CodedConcept
from pydicom.sr.codedict import codes

from schemas.codes import PRIVATE_SCHEME, PRIVATE_SCHEME_NAME, Code
from schemas.identity import MANUFACTURER
from schemas.result import BundleReference, EngineReference

#: Designator, name and registered UID of the schemes in use (PS3.16 table 8-1).
_SCHEMES = (
    ("DCM", "DICOM Controlled Terminology", "1.2.840.10008.2.16.4"),
    ("SCT", "SNOMED CT", "2.16.840.1.113883.6.96"),
    ("UCUM", "Unified Code for Units of Measure", "2.16.840.1.113883.6.8"),
    ("RADLEX", "RadLex", "2.16.840.1.113883.6.256"),
    ("UMLS", "Unified Medical Language System", "2.16.840.1.113883.6.86"),
)


def concept(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme, code.meaning)


def coding_schemes() -> list[CodingSchemeIdentificationItem]:
    """Items of Coding Scheme Identification Sequence (PS3.3 C.12.1); the private scheme has to be declared there."""
    return [
        CodingSchemeIdentificationItem(
            PRIVATE_SCHEME, name=PRIVATE_SCHEME_NAME, responsible_organization=f"{MANUFACTURER} project"
        ),
        *(CodingSchemeIdentificationItem(scheme, name, registry="HL7", uid=uid) for scheme, name, uid in _SCHEMES),
    ]


def algorithm_of_report(bundle: BundleReference, engine: EngineReference) -> AlgorithmIdentification:
    """TID 4019: the model bundle, and what a figure has to be traced to."""
    return AlgorithmIdentification(
        name=bundle.name,
        version=bundle.version,
        manufacturer=MANUFACTURER,
        family=codes.DCM.ArtificialIntelligence,
        parameters=[
            f"bundle {bundle.digest}, software {engine.software_version}, {engine.device}, {engine.precision}",
        ],
    )


def algorithm_of_segments(bundle: BundleReference) -> AlgorithmIdentificationSequence:
    """Algorithm Identification macro (PS3.3 table 10-19) of a segment."""
    return AlgorithmIdentificationSequence(
        name=bundle.name,
        version=bundle.version,
        source=MANUFACTURER,
        family=codes.DCM.ArtificialIntelligence,
        parameters={"bundle": bundle.digest},
    )
