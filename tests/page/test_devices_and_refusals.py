"""Several devices on one image, and images that were refused before any finding: what a reader sees of them."""

from pathlib import Path

from playwright.sync_api import Browser, Locator, expect
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.demo_table import StudyProgress, progress_table
from node.ledger.ledger import now
from node.triage import malpositioned_tube, urgency
from schemas.codes import Device, DistanceBasis, Finding, TubePosition
from schemas.result import ImageResult, Point, StudyResult, TipToCarina, TubeResult
from schemas.tables import Picture, ResultImage, WorkState
from tests.node.studies import add_study, bundle_digest, commit_result, document
from tests.page.conftest import ServedPage, Server
from tests.pictures.synthetic import MANIFEST, model_output
from tests.support.browser import collect_errors, keep_screenshot
from tests.support.phantoms import phantom, tip_of, tube_of, write_phantom
from workers.analyze import describe
from workers.pictures import PicturesRequest, draw_pictures
from workers.placement import Placement

LATERAL = "lateral view (the model's reading)"
_ROWS, _COLUMNS = 512, 430


def refused(uid: str, reason: str = LATERAL) -> StudyResult:
    """The result of a study whose one image was refused."""
    nothing = {"findings": [], "tubes": [], "segments": [], "refused": reason}
    return _with_image(uid, document(uid, None, set()).images[0].model_copy(update=nothing))


