"""The worklist, the study's page and the API without a running node: what they say, and what they keep back."""

import hashlib
import io
import zipfile

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.ledger.ledger import now
from node.reading import lock_study
from schemas.account_tables import AccessEntry, Role
from schemas.codes import Finding, TubePosition
from schemas.result import OrderPriority
from schemas.tables import Picture, ResultImage, Study, WorkState
from tests.node.studies import add_image, add_study, commit_result, document
from tests.page.conftest import PASSWORD, ServedPage


def test_a_script_in_a_patients_name_stays_text(page: ServedPage) -> None:
    add_study(page.ledger, "1.1", name="<script>alert(1)</script>^\"'&")
    for address in ("/", "/studies/1.1"):
        shown = page.browser().get(address)
        assert shown.status_code == 200
        assert "<script>alert" not in shown.text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown.text


def test_the_api_gives_the_list_in_its_order_and_takes_states(page: ServedPage) -> None:
    for uid in ("1.1", "1.2", "1.3"):
        add_study(page.ledger, uid, waited=60)
    commit_result(page.ledger, document("1.3", TubePosition.ABNORMAL, {Finding.CONSOLIDATION}))
    browser = page.browser()
    browser.get("/")  # gives it the token of what changes something
    answer = browser.get("/api/worklist").json()
    assert [each["study_instance_uid"] for each in answer["studies"]] == ["1.3", "1.1", "1.2"]
    first = answer["studies"][0]
    assert first["urgency"] == "immediate"
    assert first["malpositioned_tube"] is True
    assert first["results"][0]["images"][0]["tubes"][0]["position"] == "abnormal"
    assert "within 15 min" in first["place"]
    assert (answer["open"], answer["flagged"], answer["more"]) == (3, 1, False)

    assert browser.send_json("PUT", "/api/studies/1.3/state", {"state": "read"}).status_code == 204
    assert browser.get("/api/worklist").json()["open"] == 2
    assert browser.get("/api/studies/1.3").json()["state"] == "read"
    many = {"state": "opened", "study_instance_uids": ["1.1", "1.2"]}
    assert browser.send_json("POST", "/api/worklist/state", many).status_code == 204
    assert [each["state"] for each in browser.get("/api/worklist").json()["studies"]] == ["opened", "opened"]


def test_the_api_says_clearly_what_it_does_not_know_or_take(page: ServedPage) -> None:
    browser = page.browser()
    browser.get("/")
    assert browser.get("/api/studies/9.9").status_code == 404
    assert "9.9" in browser.get("/api/studies/9.9").json()["detail"]
    assert browser.send_json("PUT", "/api/studies/9.9/state", {"state": "read"}).status_code == 404
    assert browser.send_json("PUT", "/api/studies/9.9/state", {"state": "burnt"}).status_code == 422
    assert browser.get("/api/worklist?show=everything").status_code == 422
    assert "/api/worklist" in browser.get("/api/openapi.json").json()["paths"]


def test_a_ris_marks_studies_with_an_account_and_the_log_knows_who(page: ServedPage) -> None:
    add_study(page.ledger, "1.1")
    page.add_account("ris", Role.READER)
    answer = page.browser().request("PUT", "/api/studies/1.1/state", json={"state": "read"}, auth=("ris", PASSWORD))
    assert answer.status_code == 204
    with page.ledger.read() as session:
        study = session.scalars(select(Study)).one()
        entry = session.scalars(select(AccessEntry).where(AccessEntry.action == "state")).one()
    assert (study.read_state, study.read_by) == ("read", "ris")
    assert (entry.account, entry.study_instance_uid, entry.detail) == ("ris", "1.1", "read")


def test_an_order_and_a_failed_analysis_are_said_in_words(page: ServedPage) -> None:
    add_study(page.ledger, "1.1", order=OrderPriority.STAT)
    fail_image(page, "1.1", "The pixel data cannot be read.")
    text = page.browser().get("/").text
    assert "Ordered STAT." in text
    assert "Not analysed: The pixel data cannot be read." in text
    assert "The pixel data cannot be read." in page.browser().get("/studies/1.1").text


def fail_image(page: ServedPage, uid: str, error: str) -> None:
    """The image of the study comes, with these or with new pixels, and cannot be analysed."""

    def change(session: Session) -> None:
        study = lock_study(session, uid)
        assert study is not None
        add_image(session, study, WorkState.FAILED, error, pixels="broken")

    page.ledger.write(change)


def add_picture(page: ServedPage) -> None:
    """Pictures for every image that has a result."""

    def change(session: Session) -> None:
        for image in session.scalars(select(ResultImage)):
            picture = Picture(result_image_id=image.id, bundle_digest="d", due_at=now(), created_at=now())
            picture.sha256 = page.store.put(archive())
            session.add(picture)

    page.ledger.write(change)


