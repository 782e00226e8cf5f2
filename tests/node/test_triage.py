"""Urgency is the most pressing category, and nothing pressing is routine."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from node.triage import (
    allowed_wait,
    is_backfill,
    malpositioned_tube,
    more_pressing,
    order_priority,
    study_urgency,
    urgency,
)
from schemas.codes import Finding, TubePosition
from schemas.result import ImageResult, OrderPriority, Urgency
from schemas.settings import AllowedWaits
from tests.node.studies import image

images = st.builds(image, st.sets(st.sampled_from(Finding)), st.none() | st.sampled_from(TubePosition))
ORDER = [Urgency.IMMEDIATE, Urgency.URGENT, Urgency.SOON, Urgency.ROUTINE]


def test_a_malpositioned_tube_is_immediate_and_flagged() -> None:
    assert urgency([image(set(), TubePosition.ABNORMAL)]) is Urgency.IMMEDIATE
    assert malpositioned_tube([image(set(), None), image(set(), TubePosition.ABNORMAL)])


def test_nothing_is_routine() -> None:
    assert urgency([image(set(), TubePosition.NORMAL)]) is Urgency.ROUTINE
    assert urgency([]) is Urgency.ROUTINE
    assert not malpositioned_tube([image(set(Finding), TubePosition.BORDERLINE)])


def test_a_finding_that_asks_for_nobody_leaves_a_study_routine() -> None:
    quiet = {each for each in Finding if each.category is None}
    assert {Finding.NORMAL, Finding.SUPPORT_DEVICES, Finding.AZYGOS_LOBE} <= quiet
    assert urgency([image(quiet, None)]) is Urgency.ROUTINE
    assert urgency([image(quiet | {Finding.NODULE}, None)]) is Urgency.SOON
    assert urgency([image(quiet | {Finding.NODULE, Finding.PNEUMOPERITONEUM}, None)]) is Urgency.URGENT


@given(st.lists(images), images)
def test_another_image_never_makes_a_study_less_urgent(some: list[ImageResult], other: ImageResult) -> None:
    assert ORDER.index(urgency([*some, other])) <= ORDER.index(urgency(some))
    assert urgency([other, *some]) is urgency([*some, other])


@pytest.mark.parametrize(
    ("date_time", "backfill"),
    [
        ("20261122120000", False),
        ("20261120120000", False),
        ("20261119115959", True),
        ("202611191159", True),
        ("20261119", False),  # a date alone counts from the end of its day
        ("20261118", True),
        ("20270101", False),
        ("", False),
        ("00000000", False),
        ("19991", False),
    ],
)
def test_old_studies_are_backfill_and_studies_without_a_date_are_not(date_time: str, backfill: bool) -> None:
    assert is_backfill(date_time, datetime(2026, 11, 22, 12, 0, 0), after_hours=72) is backfill


def test_the_order_priority_is_read_wherever_it_stands() -> None:
    header = Dataset()
    assert order_priority(header) is OrderPriority.ROUTINE
    header.RequestedProcedurePriority = "MEDIUM"
    assert order_priority(header) is OrderPriority.ROUTINE
    item = Dataset()
    item.RequestedProcedurePriority = "stat "
    header.RequestAttributesSequence = [item]
    assert order_priority(header) is OrderPriority.STAT
    header.RequestAttributesSequence = []
    header.RequestedProcedurePriority = "HIGH"
    assert order_priority(header) is OrderPriority.HIGH


@given(st.sampled_from(Urgency), st.sampled_from(OrderPriority))
def test_a_study_is_never_less_urgent_than_its_results_or_its_order_and_an_order_is_never_immediate(
    results: Urgency, order: OrderPriority
) -> None:
    combined = study_urgency(results, order)
    assert not more_pressing(results, combined)
    assert (combined is Urgency.IMMEDIATE) == (results is Urgency.IMMEDIATE)
    assert allowed_wait(combined, AllowedWaits()) <= allowed_wait(results, AllowedWaits())
