"""The reading of a study: a flag moves it up, nobody waits without bound, and nothing pressing stays read unseen."""

import threading

import pytest
from sqlalchemy import select

from node.ledger.ledger import Ledger
from node.reading import mark, next_to_read, reschedule
from node.worklist import Selection, Show, place_in_words, read_worklist
from schemas.codes import Finding, TubePosition
from schemas.errors import StudyNotFoundError
from schemas.result import OrderPriority, Urgency
from schemas.settings import AllowedWaits
from schemas.tables import ReadState, Study
from tests.node.studies import WAITS, add_study, commit_result, document

HOUR = 3600.0


def order(ledger: Ledger, selection: Selection = Selection()) -> list[str]:  # noqa: B008 - frozen
    with ledger.read() as session:
        return [row.study.study_instance_uid for row in read_worklist(session, selection).rows]


def study(ledger: Ledger, uid: str) -> Study:
    with ledger.read() as session:
        return session.scalars(select(Study).where(Study.study_instance_uid == uid)).one()


def set_state(ledger: Ledger, uid: str, state: ReadState, who: str = "reader") -> int:
    return len(ledger.write(lambda session: mark(session, [uid], state, who, WAITS)))


def test_the_flag_of_a_malpositioned_tube_moves_a_study_to_the_top(ledger: Ledger) -> None:
    for number in range(3):
        add_study(ledger, f"1.{number}", waited=HOUR * (3 - number))
    assert order(ledger) == ["1.0", "1.1", "1.2"]
    commit_result(ledger, document("1.2", TubePosition.ABNORMAL, set()))
    assert order(ledger) == ["1.2", "1.0", "1.1"]
    with ledger.read() as session:
        first = read_worklist(session, Selection()).rows[0]
    assert "Endotracheal tube abnormal" in place_in_words(first, WAITS)
    assert "within 15 min" in place_in_words(first, WAITS)


def test_a_routine_study_that_has_waited_long_enough_goes_before_a_new_flag(ledger: Ledger) -> None:
    add_study(ledger, "1.1", waited=23.9 * HOUR)
    add_study(ledger, "1.2")
    commit_result(ledger, document("1.2", TubePosition.ABNORMAL, set()))
    assert order(ledger) == ["1.1", "1.2"]


def test_an_order_gives_a_place_before_the_first_result_and_never_outranks_a_flag(ledger: Ledger) -> None:
    add_study(ledger, "1.1", waited=60)
    add_study(ledger, "1.2", order=OrderPriority.STAT)
    add_study(ledger, "1.3", order=OrderPriority.HIGH)
    assert order(ledger) == ["1.2", "1.3", "1.1"]
    commit_result(ledger, document("1.1", TubePosition.ABNORMAL, set()))
    assert order(ledger) == ["1.1", "1.2", "1.3"]
    commit_result(ledger, document("1.2", None, set()))
    assert study(ledger, "1.2").urgency == Urgency.URGENT  # the order's word stands beside a result without findings


def test_backfill_is_never_listed_whatever_its_result(ledger: Ledger) -> None:
    add_study(ledger, "1.1", listed=False)
    commit_result(ledger, document("1.1", TubePosition.ABNORMAL, {Finding.CONSOLIDATION}))
    assert order(ledger) == []
    assert order(ledger, Selection(show=Show.ALL)) == ["1.1"]  # whoever looks for it finds it
    with pytest.raises(StudyNotFoundError):
        set_state(ledger, "1.1", ReadState.READ)


def test_a_study_is_new_then_opened_then_read_and_who_looks_again_does_not_unread_it(ledger: Ledger) -> None:
    add_study(ledger, "1.1")
    assert set_state(ledger, "1.1", ReadState.OPENED, "anna") == 1
    assert (study(ledger, "1.1").read_state, study(ledger, "1.1").opened_by) == ("opened", "anna")
    assert order(ledger) == ["1.1"]
    assert set_state(ledger, "1.1", ReadState.READ, "anna") == 1
    assert order(ledger) == []
    assert order(ledger, Selection(show=Show.READ)) == ["1.1"]
    assert set_state(ledger, "1.1", ReadState.OPENED, "bert") == 0
    assert (study(ledger, "1.1").read_state, study(ledger, "1.1").read_by) == ("read", "anna")


def test_a_study_marked_as_new_again_takes_its_old_place_back(ledger: Ledger) -> None:
    add_study(ledger, "1.1", waited=HOUR)
    add_study(ledger, "1.2")
    before = study(ledger, "1.1").due_at
    set_state(ledger, "1.1", ReadState.READ)
    assert study(ledger, "1.1").due_at is None
    set_state(ledger, "1.1", ReadState.NEW)
    assert study(ledger, "1.1").due_at == pytest.approx(before)
    assert order(ledger) == ["1.1", "1.2"]


