"""The quarantine on the page: operators see what was set aside and why, and take it up again; readers do not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from pydicom.uid import generate_uid
from sqlalchemy import select

from node.intake.reception import ReceptionDesk
from node.ledger.database import upgrade
from node.ledger.ledger import Ledger, now
from node.page.accounts import hash_password
from node.page.app import create_page
from node.storage.object_store import FolderObjectStore
from schemas.account_tables import AccessEntry, Account, Role
from schemas.settings import Settings
from schemas.tables import Inference, WorkState
from tests.node.arrivals import finish_inferences, take
from tests.node.bundles import activated
from tests.page.browser import Browser
from tests.support.phantoms import write_phantom

_PASSWORD = "a tube above the carina"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    settings = Settings(home=tmp_path)
    ledger = Ledger(settings.resolved_ledger_url)
    upgrade(ledger)
    activated(ledger)
    store = FolderObjectStore(tmp_path / "objects")
    desk = ReceptionDesk(ledger, store, settings)
    write_phantom(tmp_path / "a.dcm", rows=300, columns=300)
    take(desk, store, tmp_path / "a.dcm")
    take(desk, store, tmp_path / "a.dcm", lambda dataset: setattr(dataset, "StudyInstanceUID", generate_uid()))
    finish_inferences(ledger, WorkState.FAILED)
    yield create_page(settings, ledger, store)
    ledger.close()


def test_an_operator_sees_what_was_set_aside_and_takes_up_again_what_can_be(app: FastAPI) -> None:
    browser = Browser(app)
    page = browser.get("/quarantine")
    assert "object-1" in page.text and "The same Series Instance UID is known in study" in page.text
    assert "analysis-1" in page.text
    assert browser.send_form("/quarantine/retry", name="analysis-1").status_code == 303
    ledger = app.state.page.ledger
    with ledger.read() as session:
        assert session.scalars(select(Inference.state)).all() == [WorkState.DUE]
        assert "quarantine" in session.scalars(select(AccessEntry.action)).all()
    stays = browser.send_form("/quarantine/retry", name="object-1")
    assert stays.status_code == 409 and "known in study" in stays.text
    assert "analysis-1" not in browser.get("/quarantine").text


def test_a_reader_sees_no_quarantine(app: FastAPI) -> None:
    account = Account(name="anna", role=Role.READER, password_hash=hash_password("anna", _PASSWORD), created_at=now())
    app.state.page.ledger.write(lambda session: session.add(account))
    browser = Browser(app)
    assert browser.log_in("anna", _PASSWORD).status_code == 303
    assert browser.get("/quarantine").status_code == 403
    assert browser.send_form("/quarantine/retry", name="analysis-1").status_code == 403
