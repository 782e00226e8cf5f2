"""The pages say what a number may be read as: a score, or a probability with what it was made on."""

import re

import pytest

from node.results.score_words import malposition_number, score_number
from schemas.codes import Finding, TubePosition
from schemas.result import CalibrationReference, StudyResult
from tests.node.studies import document
from tests.page.conftest import ServedPage
from tests.page.test_forty_findings import committed

REAL = CalibrationReference(data="films of ward 7", n=812, prevalence=0.125, real=True)


def made(reference: CalibrationReference | None) -> StudyResult:
    """A result whose findings were calibrated so."""
    plain = document("1.1", None, {Finding.PLEURAL_EFFUSION})
    image = plain.images[0]
    changed = {"calibration": reference, "calibrated": reference is not None and reference.real}
    findings = [each.model_copy(update=changed) for each in image.findings]
    return plain.model_copy(update={"images": [image.model_copy(update={"findings": findings, "tubes": []})]})


@pytest.mark.parametrize(
    ("reference", "number", "tooltip", "below"),
    [
        (None, "0.90", "A score, not a probability: it is not calibrated.", "Scores are not probabilities."),
        (
            REAL.model_copy(update={"data": "phantoms", "real": False}),
            "0.90",
            "A score, not a probability: calibrated on phantoms (n = 812, prevalence 12.5 %).",
            "Scores are not probabilities.",
        ),
        (
            REAL,
            "90 %",
            "A probability where it is as frequent: calibrated on films of ward 7 (n = 812, prevalence 12.5 %).",
            "A number in per cent is a probability where the finding is as frequent",
        ),
    ],
)
def test_a_number_says_what_it_may_be_read_as(
    page: ServedPage, reference: CalibrationReference | None, number: str, tooltip: str, below: str
) -> None:
    committed(page, made(reference))
    for address in ("/", "/studies/1.1"):
        text = page.browser().get(address).text
        shown = re.findall(
            r'<li class="score present" title="([^"]*)">.*?<span class="number">([^<]*)', text, re.DOTALL
        )
        # In a page > and < are written in letters, and here there are none.
        assert shown == [(tooltip, number)], address
    assert below in re.sub(r"\s+", " ", text)


def test_where_only_malposition_was_calibrated_the_page_says_what_its_per_cent_is(page: ServedPage) -> None:
    plain = document("1.1", TubePosition.NORMAL, set())
    image = plain.images[0]
    judged = {"malposition_score": 0.25, "malposition_calibration": REAL}
    tubes = [each.model_copy(update=judged) for each in image.tubes]
    committed(page, plain.model_copy(update={"images": [image.model_copy(update={"tubes": tubes})]}))
    text = re.sub(r"\s+", " ", page.browser().get("/studies/1.1").text)
    assert re.search(r'title="A probability where it is as frequent: calibrated on films of ward 7[^"]*">25 %<', text)
    assert "Scores are not probabilities." not in text
    assert "A number in per cent is a probability" in text and "any other score is none" in text


def test_no_number_looks_certain() -> None:
    finding = made(REAL).images[0].findings[0]
    assert score_number(finding.model_copy(update={"score": 0.9999})) == ">99 %"
    assert score_number(finding.model_copy(update={"score": 0.0001})) == "<1 %"
    assert score_number(finding.model_copy(update={"score": 0.9999, "calibrated": False})) == ">0.99"
    tube = document("1.1", None, set()).images[0].tubes[0]
    lying = tube.model_copy(update={"malposition_score": 0.25, "malposition_calibration": REAL})
    assert malposition_number(lying) == "25 %"
    assert malposition_number(lying.model_copy(update={"malposition_calibration": None})) == "0.25"
