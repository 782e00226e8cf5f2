"""The checks on the page: for operators, with what `chexnode doctor` says."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from node.ledger.ledger import now, open_ledger
from node.page import checks, sessions
from node.page.accounts import hash_password
from node.page.app import create_page
from node.storage.object_store import FolderObjectStore
from schemas.account_tables import Account, Role
from schemas.settings import FolderDestination, Settings
from tests.node.bundles import activated
from tests.page.browser import Browser

_PASSWORD = "a tube above the carina"


@pytest.fixture
def app(prepared: Settings) -> Iterator[FastAPI]:
    prepared.destinations = [FolderDestination(name="out", path=prepared.home / "out")]
    ledger = open_ledger(prepared)
    activated(ledger)  # without files: its self-test is tested elsewhere
    yield create_page(prepared, ledger, FolderObjectStore(prepared.home / "objects"))
    ledger.close()


def test_an_operator_sees_the_list_and_gets_verdicts_and_what_to_do(app: FastAPI) -> None:
    browser = Browser(app)
    before = browser.get("/checks")
    assert before.status_code == 200
    assert "Run the checks" in before.text and "destination.out" in before.text and "self-test" in before.text

    after = browser.send_form("/checks/run", store="true")
    assert after.status_code == 200 and "<html" in after.text
    assert "chexnode bundle activate FOLDER" in after.text
    assert "none runs: nothing is analysed" in after.text and "Run chexnode up." in after.text
    assert "a test file in" in after.text

    part = browser.send_form("/checks/run", headers={"HX-Request": "true"})
    assert part.status_code == 200 and "<html" not in part.text
    assert "What to do" in part.text and "is writable for this user" in part.text


def test_a_second_run_waits_for_the_first(app: FastAPI) -> None:
    browser = Browser(app)
    browser.get("/checks")
    with checks._running:
        assert browser.send_form("/checks/run").status_code == 503
    assert browser.send_form("/checks/run").status_code == 200


def test_a_reader_may_not_run_checks(app: FastAPI) -> None:
    account = Account(name="anna", role=Role.READER, password_hash=hash_password("anna", _PASSWORD), created_at=now())
    app.state.page.ledger.write(lambda session: session.add(account))
    browser = Browser(app)
    assert browser.log_in("anna", _PASSWORD).status_code == 303
    assert browser.cookies.get(sessions.SESSION_COOKIE)
    assert browser.get("/checks").status_code == 403
    assert browser.send_form("/checks/run").status_code == 403
