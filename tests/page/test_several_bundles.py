"""Several bundles' results of one study on the page and in the API: nothing of either is lost, and each is named."""

import json
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from node.reading import lock_study
from schemas.codes import Finding, TubePosition
from schemas.tables import Bundle, Picture, Result, Study, WorkState
from tests.node.bundles import activated, retired
from tests.node.studies import add_image, add_study, bundle_digest, commit_result, document
from tests.page.conftest import ServedPage, Server
from tests.page.two_bundles import FINDINGS, TUBES, UNPROVEN, activate_two, add_study_of_two, commit_reading
from tests.support.browser import collect_errors, keep_screenshot
from tests.support.processes import wait_for


def test_the_api_gives_the_result_of_each_bundle_and_the_most_pressing_urgency(
    page: ServedPage, tmp_path: Path
) -> None:
    activate_two(page)
    add_study_of_two(page, tmp_path, "1.1")
    (study,) = page.browser().get("/api/worklist").json()["studies"]
    assert [(each["bundle"]["name"], each["urgency"]) for each in study["results"]] == [
        (FINDINGS, "urgent"),
        (TUBES, "immediate"),
    ]
    assert study["urgency"] == "immediate"
    assert study["malpositioned_tube"] is True


def test_a_result_that_comes_after_the_reader_looked_is_not_marked_as_read_whatever_its_number(
    page: ServedPage,
) -> None:
    add_study(page.ledger, "1.1")
    commit_result(page.ledger, document("1.1", TubePosition.NORMAL, set(), bundle="a"))
    commit_result(page.ledger, document("1.1", None, set(), bundle="b"))

    def commit(current: bool) -> None:
        page.ledger.write(
            lambda session: session.execute(update(Result).where(Result.bundle_name == "a").values(current=current))
        )

    # Planned before the other, committed after it.
    commit(False)
    browser = page.browser()
    browser.get("/")
    seen = browser.get("/api/studies/1.1").json()["result_seen"]
    commit(True)
    assert browser.send_form("/studies/1.1/state", state="read", seen=seen).status_code == 409
    body = {"state": "read", "result_seen": seen}
    assert browser.send_json("PUT", "/api/studies/1.1/state", body).status_code == 409
    body["result_seen"] = browser.get("/api/studies/1.1").json()["result_seen"]
    assert browser.send_json("PUT", "/api/studies/1.1/state", body).status_code == 204


def test_the_row_has_each_finding_once_as_the_more_pressing_bundle_says(page: ServedPage, tmp_path: Path) -> None:
    activate_two(page)
    add_study_of_two(page, tmp_path, "1.1")
    text = page.browser().get("/").text
    assert text.count("Endotracheal tube abnormal, tip 96 mm above carina") == 1
    assert text.count('<span class="finding">Cardiomegaly') == 1
    assert text.count('<li class="score present"') == 6
    assert "and 1 more called present" in text


def picture(page: ServedPage, bundle: str) -> str:
    """Where the pictures of this bundle's result are served."""
    with page.ledger.read() as session:
        drawn = select(Picture.sha256).where(Picture.bundle_digest == bundle_digest(bundle))
        return f"/pictures/{session.scalars(drawn).one()}"


def test_the_row_shows_the_picture_of_the_bundle_that_says_most_or_of_another_until_it_is_drawn(
    page: ServedPage, tmp_path: Path
) -> None:
    activate_two(page)
    add_study_of_two(page, tmp_path, "1.1")
    tubes, findings = picture(page, TUBES), picture(page, FINDINGS)
    assert f"{tubes}/thumbnail.jpg" in page.browser().get("/").text
    drawn_later = update(Picture).where(Picture.bundle_digest == bundle_digest(TUBES)).values(sha256=None)
    page.ledger.write(lambda session: session.execute(drawn_later))
    text = page.browser().get("/").text
    assert f"{findings}/thumbnail.jpg" in text
    assert "evidence/" not in text  # of the other's findings nothing is said to lead


@pytest.mark.parametrize(("linear", "maps"), [(False, 1), (True, 0)])
def test_the_row_asks_for_no_evidence_map_of_a_linear_probe(
    page: ServedPage, tmp_path: Path, linear: bool, maps: int
) -> None:
    activate_two(page)
    if linear:
        change_manifest(page, FINDINGS, '"kind":"glori"', '"kind":"linear"')
    add_study(page.ledger, "1.1")
    commit_reading(page, tmp_path, "1.1", FINDINGS)
    assert page.browser().get("/").text.count("evidence/pneumothorax.png") == maps


