"""Whether an image is a frontal chest radiograph at all, and why not: asked before anything is said of a patient.

Called by workers/interpret.py. Routing has asked the header before (node/intake/routing.py), and an image all of whose
pixels are alike has not come so far (workers/preparation.py); here the model answers.
"""

from collections.abc import Mapping

from schemas.bundle import Acceptance, Manifest

_REASONS = {
    Acceptance.LATERAL: "lateral view",
    Acceptance.NOT_CHEST: "not a chest radiograph",
    Acceptance.TURNED: "turned or upside down",
    Acceptance.INVERTED: "inverted grey scale",
    Acceptance.EMPTY: "empty or noise",
}
#: Where the model says that it is no frontal chest, and has no class that says what else it is.
_UNKNOWN = "not a frontal chest radiograph"


def refusal(scores: Mapping[str, float], manifest: Manifest) -> str:
    """Why the image is refused, in a few words that name the model as the one who says so; "" when it is not.

    `scores` are those of the manifest's classes by target, 0..1. A bundle that has no class of FRONTAL_CHEST, or no
    operating point for it, refuses nothing.
    """
    frontal = next((each for each in manifest.classes if each.target == Acceptance.FRONTAL_CHEST), None)
    if frontal is None or frontal.operating_point is None:
        return ""
    if scores[Acceptance.FRONTAL_CHEST] >= frontal.operating_point:
        return ""
    others = [kind for kind in _REASONS if kind in scores]
    reason = _REASONS[max(others, key=lambda kind: scores[kind])] if others else _UNKNOWN
    return f"{reason} (the model's reading)"
