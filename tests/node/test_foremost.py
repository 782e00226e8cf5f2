"""Many findings are told in an order in which a reader wants them, and in few words."""

from hypothesis import given
from hypothesis import strategies as st

from node.results.foremost import counted, enumerated, foremost, pressing_first, ranked
from schemas.codes import Finding
from schemas.result import FindingResult


def result(finding: Finding, present: bool | None, score: float = 0.5) -> FindingResult:
    operating_point = None if present is None else 0.5
    return FindingResult(
        finding=finding, score=score, operating_point=operating_point, calibrated=False, present=present
    )


scores = st.floats(0, 1)
answers = st.dictionaries(st.sampled_from(Finding), st.tuples(st.sampled_from([True, False, None]), scores)).map(
    lambda said: [result(finding, *answer) for finding, answer in said.items()]
)


def test_what_is_pressing_comes_first_and_a_normal_chest_after_every_pathology() -> None:
    order = [
        result(Finding.PNEUMOTHORAX, True, 0.6),
        result(Finding.ATELECTASIS, True, 0.9),
        result(Finding.NODULE, True, 0.7),
        result(Finding.AZYGOS_LOBE, True, 0.99),
        result(Finding.NORMAL, True, 0.8),
        result(Finding.FRACTURE, False, 0.4),
        result(Finding.HERNIA, False, 0.1),
        result(Finding.PNEUMOTHORAX, None, 0.1),
        result(Finding.ATELECTASIS, None, 0.2),
        result(Finding.AZYGOS_LOBE, None, 0.95),
        result(Finding.NORMAL, None, 0.99),
    ]
    assert ranked(reversed(order)) == order


def test_what_was_not_assessed_is_told_by_how_pressing_it_would_be() -> None:
    order = [Finding.HYDROPNEUMOTHORAX, Finding.PNEUMOTHORAX, Finding.ATELECTASIS, Finding.AZYGOS_LOBE, Finding.NORMAL]
    assert pressing_first(reversed(order)) == order


@given(answers)
def test_nothing_is_lost_and_nothing_that_is_present_is_folded_away(said: list[FindingResult]) -> None:
    first = foremost(said)
    assert sorted(map(repr, [*first.shown, *first.rest])) == sorted(map(repr, said))
    assert not any(each.present for each in first.rest)
    assert not (first.rest and len(said) <= 8)
    for presence in (False, None):
        folded = [each for each in first.rest if each.present is presence]
        shown = [each for each in first.shown if each.present is presence]
        assert [*shown, *folded] == ranked(each for each in said if each.present is presence)
        assert not folded or len(shown) == 3


def test_no_sentence_names_forty() -> None:
    assert enumerated([]) == ""
    assert enumerated(["a", "b", "a"]) == "a, b"
    assert enumerated("abcde") == "a, b, c, d, e"
    assert enumerated("abcdef") == "a, b, c, d and 2 more"


def test_a_rest_is_counted_by_what_is_said_of_it() -> None:
    undetermined = [result(finding, None) for finding in list(Finding)[:30]]
    assert counted(undetermined) == "undetermined"
    assert counted([result(Finding.MASS, True), *undetermined]) == "1 present, 30 undetermined"
    assert counted([]) == ""