def archive() -> bytes:
    with io.BytesIO() as stream:
        with zipfile.ZipFile(stream, "w") as made:
            made.writestr("thumbnail.jpg", b"jpeg")
            made.writestr("pixels.u16.gz", b"gzip")
        return stream.getvalue()


def test_only_pictures_are_served(page: ServedPage) -> None:
    add_study(page.ledger, "1.1")
    commit_result(page.ledger, document("1.1", None, set()))
    add_picture(page)
    browser = page.browser()
    sha256 = hashlib.sha256(archive()).hexdigest()
    answer = browser.get(f"/pictures/{sha256}/thumbnail.jpg")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"jpeg", "image/jpeg")
    assert "no-cache" in answer.headers["cache-control"]
    assert "private" in answer.headers["cache-control"]
    secret = page.store.put(b"a patient's image")
    for address in (
        f"/pictures/{secret}/thumbnail.jpg",
        f"/pictures/{sha256}/absent.jpg",
        f"/pictures/{sha256}/..%2F..%2Fledger.db",
        "/pictures/..%2F..%2Fledger.db/x",
    ):
        assert browser.get(address).status_code == 404, address
    page.store.path(sha256).unlink()
    assert browser.get(f"/pictures/{sha256}/thumbnail.jpg").status_code == 500
    assert browser.get("/studies/1.1").status_code == 200


@pytest.mark.parametrize(
    ("address", "status"), [("/studies/9.9", 404), ("/nowhere", 404), ("/studies/%00", 422), ("/studies/a", 422)]
)
def test_what_is_not_there_is_a_page_that_says_so(page: ServedPage, address: str, status: int) -> None:
    answer = page.browser().get(address, headers={"Sec-Fetch-Dest": "document"})
    assert answer.status_code == status
    assert "<main" in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("words", ["%00", "%F0%9F%AB%81", "%25", "a%0Ab", "%ED%A0%80", "x" * 200])
def test_any_search_is_answered(page: ServedPage, words: str) -> None:
    add_study(page.ledger, "1.1")
    assert page.browser().get(f"/?q={words}").status_code == 200
    assert page.browser().get(f"/api/worklist?q={words}").status_code == 200


def test_the_refresh_of_a_list_is_no_access_and_looking_is(page: ServedPage) -> None:
    add_study(page.ledger, "1.1")
    browser = page.browser()
    browser.get("/?q=miller")
    browser.get("/?q=miller", headers={"HX-Request": "true", "X-Background": "1"})
    browser.get("/studies/1.1")
    with page.ledger.read() as session:
        entries = session.scalars(select(AccessEntry).order_by(AccessEntry.id)).all()
    assert [(each.action, each.detail, each.study_instance_uid) for each in entries] == [
        ("worklist", "", ""),
        ("study", "", "1.1"),
    ]


def test_a_study_with_a_newer_result_than_was_seen_is_not_marked_as_read(page: ServedPage) -> None:
    add_study(page.ledger, "1.1")
    commit_result(page.ledger, document("1.1", TubePosition.NORMAL, set()))
    browser = page.browser()
    browser.get("/")
    seen = browser.get("/api/studies/1.1").json()["result_seen"]
    commit_result(page.ledger, document("1.1", TubePosition.ABNORMAL, set(), version=2))
    answer = browser.send_form("/studies/1.1/state", state="read", seen=str(seen))
    assert answer.status_code == 409
    assert "newer result" in answer.text
    body = {"state": "read", "result_seen": seen}
    assert browser.send_json("PUT", "/api/studies/1.1/state", body).status_code == 409
    body["result_seen"] = browser.get("/api/studies/1.1").json()["result_seen"]
    assert browser.send_json("PUT", "/api/studies/1.1/state", body).status_code == 204
    with page.ledger.read() as session:
        assert session.scalars(select(Study.read_state)).one() == "read"


def test_the_result_of_pixels_that_were_replaced_is_not_shown_as_this_images(page: ServedPage) -> None:
    add_study(page.ledger, "1.1")
    commit_result(page.ledger, document("1.1", TubePosition.NORMAL, set()))
    browser = page.browser()
    assert "Endotracheal tube normal" in browser.get("/").text
    fail_image(page, "1.1", "The new pixels are broken.")
    for address in ("/", "/studies/1.1"):
        text = browser.get(address).text
        assert "Endotracheal tube normal" not in text
        assert "The new pixels are broken." in text


def test_what_was_not_assessed_is_said_and_nothing_is_called_normal(page: ServedPage) -> None:
    add_study(page.ledger, "1.1")
    made = document("1.1", None, set())
    image = made.images[0]
    findings = [
        each.model_copy(update={"present": None, "operating_point": None})
        if each.finding is Finding.PNEUMOTHORAX
        else each
        for each in image.findings
    ]
    commit_result(page.ledger, made.model_copy(update={"images": [image.model_copy(update={"findings": findings})]}))
    text = page.browser().get("/").text
    assert "Not assessed: pneumothorax." in text
    assert "No finding was called present." in text
    assert "evidence/" not in text
