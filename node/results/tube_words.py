"""What is said of a tube in a few words: by the page, the picture of a result, and the tables of the commands alike."""

from schemas.codes import Device
from schemas.result import TipToCarina, TubeResult

_SHORT = {
    Device.ENDOTRACHEAL_TUBE: "ETT",
    Device.NASOGASTRIC_TUBE: "NGT",
    Device.CENTRAL_VENOUS_CATHETER: "CVC",
}


def tube_words(tube: TubeResult) -> str:
    """A tube in one line: "Endotracheal tube abnormal, tip 80 to 96 mm above carina"."""
    name = tube.device.code.meaning
    if not tube.present:
        return f"No {name.lower()}"
    words = f"{name} {tube.position.value.replace('_', ' ')}" if tube.position else f"{name}, position not determined"
    return words if tube.tip_to_carina is None else f"{words}, tip {distance_words(tube.tip_to_carina)}"


def position_words(tube: TubeResult) -> str:
    """The position of a tube that is present: "incompletely imaged"."""
    return tube.position.value.replace("_", " ") if tube.position else "position not determined"


def distance_words(distance: TipToCarina) -> str:
    """ "96 mm above carina"; without a scale only the side."""
    return f"{length_words(distance)} {side_words(distance)}".strip()


def side_words(distance: TipToCarina) -> str:
    """On which side of the carina the tip lies: "above carina"."""
    return f"{'above' if distance.pixels >= 0 else 'below'} carina"


def length_words(distance: TipToCarina) -> str:
    """ "96 mm", or the range in which it lies in the patient, "80 to 96 mm"; "" without a scale."""
    if distance.millimetres is None:
        return ""
    ends = [each for each in (distance.lowest_millimetres, distance.highest_millimetres) if each is not None]
    numbers = sorted({f"{abs(each):.0f}" for each in ends or [distance.millimetres]}, key=int)
    return f"{' to '.join(numbers)} mm"


def short_name(device: Device) -> str:
    """ "ETT": where it stands beside its tip on an image."""
    return _SHORT[device]