def test_a_more_pressing_result_after_the_reading_brings_the_study_back(ledger: Ledger) -> None:
    add_study(ledger, "1.1", waited=30 * HOUR)
    commit_result(ledger, document("1.1", None, {Finding.CONSOLIDATION}))
    set_state(ledger, "1.1", ReadState.READ)
    commit_result(ledger, document("1.1", None, {Finding.CONSOLIDATION}, version=2))
    assert order(ledger) == []  # nothing more pressing: it stays read
    commit_result(ledger, document("1.1", TubePosition.ABNORMAL, set(), version=3))
    assert order(ledger) == ["1.1"]
    with ledger.read() as session:
        (row,) = read_worklist(session, Selection()).rows
    assert row.study.read_state == "new"
    assert "after it was read" in place_in_words(row, WAITS)
    assert row.waited < 60  # it waits from now on, not since yesterday


def test_the_most_pressing_bundle_decides_and_no_other_takes_it_back(ledger: Ledger) -> None:
    add_study(ledger, "1.1")
    commit_result(ledger, document("1.1", TubePosition.ABNORMAL, set(), bundle="tubes"))
    commit_result(ledger, document("1.1", None, {Finding.CARDIOMEGALY}, bundle="findings"))
    assert (study(ledger, "1.1").urgency, study(ledger, "1.1").malpositioned_tube) == (Urgency.IMMEDIATE, True)
    commit_result(ledger, document("1.1", TubePosition.NORMAL, set(), version=2, bundle="tubes"))
    assert (study(ledger, "1.1").urgency, study(ledger, "1.1").malpositioned_tube) == (Urgency.SOON, False)


def test_another_bundles_flag_after_the_reading_brings_the_study_back(ledger: Ledger) -> None:
    add_study(ledger, "1.1")
    commit_result(ledger, document("1.1", None, {Finding.CARDIOMEGALY}, bundle="findings"))
    set_state(ledger, "1.1", ReadState.READ)
    commit_result(ledger, document("1.1", TubePosition.NORMAL, set(), bundle="tubes"))
    assert order(ledger) == []
    commit_result(ledger, document("1.1", TubePosition.ABNORMAL, set(), version=2, bundle="tubes"))
    assert order(ledger) == ["1.1"]


def test_changed_waits_give_every_waiting_study_its_new_place(ledger: Ledger) -> None:
    add_study(ledger, "1.1", waited=HOUR)
    add_study(ledger, "1.2")
    add_study(ledger, "1.3")
    set_state(ledger, "1.3", ReadState.READ)
    commit_result(ledger, document("1.2", None, {Finding.CONSOLIDATION}))
    assert order(ledger) == ["1.2", "1.1"]
    same = AllowedWaits(immediate=60, urgent=60, soon=60, routine=60)
    ledger.write(lambda session: reschedule(session, same))
    assert order(ledger) == ["1.1", "1.2"]
    assert study(ledger, "1.3").due_at is None


def test_one_study_that_is_not_listed_leaves_all_of_a_batch_unmarked(ledger: Ledger) -> None:
    add_study(ledger, "1.1")
    with pytest.raises(StudyNotFoundError, match=r"9\.9"):
        ledger.write(lambda session: mark(session, ["1.1", "9.9"], ReadState.READ, "x", WAITS))
    assert order(ledger) == ["1.1"]


def test_a_mark_and_a_flag_at_the_same_time_never_leave_the_flag_unread(ledger: Ledger) -> None:
    for number in range(8):
        uid = f"1.{number}"
        add_study(ledger, uid)
        other = Ledger(ledger.url)
        flag = threading.Thread(target=commit_result, args=(other, document(uid, TubePosition.ABNORMAL, set())))
        flag.start()
        set_state(ledger, uid, ReadState.READ)
        flag.join()
        other.close()
        found = study(ledger, uid)
        # Either the flag was there when it was marked, or it brought the study back; never half of both.
        assert (found.read_state == ReadState.READ) == (found.due_at is None)
        assert found.read_state == ReadState.READ or found.reopened_reason


def test_who_comes_next_is_not_sent_to_what_somebody_else_reads(ledger: Ledger) -> None:
    add_study(ledger, "1.1", waited=HOUR)
    add_study(ledger, "1.2")
    set_state(ledger, "1.1", ReadState.OPENED, "anna")
    with ledger.read() as session:
        assert next_to_read(session, "bert") == "1.2"
        assert next_to_read(session, "anna") == "1.1"
        assert next_to_read(session, "bert", apart_from="1.2") is None