def three_devices(uid: str) -> StudyResult:
    """A tube too high whose magnification is not known, a catheter in the wrong vein, a feeding tube."""
    truth = phantom(22, "malpositioned", _ROWS, _COLUMNS)
    tip, carina = tip_of(truth), truth.landmarks["carina"]
    distance = TipToCarina(
        pixels=carina.y - tip.y,
        millimetres=96.0,
        basis=DistanceBasis.DETECTOR_PLANE,
        lowest_millimetres=80.0,
        highest_millimetres=96.0,
    )
    course = tube_of(truth).course
    tubes = [
        _device(
            Device.ENDOTRACHEAL_TUBE,
            TubePosition.BORDERLINE,
            [(float(x), float(y)) for x, y in course[:: max(1, len(course) // 20)]] + [(tip.x, tip.y)],
            carina=carina,
            tip_to_carina=distance,
            position_reason="The tip is 96.0 mm above the carina (in the detector plane): which does not settle it.",
        ),
        _device(
            Device.NASOGASTRIC_TUBE,
            TubePosition.NORMAL,
            [(222.0, 0.0), (218.0, 180.0), (228.0, 380.0), (275.0, 440.0), (262.0, 470.0)],
        ),
        _device(
            Device.CENTRAL_VENOUS_CATHETER,
            TubePosition.ABNORMAL,
            [(25.0, 130.0), (90.0, 75.0), (150.0, 85.0), (180.0, 60.0), (183.0, 20.0)],
        ),
    ]
    shown = document(uid, None, {Finding.CARDIOMEGALY}).images[0]
    return _with_image(uid, shown.model_copy(update={"rows": _ROWS, "columns": _COLUMNS, "tubes": tubes}))


def _device(device: Device, position: TubePosition, course: list[tuple[float, float]], **more: object) -> TubeResult:
    points = [Point(x=x, y=y) for x, y in course]
    said = {
        "device": device,
        "present": True,
        "score": 0.97,
        "operating_point": 0.5,
        "calibrated": False,
        "course_score": 0.99,
        "malposition_score": 0.8 if position is TubePosition.ABNORMAL else 0.1,
        "position": position,
        "position_reason": "No distance is measured for this device.",
        "tip": points[-1],
        "course": points,
    }
    return TubeResult.model_validate({**said, **more})


def _with_image(uid: str, image: ImageResult) -> StudyResult:
    changed = {
        "images": [image],
        "urgency": urgency([image]),
        "malpositioned_tube": malpositioned_tube([image]),
    }
    return document(uid, None, set()).model_copy(update=changed)


def committed(page: ServedPage, made: StudyResult, folder: Path | None = None) -> None:
    """The study with this result; with pictures of a phantom where there is a `folder` for its file."""
    add_study(page.ledger, made.study_instance_uid, name="Three^Lines")
    commit_result(page.ledger, made)
    if folder is None:
        return
    path = folder / f"{made.study_instance_uid}.dcm"
    write_phantom(path, 22, "malpositioned", rows=_ROWS, columns=_COLUMNS)
    where = Placement.of(_ROWS, _COLUMNS, MANIFEST.preprocessing)
    archive = draw_pictures(PicturesRequest(path, model_output(where).to_bytes(), MANIFEST))

    def draw(session: Session) -> None:
        made = session.scalars(select(ResultImage)).one()
        values = {"bundle_digest": bundle_digest("test"), "due_at": now(), "created_at": now()}
        session.add(Picture(result_image_id=made.id, state=WorkState.DONE, sha256=page.store.put(archive), **values))

    page.ledger.write(draw)


def test_a_refused_image_is_never_shown_as_one_without_findings(page: ServedPage) -> None:
    committed(page, refused("1.1"))
    browser = page.browser()
    listed, study = browser.get("/").text, browser.get("/studies/1.1").text
    for text in (listed, study):
        assert "Not analysed: lateral view (the model&#39;s reading)" in text
        assert "No finding" not in text
        assert '<li class="score' not in text
    assert "Routine" in listed
    (result,) = browser.get("/api/studies/1.1").json()["results"]
    assert result["images"][0]["refused"] == LATERAL


def test_of_several_images_it_is_said_how_many_were_refused_and_the_others_lead(page: ServedPage) -> None:
    made = document("1.1", TubePosition.ABNORMAL, set())
    other = refused("1.1").images[0].model_copy(update={"sop_instance_uid": "1.1.1"})
    both = made.model_copy(update={"images": [other, *made.images]})
    committed(page, both)
    text = page.browser().get("/").text
    assert "Endotracheal tube abnormal" in text
    assert LATERAL.replace("'", "&#39;") in text


def test_bundles_that_disagree_on_what_an_image_is_are_named(page: ServedPage) -> None:
    committed(page, refused("1.1"))
    commit_result(page.ledger, document("1.1", TubePosition.NORMAL, set(), bundle="other"))
    browser = page.browser()
    listed, text = browser.get("/").text, browser.get("/studies/1.1").text
    assert "The models disagree" in text
    assert "This image: " in text and "analysed for other" in text
    for each in (listed, text):
        assert "Not analysed by test: lateral view" in each
    # The other one has analysed it.
    assert "Not analysed: lateral view" not in listed


def test_the_worklist_names_every_device_the_most_pressing_first(page: ServedPage) -> None:
    committed(page, three_devices("1.1"))
    text = page.browser().get("/").text
    places = [
        text.index(words)
        for words in (
            "Central venous catheter abnormal",
            "Endotracheal tube borderline, tip 80 to 96 mm above carina",
            "Nasogastric tube normal",
        )
    ]
    assert places == sorted(places)
    assert "Central venous catheter abnormal. Immediate" in text


def test_the_command_line_says_what_was_refused_and_names_each_device() -> None:
    assert describe(refused("1.1")).startswith(f"not analysed: {LATERAL}; urgency routine")
    assert describe(three_devices("1.1")).startswith("CVC abnormal, ETT borderline, NGT normal, ")
    # A bundle without a threshold for malposition: the catheter is there all the same.
    seen = _device(Device.CENTRAL_VENOUS_CATHETER, TubePosition.NORMAL, [(9.0, 9.0)]).model_copy(
        update={"position": None}
    )
    unjudged = _with_image("1.1", document("1.1", None, set()).images[0].model_copy(update={"tubes": [seen]}))
    assert describe(unjudged).startswith("CVC position not determined; ")


def test_in_the_demonstration_only_what_lies_well_is_green() -> None:
    for position in [*TubePosition, None]:
        tube = document("1.1", TubePosition.NORMAL, set()).images[0].tubes[0].model_copy(update={"position": position})
        shown = document("1.1", None, set()).images[0].model_copy(update={"tubes": [tube]})
        table = progress_table([StudyProgress("one", "done", True, _with_image("1.1", shown))])
        (cell,) = next(column for column in table.columns if column.header == "tube").cells
        assert ("[green]" in str(cell)) is (position is TubePosition.NORMAL)


def test_each_device_is_drawn_with_its_name_and_no_words_are_cut_off(
    server: Server, tmp_path: Path, chromium_browser: Browser
) -> None:
    committed(server.page, three_devices("1.1"), tmp_path)
    screen = chromium_browser.new_page(viewport={"width": 1280, "height": 900})
    problems = collect_errors(screen)
    screen.goto(f"{server.url}/studies/1.1")
    overlay = screen.locator(".stage .overlay")
    expect(overlay.locator(".course")).to_have_count(3)
    expect(overlay.locator(".length")).to_have_text("80 to 96 mm above carina")
    assert sorted(overlay.locator("text").all_text_contents()) == sorted(
        ["CVC tip", "NGT tip", "ETT tip", "carina", "80 to 96 mm above carina"]
    )
    colours = {each.evaluate("e => getComputedStyle(e).stroke") for each in overlay.locator(".course").all()}
    assert len(colours) == 3
    cards = screen.locator(".card.tube h3").all_inner_texts()
    assert [card.split(",")[0].strip() for card in cards] == [
        "Central venous catheter abnormal",
        "Endotracheal tube borderline",
        "Nasogastric tube normal",
    ]
    for width in (1280, 390):
        screen.set_viewport_size({"width": width, "height": 900})
        image = _box(screen.locator(".stage .layers"))
        for words in overlay.locator("text").all():
            left, right = _box(words)
            assert image[0] <= left + 1 and right <= image[1] + 1, words.text_content()
        keep_screenshot(screen, f"devices-{width}", full_page=True)
    assert problems == []
    screen.close()


def test_a_refused_image_is_shown_with_its_reason_and_nothing_over_it(
    server: Server, tmp_path: Path, chromium_browser: Browser
) -> None:
    committed(server.page, refused("1.1"), tmp_path)
    screen = chromium_browser.new_page(viewport={"width": 1280, "height": 900})
    problems = collect_errors(screen)
    screen.goto(f"{server.url}/studies/1.1")
    expect(screen.get_by_role("heading", name="Not analysed: lateral view")).to_be_visible()
    expect(screen.locator(".stage img.grey")).to_be_visible()
    expect(screen.locator(".overlay")).to_have_count(0)
    expect(screen.locator(".score")).to_have_count(0)
    keep_screenshot(screen, "refused", full_page=True)
    assert problems == []
    screen.close()


def _box(element: Locator) -> tuple[float, float]:
    """Left and right on the screen."""
    box = element.bounding_box()
    assert box is not None
    return box["x"], box["x"] + box["width"]
