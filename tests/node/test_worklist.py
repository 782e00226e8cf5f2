"""What the list shows: filters, search, counts and parts, on both databases."""

from node.ledger.changes import Changes
from node.ledger.ledger import Ledger
from node.reading import mark
from node.worklist import PAGE_ROWS, Selection, Show, Worklist, read_worklist
from schemas.codes import Finding, TubePosition
from schemas.result import Urgency
from schemas.tables import ReadState
from tests.node.studies import WAITS, add_study, commit_result, document


def read(ledger: Ledger, selection: Selection) -> Worklist:
    with ledger.read() as session:
        return read_worklist(session, selection)


def uids(found: Worklist) -> list[str]:
    return [row.study.study_instance_uid for row in found.rows]


def test_filters_choose_and_counts_tell_of_all_open_studies(ledger: Ledger) -> None:
    for number in range(5):
        add_study(ledger, f"1.{number}", waited=100 - number)
    commit_result(ledger, document("1.3", TubePosition.ABNORMAL, set()))
    commit_result(ledger, document("1.2", None, {Finding.CARDIOMEGALY}))
    ledger.write(lambda session: mark(session, ["1.1"], ReadState.OPENED, "a", WAITS))
    ledger.write(lambda session: mark(session, ["1.0"], ReadState.READ, "a", WAITS))
    add_study(ledger, "1.9", waited=25 * 3600)
    assert uids(read(ledger, Selection())) == ["1.9", "1.3", "1.2", "1.1", "1.4"]
    assert uids(read(ledger, Selection(flagged=True))) == ["1.3"]
    assert uids(read(ledger, Selection(urgency=Urgency.SOON))) == ["1.2"]
    assert uids(read(ledger, Selection(show=Show.NEW))) == ["1.9", "1.3", "1.2", "1.4"]
    assert uids(read(ledger, Selection(show=Show.OPENED))) == ["1.1"]
    assert uids(read(ledger, Selection(show=Show.READ))) == ["1.0"]
    assert uids(read(ledger, Selection(show=Show.ALL))) == ["1.9", "1.4", "1.3", "1.2", "1.1", "1.0"]
    counts = read(ledger, Selection(flagged=True)).counts
    assert (counts.open, counts.flagged, counts.overdue, counts.new) == (5, 1, 1, 4)


def test_the_search_finds_names_in_any_script_and_width_and_takes_no_wildcards(ledger: Ledger) -> None:
    add_study(ledger, "1.1", name="Yamada^Tarou=山田^太郎=やまだ^たろう")
    add_study(ledger, "1.2", name="Müller^Änne")
    add_study(ledger, "1.3", name="100%^Sure")
    for words, expected in (
        ("yamada tarou", ["1.1"]),
        ("TAROU", ["1.1"]),
        ("山田", ["1.1"]),
        ("太郎 山田", ["1.1"]),
        ("ＹＡＭＡＤＡ", ["1.1"]),
        ("müller", ["1.2"]),
        ("ÄNNE", ["1.2"]),
        ("0%", ["1.3"]),
        ("_", []),
        ("id-1.3", ["1.3"]),
        ("1.2", ["1.2"]),
        ("  ", ["1.1", "1.2", "1.3"]),
    ):
        assert uids(read(ledger, Selection(search=words))) == expected, words


def test_a_long_list_comes_in_parts_without_gap_or_overlap(ledger: Ledger) -> None:
    for number in range(PAGE_ROWS + 3):
        add_study(ledger, f"1.{number}", waited=1000 - number)
    first, second = read(ledger, Selection()), read(ledger, Selection(page=1))
    assert (first.more, second.more) == (True, False)
    assert uids(first) + uids(second) == [f"1.{number}" for number in range(PAGE_ROWS + 3)]


def test_changes_are_told_once_whoever_made_them(ledger: Ledger) -> None:
    add_study(ledger, "1.1")
    changes = Changes(ledger)
    assert changes.take() == {"1.1"}  # just before counts too: a page that was rendered meanwhile misses nothing
    assert changes.take() == set()
    other = Ledger(ledger.url)
    add_study(other, "1.2")
    commit_result(other, document("1.1", TubePosition.ABNORMAL, set()))
    assert changes.take() == {"1.1", "1.2"}
    assert changes.take() == set()
    other.write(lambda session: mark(session, ["1.2"], ReadState.READ, "a", WAITS))
    assert changes.take() == {"1.2"}
    other.close()
