"""Urgency is the most pressing category, and nothing pressing is routine."""

from hypothesis import given
from hypothesis import strategies as st

from node.triage import malpositioned_tube, urgency
from schemas.codes import Device, Finding, TubePosition
from schemas.result import FindingResult, ImageResult, TubeResult, Urgency


def image(present: set[Finding], position: TubePosition | None) -> ImageResult:
    return ImageResult(
        sop_instance_uid="1.2",
        rows=1,
        columns=1,
        segments=[],
        findings=[
            FindingResult(
                finding=finding,
                score=0.9 if finding in present else 0.1,
                operating_point=0.5,
                calibrated=False,
                present=finding in present,
            )
            for finding in Finding
        ],
        tubes=[
            TubeResult(
                device=Device.ENDOTRACHEAL_TUBE,
                present=position is not None,
                score=0.9,
                operating_point=0.5,
                calibrated=False,
                position=position,
            )
        ],
    )


images = st.builds(image, st.sets(st.sampled_from(Finding)), st.none() | st.sampled_from(TubePosition))
ORDER = [Urgency.IMMEDIATE, Urgency.URGENT, Urgency.SOON, Urgency.ROUTINE]


def test_a_malpositioned_tube_is_immediate_and_flagged() -> None:
    assert urgency([image(set(), TubePosition.ABNORMAL)]) is Urgency.IMMEDIATE
    assert malpositioned_tube([image(set(), None), image(set(), TubePosition.ABNORMAL)])


def test_nothing_is_routine() -> None:
    assert urgency([image(set(), TubePosition.NORMAL)]) is Urgency.ROUTINE
    assert urgency([]) is Urgency.ROUTINE
    assert not malpositioned_tube([image(set(Finding), TubePosition.BORDERLINE)])


@given(st.lists(images), images)
def test_another_image_never_makes_a_study_less_urgent(some: list[ImageResult], other: ImageResult) -> None:
    assert ORDER.index(urgency([*some, other])) <= ORDER.index(urgency(some))
    assert urgency([other, *some]) is urgency([*some, other])
