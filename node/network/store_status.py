"""What the status of a C-STORE response means, and what its sender can do (PS3.4 table B.2-1, PS3.7 annex C)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StoreStatus:
    """One class of status in words."""

    words: str
    #: "" where there is nothing to do.
    to_do: str = ""


_GENERAL = {
    0x0000: StoreStatus("stored"),
    0x0110: StoreStatus("processing failed", "Look at the peer's log."),
    0x0111: StoreStatus(
        "refused: it has an object with this SOP Instance UID",
        "Nothing is lost when it is the same object; otherwise the file needs a UID of its own.",
    ),
    0x0117: StoreStatus("refused: the SOP Instance UID is no UID", "Have the device that made the file mended."),
    0x0122: StoreStatus(
        "refused: it does not store objects of this SOP class",
        "Enable the SOP class at the peer; sending again does not help until then.",
    ),
    0x0124: StoreStatus(
        "refused: not authorised", "Have this calling AE title allowed to store at the peer, or use one that is."
    ),
    0x0213: StoreStatus("refused: short of resources", "Try again later; look at the peer's log when it stays so."),
}

_OUT_OF_RESOURCES = StoreStatus(
    "refused for now: out of resources",
    "Free space on the peer's disk (CheXNode: chexnode doctor there), then send again.",
)
_NO_MATCH = StoreStatus(
    "refused: the data set is not what the request says",
    "The file's UIDs or SOP class contradict each other: have it exported again; sending it again does not help.",
)
_CANNOT_UNDERSTAND = StoreStatus(
    "refused: the peer cannot read it",
    "Check the file (dcmdump, dciodvfy), it may be cut off or damaged; sending it again does not help.",
)
_STORED_WITH_WARNING = StoreStatus("stored with a warning", "Nothing is lost; the peer's log says what it changed.")
_WARNINGS = {
    0xB000: StoreStatus("stored; elements were coerced", _STORED_WITH_WARNING.to_do),
    0xB006: StoreStatus("stored; elements were discarded", _STORED_WITH_WARNING.to_do),
    0xB007: StoreStatus("stored; the data set does not fit its SOP class", _STORED_WITH_WARNING.to_do),
}


def explain(status: int) -> StoreStatus:
    """The meaning of a status 0x0000 to 0xFFFF."""
    known = _GENERAL.get(status) or _WARNINGS.get(status)
    if known:
        return known
    if status >> 8 == 0xA7:
        return _OUT_OF_RESOURCES
    if status >> 8 == 0xA9:
        return _NO_MATCH
    if status >> 12 == 0xC:
        return _CANNOT_UNDERSTAND
    if status >> 12 == 0xB:
        return _STORED_WITH_WARNING
    return StoreStatus("refused", "The status is none of C-STORE's: look at the peer's log.")