def test_the_study_page_names_who_says_what_and_where_they_disagree(page: ServedPage, tmp_path: Path) -> None:
    activate_two(page)
    add_study_of_two(page, tmp_path, "1.1")
    text = page.browser().get("/studies/1.1").text
    for words in (
        f"<h2>{TUBES} 1</h2>",
        f"<h2>{FINDINGS} 1</h2>",
        "torch, cpu, bfloat16",
        "openvino, cpu, bfloat16",
        f"Cardiomegaly: absent for {TUBES}, present for {FINDINGS}.",
        f"Result 1 of {TUBES}",
        UNPROVEN,
    ):
        assert words in text, words


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (WorkState.DUE, "1 of 1 image is still being analysed by b."),
        (WorkState.FAILED, "1 of 1 image could not be analysed by b."),
    ],
)
def test_what_one_bundle_has_said_is_shown_while_another_is_not_done(
    page: ServedPage, state: WorkState, words: str
) -> None:
    add_study(page.ledger, "1.1")
    for bundle in ("a", "b"):
        activated(page.ledger, bundle)
    commit_result(page.ledger, document("1.1", TubePosition.ABNORMAL, set(), bundle="a"))

    def other(session: Session) -> None:
        study = lock_study(session, "1.1")
        assert study is not None
        add_image(session, study, state, "It is too dark." if state is WorkState.FAILED else "", bundle="b")

    page.ledger.write(other)
    listed = page.browser().get("/").text
    assert "Endotracheal tube abnormal" in listed
    assert words in listed
    shown = page.browser().get("/studies/1.1").text
    assert "Endotracheal tube abnormal" in shown
    assert ("It is too dark." in shown) == (state is WorkState.FAILED)


def written_by_newer_software(page: ServedPage, bundle: str) -> str:
    """The current result of this bundle gets a field that nobody here knows; returns its name."""
    word = f"new_{uuid4().hex}"

    def change(session: Session) -> None:
        result = session.scalars(select(Result).where(Result.bundle_name == bundle)).one()
        assert result.document
        result.document = json.dumps(json.loads(result.document) | {word: True})

    page.ledger.write(change)
    return word


def test_one_result_that_cannot_be_read_takes_nothing_else_away(page: ServedPage) -> None:
    add_study(page.ledger, "1.1", name="Half^Read")
    add_study(page.ledger, "1.2", name="Not^Read")
    add_study(page.ledger, "1.3", name="All^Read")
    for uid, bundle, position in (("1.1", "a", None), ("1.1", "b", TubePosition.ABNORMAL), ("1.3", "a", None)):
        commit_result(page.ledger, document(uid, position, {Finding.CARDIOMEGALY}, bundle=bundle))
    commit_result(page.ledger, document("1.2", None, {Finding.PNEUMOTHORAX}, bundle="c"))
    browser = page.browser()
    words = "The result of {} cannot be read by this version of CheXNode."
    with capture_logs() as logs:
        unknown = [written_by_newer_software(page, bundle) for bundle in ("b", "c")]
        for _ in range(2):
            listed = browser.get("/").text
    assert all(name in listed for name in ("Half", "Not, Read", "All, Read")) and "under way" not in listed
    assert listed.count('<span class="finding">Cardiomegaly') == 2
    assert listed.count(words.format("b")) == listed.count(words.format("c")) == 1
    said = [each["reason"] for each in logs if each["event"].startswith("result not readable")]
    assert sorted(said) == sorted(f"{word}: Extra inputs are not permitted" for word in unknown)  # not at each look

    studies = {each["study_instance_uid"]: each for each in browser.get("/api/worklist").json()["studies"]}
    assert {uid: each["unreadable"] for uid, each in studies.items()} == {"1.1": ["b"], "1.2": ["c"], "1.3": []}
    assert [len(studies[uid]["results"]) for uid in ("1.1", "1.2", "1.3")] == [1, 0, 1]
    assert "A result cannot be read by this version of CheXNode." in studies["1.2"]["place"]
    for uid in ("1.1", "1.2"):
        assert "The result of this model cannot be read by this version" in browser.get(f"/studies/{uid}").text
    body = {"state": "read", "result_seen": studies["1.1"]["result_seen"]}
    assert browser.send_json("PUT", "/api/studies/1.1/state", body).status_code == 204


def test_a_flag_stays_up_when_a_later_version_cannot_read_why(page: ServedPage) -> None:
    add_study(page.ledger, "1.1")
    commit_result(page.ledger, document("1.1", TubePosition.ABNORMAL, set(), bundle="b"))
    written_by_newer_software(page, "b")
    commit_result(page.ledger, document("1.1", None, set(), bundle="a"))
    (study,) = page.browser().get("/api/worklist").json()["studies"]
    assert (study["urgency"], study["malpositioned_tube"]) == ("immediate", True)


