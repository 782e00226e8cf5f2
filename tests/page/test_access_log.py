"""The access log: what is written down of whom, and how an administrator finds it."""

import re
from urllib.parse import quote

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.page import access_log
from node.page.visitor import Visitor
from schemas.account_tables import AccessEntry, Role
from tests.page.conftest import PASSWORD, ServedPage

_UID = "1.2.826.0.1.3680043.8.498.1"


def test_logins_failures_and_log_outs_are_written_down(page: ServedPage) -> None:
    browser = page.logged_in("ada")
    browser.send_form("/logout")
    browser.log_in("ada", "not the password")
    with page.ledger.read() as session:
        entries = list(session.scalars(select(AccessEntry).order_by(AccessEntry.id)))
    assert [(each.account, each.action) for each in entries] == [
        ("ada", "login"),
        ("ada", "logout"),
        ("ada", "login_failed"),
    ]
    assert {each.address for each in entries} == {"127.0.0.1"}
    assert not any(PASSWORD in each.detail for each in entries)


def test_a_change_and_its_entry_are_written_together_or_not_at_all(page: ServedPage) -> None:
    visitor = Visitor("ada", Role.READER, "", "10.0.0.7")
    with page.ledger.read() as session:
        access_log.record(session, visitor, "state", _UID, "read")
    assert _rows(page) == []
    page.ledger.write(lambda session: access_log.record(session, visitor, "state", _UID, "read"))
    access_log.record(page.app.state.page, visitor, "study", _UID)
    assert [(each.action, each.study_instance_uid) for each in _rows(page)] == [("state", _UID), ("study", _UID)]


def test_nothing_that_was_typed_can_forge_an_entry(page: ServedPage) -> None:
    visitor = Visitor("ada\0" * 40, Role.READER, "", "10.0.0.7")
    access_log.record(page.app.state.page, visitor, "worklist", "1.2\n3", "search\r\n\u202eroot" + "x" * 600)
    (row,) = _rows(page)
    assert row.account == ("ada" * 40)[:64]
    assert row.study_instance_uid == "1.23"
    assert row.detail == ("searchroot" + "x" * 600)[:500]


def test_an_administrator_finds_who_saw_a_study(page: ServedPage) -> None:
    for name, uid in (("ada", _UID), ("bob", "1.2.3"), ("ada", "1.2.3")):
        access_log.record(page.app.state.page, Visitor(name, Role.READER, "", "10.0.0.7"), "study", uid)
    browser = page.logged_in("chief", Role.ADMIN)
    assert _shown(browser.get("/access", params={"study": _UID}).text) == [("ada", "study")]
    assert _shown(browser.get("/access", params={"account": "bob"}).text) == [("bob", "study")]
    assert _shown(browser.get("/access").text)[:2] == [("chief", "login"), ("ada", "study")]


def test_the_log_is_paged_without_gap_or_repetition(page: ServedPage) -> None:
    visitor = Visitor("ada", Role.READER, "", "10.0.0.7")

    def fill(session: Session) -> None:
        for number in range(250):
            access_log.record(session, visitor, "study", f"1.2.{number}")

    page.ledger.write(fill)
    browser = page.browser()
    seen: list[str] = []
    address = "/access?account=ada"
    while address:
        text = browser.get(address).text
        seen += re.findall(r">(1\.2\.\d+)</a>", text)
        older = re.search(r'rel="next" href="([^"]*)"', text)
        address = older[1].replace("&amp;", "&") if older else ""
    assert seen == [f"1.2.{number}" for number in reversed(range(250))]


@pytest.mark.parametrize(
    "query",
    [
        "account=%00",
        "account=a%00b",
        "account=a%0Ab",
        "account=%C2%85",
        "study=%00",
        "study=a%00b",
        "study=1.2%00",
        "study=1.2%0A",
        "study=1%202",
        "before=%00",
    ],
)
def test_what_nobody_is_called_is_no_question_for_a_database(page: ServedPage, query: str) -> None:
    assert page.browser().get(f"/access?{query}").status_code == 422


@pytest.mark.parametrize("name", ["ada", " ada ", "Zoë O'Neil", "佐藤", "a%b_c", "DOMAIN\\ada", ""])
def test_whatever_people_are_called_can_be_looked_for(page: ServedPage, name: str) -> None:
    access_log.record(page.app.state.page, Visitor(name.strip(), Role.READER, "", "10.0.0.7"), "study", _UID)
    browser = page.browser()
    for query in (f"account={quote(name)}", f"study=%20{_UID}%20&account={quote(name)}"):
        answer = browser.get(f"/access?{query}")
        assert answer.status_code == 200
        assert len(_shown(answer.text)) == 1


def test_what_others_typed_is_shown_as_text(page: ServedPage) -> None:
    page.add_account("ada", Role.ADMIN)
    browser = page.browser()
    browser.log_in("<script>alert(1)</script>", "not the password")
    browser.log_in("ada", PASSWORD)
    text = browser.get("/access").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


def _rows(page: ServedPage) -> list[AccessEntry]:
    with page.ledger.read() as session:
        return list(session.scalars(select(AccessEntry).order_by(AccessEntry.id)))


def _shown(text: str) -> list[tuple[str, str]]:
    rows = re.findall(r"<tr class=.*?</tr>", text, re.DOTALL)
    cells = [re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for row in rows]
    return [(re.sub("<[^>]*>", "", row[1]), row[3]) for row in cells]
