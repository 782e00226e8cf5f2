"""Text of a received header to Unicode, whatever its character set says (PS3.5 section 6.1)."""

import re
from collections.abc import Sequence

from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

#: Stands where bytes could not be decoded: visible in every viewer, in every character set, and in no real name.
UNDECODABLE = "?"

_ESCAPE = b"\x1b"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
#: Modalities write ISO-IR 100, ISO IR 100 and ISO_IR_100.
_SEPARATOR = re.compile(r"^(ISO|ISO 2022)[ _-]IR[ _-]")
#: pydicom's name for the default repertoire and for whatever it does not know.
_UNDECLARED = "iso8859"


def encodings_of(specific_character_set: Sequence[str]) -> list[str]:
    """Python encodings of the values of Specific Character Set (0008,0005); unknown terms mean the default."""
    terms = [_SEPARATOR.sub(r"\1_IR ", term.strip().upper()) for term in specific_character_set]
    terms = [term.replace("2022_IR", "2022 IR") for term in terms]
    return convert_encodings([term if term in python_encoding else "" for term in terms]) or [_UNDECLARED]


def decode(value: bytes, encodings: Sequence[str], *, is_name: bool) -> str:
    """`value` as Unicode; what cannot be decoded reads `UNDECODABLE`. Never raises."""
    if _ESCAPE in value:
        text = decode_bytes(value, encodings, PN_DELIMS if is_name else TEXT_VR_DELIMS)
    elif encodings[0] == _UNDECLARED:
        text = _decode_undeclared(value)
    else:
        text = value.decode(encodings[0], errors="replace")
    return flag_undecodable(text)


def flag_undecodable(text: str) -> str:
    return text.replace("\ufffd", UNDECODABLE)


def printable(text: str) -> str:
    """`text` without control characters and lone surrogates, and without the padding that DICOM allows."""
    return _CONTROL.sub("", text).strip(" ")


def _decode_undeclared(value: bytes) -> str:
    # No character set was declared, so only ASCII is allowed. Modalities send UTF-8 or Latin-1 all the same, and
    # archives show the latter; bytes that are letters in neither are flagged.
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        letters = value.decode("latin-1")
    return "".join(letter if letter.isascii() or letter.isalpha() else UNDECODABLE for letter in letters)
