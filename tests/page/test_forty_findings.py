"""The pages stay readable when a bundle scores forty findings and nobody has given it operating points yet."""

import re

from node.triage import urgency
from schemas.codes import CXR_LT, Finding
from schemas.result import FindingResult, ImageResult, StudyResult
from tests.node.studies import add_study, commit_result, document
from tests.page.conftest import ServedPage
from workers.analyze import describe


def forty(present: dict[Finding, bool]) -> StudyResult:
    """A result of one image: what is not in `present` is undetermined, its score the less the later it comes."""
    made = document("1.1", None, set())
    findings = [
        FindingResult(
            finding=each,
            score=0.9 if present.get(each) else 0.4 - number / 100,
            operating_point=0.5 if each in present else None,
            calibrated=False,
            present=present.get(each),
        )
        for number, each in enumerate(CXR_LT)
    ]
    image: ImageResult = made.images[0].model_copy(update={"findings": findings, "tubes": []})
    return made.model_copy(update={"images": [image], "urgency": urgency([image])})


def committed(page: ServedPage, made: StudyResult) -> None:
    add_study(page.ledger, "1.1")
    commit_result(page.ledger, made)


def names(html: str) -> list[str]:
    """Findings with a score, in the order in which the page has them."""
    return [each.strip() for each in re.findall(r'<span class="finding">([^<]+)', html)]


def test_the_study_page_folds_what_says_least(page: ServedPage) -> None:
    committed(page, forty({Finding.TUBERCULOSIS: True, Finding.NORMAL: False}))
    text = page.browser().get("/studies/1.1").text
    before, folded = text.split("<details", 1)
    assert names(before) == [
        "Pulmonary tuberculosis",
        "Normal",
        "Hydropneumothorax",
        "Pulmonary infarction",
        "Pneumomediastinum",
    ]
    assert "<summary>35 more: undetermined</summary>" in folded
    assert len(names(folded)) == 35


def test_a_row_of_the_worklist_grows_with_neither_forty_undetermined_nor_forty_present(page: ServedPage) -> None:
    committed(page, forty({}))
    text = page.browser().get("/").text
    assert names(text) == []
    assert "Not assessed: hydropneumothorax, pneumomediastinum, pneumoperitoneum, pneumothorax and 36 more." in text
    assert "No finding was assessed. Routine" in text
    commit_result(page.ledger, forty(dict.fromkeys(Finding, True)).model_copy(update={"version": 2}))
    text = page.browser().get("/").text
    shown = names(text)
    assert len(shown) <= 6
    assert "Pneumothorax" in shown, "what is pressing comes before what is certain"
    assert f"and {40 - len(shown)} more called present" in text


def test_a_normal_chest_with_devices_is_no_finding(page: ServedPage) -> None:
    quiet = {each: each in (Finding.NORMAL, Finding.SUPPORT_DEVICES) for each in Finding}
    committed(page, forty(quiet))
    text = page.browser().get("/").text
    assert "No finding was called present. Routine" in text
    assert 'class="score noted"' in text and 'class="score present"' not in text
    commit_result(page.ledger, forty({**quiet, Finding.KYPHOSIS: True}).model_copy(update={"version": 2}))
    assert "No finding that is pressing was called present. Routine" in page.browser().get("/").text


def test_a_study_is_as_normal_as_its_least_normal_image(page: ServedPage) -> None:
    made = forty(dict.fromkeys(Finding, False) | {Finding.NORMAL: True})
    other = forty(dict.fromkeys(Finding, False)).images[0]
    committed(page, made.model_copy(update={"images": [*made.images, other]}))
    text = page.browser().get("/").text
    assert "Normal" not in names(text)


def test_the_commands_say_it_in_one_line_as_well() -> None:
    said = describe(forty({Finding.NORMAL: True, Finding.MASS: True}))
    assert said.startswith("Mass, Normal; undetermined: hydropneumothorax (")
    assert "and 34 more; urgency" in said
