"""How a score is said: a probability in per cent where it is one, and what its calibration rests on.

Called by the pages, the tables of `chexnode analyze` and `chexnode demo`, and the overlay's legend.
"""

from collections.abc import Iterable

from schemas.result import CalibrationReference, FindingResult, TubeResult


def score_number(result: FindingResult | TubeResult) -> str:
    """ "87 %" of a probability, "0.87" of any other score; never as if it were certain."""
    return _per_cent(result.score) if result.calibrated else score_words(result.score)


def malposition_number(tube: TubeResult) -> str:
    """The score of malposition as `score_number` says one; "" without."""
    if tube.malposition_score is None:
        return ""
    is_probability = _malposition_is_probability(tube)
    return _per_cent(tube.malposition_score) if is_probability else score_words(tube.malposition_score)


def malposition_words(tube: TubeResult) -> str:
    """`calibration_words` of the score of malposition."""
    return calibration_words(tube.malposition_calibration, _malposition_is_probability(tube))


def score_words(score: float) -> str:
    """A score with two digits, and never as if it were certain."""
    return ">0.99" if score > 0.995 else "<0.01" if score < 0.005 else f"{score:.2f}"


def calibration_words(reference: CalibrationReference | None, is_probability: bool) -> str:
    """What a score may be read as, and by which data: one or two sentences for a tooltip."""
    if reference is None:
        return "A probability." if is_probability else "A score, not a probability: it is not calibrated."
    data = f"calibrated on {reference.data} (n = {reference.n}, prevalence {100 * reference.prevalence:.1f} %)"
    return f"{'A probability where it is as frequent' if is_probability else 'A score, not a probability'}: {data}."


def meaning_of_scores(results: Iterable[FindingResult | TubeResult]) -> str:
    """The sentence under a list of scores."""
    kinds = set()
    for each in results:
        kinds.add(each.calibrated)
        if isinstance(each, TubeResult) and each.malposition_score is not None:
            kinds.add(_malposition_is_probability(each))
    if True not in kinds:
        return "Scores are not probabilities."
    frequent = "a probability where the finding is as frequent as among the patients of its calibration"
    return f"A number in per cent is {frequent}" + ("; any other score is none." if False in kinds else ".")


def _malposition_is_probability(tube: TubeResult) -> bool:
    return tube.malposition_calibration is not None and tube.malposition_calibration.real


def _per_cent(score: float) -> str:
    return ">99 %" if score > 0.995 else "<1 %" if score < 0.005 else f"{100 * score:.0f} %"