def clear(page: ServedPage, name: str) -> None:
    """The bundle is cleared for clinical use from now on."""
    change_manifest(page, name, '"cleared_for_clinical_use":false', '"cleared_for_clinical_use":true')


def change_manifest(page: ServedPage, name: str, old: str, new: str) -> None:
    def change(session: Session) -> None:
        bundle = session.scalars(select(Bundle).where(Bundle.name == name)).one()
        assert old in bundle.manifest
        bundle.manifest = bundle.manifest.replace(old, new)

    page.ledger.write(change)


def test_the_notice_goes_only_when_every_active_bundle_is_cleared(page: ServedPage) -> None:
    browser = page.browser()

    def noticed() -> bool:
        return "Not for clinical use" in browser.get("/").text

    assert noticed()  # nothing is known of any model
    for bundle in ("a", "b"):
        activated(page.ledger, bundle)
        clear(page, bundle)
    wait_for("all are cleared", lambda: not noticed())
    activated(page.ledger, "c")
    wait_for("one is not", noticed)
    text = browser.get("/").text
    assert "Models a 1, b 1, c 1" in text


def test_a_result_of_a_model_that_is_not_cleared_says_so_after_that_model_was_retired(page: ServedPage) -> None:
    add_study(page.ledger, "1.1")
    for bundle in ("a", "b"):
        activated(page.ledger, bundle)
    clear(page, "a")
    commit_result(page.ledger, document("1.1", TubePosition.ABNORMAL, set(), bundle="b"))
    retired(page.ledger, "b")
    wait_for("the notice knows", lambda: "Model a 1" not in page.browser().get("/").text)
    assert "b 1: Not for clinical use" in page.browser().get("/").text


def test_each_bundles_maps_and_regions_are_laid_over_the_image(
    server: Server, tmp_path: Path, chromium_browser: Browser
) -> None:
    activate_two(server.page)
    add_study_of_two(server.page, tmp_path, "1.1")
    screen = chromium_browser.new_page(viewport={"width": 1280, "height": 900})
    problems = collect_errors(screen)
    screen.goto(f"{server.url}/studies/1.1")
    # Without being asked: the map of what is most pressing among what either bundle calls present.
    expect(screen.locator(".evidence:not([hidden])")).to_have_attribute("data-target", f"{FINDINGS}/pneumothorax")
    screen.get_by_label("Evidence map").select_option(f"{TUBES}/endotracheal_tube.presence")
    shown = screen.locator(".evidence:not([hidden])")
    expect(shown).to_have_attribute("data-target", f"{TUBES}/endotracheal_tube.presence")
    wait_for("the map is loaded", lambda: shown.evaluate("i => i.complete && i.naturalWidth > 0"))
    screen.get_by_label("Left lung").check()
    mask = screen.locator(".mask:not([hidden])")
    expect(mask).to_have_count(1)
    wait_for("the region is loaded", lambda: mask.evaluate("i => i.complete && i.naturalWidth > 0"))
    expect(screen.locator(".overlay .tip")).to_have_count(1)
    screen.get_by_text("28 more").click()
    expect(screen.locator("details .finding").last).to_be_visible()
    image, other = screen.locator(".stage").bounding_box(), screen.locator(".more").bounding_box()
    assert image and other and other["x"] == image["x"]
    assert 0 <= other["y"] - (image["y"] + image["height"]) < 40, "nothing but a gap under the image"
    assert problems == []
    screen.close()


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_on_pages_of_two_bundles(
    server: Server, tmp_path: Path, chromium_browser: Browser, scheme: Literal["dark", "light"], width: int
) -> None:
    activate_two(server.page)
    add_study_of_two(server.page, tmp_path, "1.1")
    add_study(server.page.ledger, "1.2", name="Half^Done")
    commit_reading(server.page, tmp_path, "1.2", TUBES)

    def wait_for_the_other(session: Session) -> None:
        study = session.scalars(select(Study).where(Study.study_instance_uid == "1.2")).one()
        add_image(session, study, WorkState.DUE, bundle=FINDINGS)

    server.page.ledger.write(wait_for_the_other)
    context = chromium_browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    screen = context.new_page()
    for name, address in {"worklist": "/", "study": "/studies/1.1", "half": "/studies/1.2"}.items():
        screen.goto(server.url + address)
        expect(screen.locator(".live")).to_have_text("live")
        found = Axe().run(screen, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]})
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        assert screen.evaluate("document.documentElement.scrollWidth") <= width, f"{name} scrolls sideways"
        keep_screenshot(screen, f"two-bundles-{name}-{width}-{scheme}", full_page=True)
    context.close()
