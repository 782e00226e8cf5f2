"""The page as a radiologist has it: a node that runs, phantom studies that are sent, and Chromium looking at it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from pydicom import Dataset
from sqlalchemy import select

from node.reading import mark
from schemas.settings import AllowedWaits
from schemas.tables import Picture, ReadState, Study, WorkState
from tests.conftest import Mode
from tests.support.browser import collect_errors, keep_screenshot
from tests.support.live_node import LiveNode
from tests.support.phantoms import Tube, lungs_of, phantom, tip_of, write_phantom
from tests.support.processes import wait_for

ROWS, COLUMNS = 1024, 860
#: What the model's tip may be off its truth, as a share of the image's height: 2 % of 43 cm is 9 mm.
TIP_TOLERANCE = 0.02
#: Its tube ends in a bronchus: that is abnormal however much the image is magnified.
FLAGGED = 34


@dataclass
class Department:
    """A node with a page, and the two phantom studies that it was sent."""

    node: LiveNode
    flagged: Dataset
    well_placed: Dataset
    lateral: Dataset


def send(node: LiveNode, path: Path, seed: int, tube: Tube, name: str, study: Dataset | None = None) -> Dataset:
    def change(dataset: Dataset) -> None:
        dataset.StudyDate, dataset.StudyTime = datetime.now().strftime("%Y%m%d %H%M%S").split()
        dataset.PatientName = name
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.StudyDescription = "Chest, bedside"
        if study is not None:
            dataset.ViewPosition = "LL"
            del dataset.PatientOrientation

    header = write_phantom(path, seed, tube, study=study, change=change, rows=ROWS, columns=COLUMNS)
    assert node.send(path)[0].accepted
    return header


@pytest.fixture(scope="module")
def department(mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    folder = tmp_path_factory.mktemp("department")
    node = LiveNode(folder / "home", mode.ledger_url(), mode.broker_url(), "")
    try:
        node.start("node", "worker", "page")
        # The model places both tips right: the page's geometry is under test, not the model.
        well_placed = send(node, folder / "a.dcm", 17, "well-placed", "Sato^Hanako=佐藤^花子")
        flagged = send(node, folder / "b.dcm", FLAGGED, "malpositioned", "Müller^Änne")
        lateral = send(node, folder / "c.dcm", 13, "absent", "Müller^Änne", study=flagged)
        wait_for("the pictures are drawn", lambda: drawn(node) >= 2, 120)
        yield Department(node, flagged, well_placed, lateral)
    finally:
        node.stop()


def drawn(node: LiveNode) -> int:
    with node.ledger.read() as session:
        return len(session.scalars(select(Picture).where(Picture.state == WorkState.DONE)).all())


@pytest.fixture
def screen(chromium_browser: Browser) -> Iterator[Page]:
    """A new browser window; an error of a script or a refused request fails the test."""
    context = chromium_browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    page = context.new_page()
    problems = collect_errors(page)
    yield page
    # What is on its way when the window closes fails then, and is no problem.
    found = list(problems)
    context.close()
    assert found == []


def goto(screen: Page, address: str) -> None:
    """Open a page and wait until it listens: its scripts run then."""
    screen.goto(address)
    expect(screen.locator(".live")).to_have_text("live")


def reset(node: LiveNode) -> None:
    """Every study new again."""
    with node.ledger.read() as session:
        uids = session.scalars(select(Study.study_instance_uid).where(Study.waiting_since.is_not(None))).all()
    node.ledger.write(lambda session: mark(session, uids, ReadState.NEW, "", AllowedWaits()))


def test_the_malpositioned_tube_stands_on_top_and_the_page_says_why(department: Department, screen: Page) -> None:
    reset(department.node)
    goto(screen, department.node.page_url)
    first = screen.locator(".study").first
    expect(first).to_contain_text("Müller, Änne")
    expect(first).to_contain_text("Endotracheal tube abnormal, tip")
    expect(first).to_contain_text("to be read within 15 min")
    expect(screen.locator(".study").nth(1)).to_contain_text("Sato, Hanako · 佐藤 花子")
    expect(screen.locator(".notice")).to_contain_text("Not for clinical use")
    for image in screen.locator(".study img").all():
        image.scroll_into_view_if_needed()
        wait_for("the picture is there", lambda image=image: image.evaluate("i => i.complete && i.naturalWidth > 0"))  # type: ignore[misc]
    assert screen.locator(".study").first.locator("img.evidence").count() == 1
    keep_screenshot(screen, "worklist")


def test_a_study_is_opened_by_a_click_and_read_by_a_key_and_the_next_one_comes(
    department: Department, screen: Page
) -> None:
    reset(department.node)
    goto(screen, department.node.page_url)
    screen.keyboard.press("j")
    expect(screen.locator(".study").first.locator(".name")).to_be_focused()
    screen.keyboard.press("Enter")
    expect(screen.locator("h1")).to_contain_text("Müller, Änne")
    expect(screen.locator("#live .state")).to_have_text("opened")
    assert state(department, department.flagged) == "opened"
    # The key is deaf for a moment after a page came, so that a second press reads no second study.
    screen.wait_for_timeout(900)
    screen.keyboard.press("r")
    expect(screen.locator("h1")).to_contain_text("Sato, Hanako")
    expect(screen.locator(".live")).to_have_text("live")
    assert state(department, department.flagged) == "read"
    screen.keyboard.press("w")
    expect(screen.locator(".study")).to_have_count(1)


def test_marking_in_the_list_moves_the_study_out_at_once(department: Department, screen: Page) -> None:
    reset(department.node)
    goto(screen, department.node.page_url)
    screen.locator(".study").first.get_by_role("button", name="Mark as read").click()
    expect(screen.locator(".study")).to_have_count(1)
    expect(screen.locator("#said")).to_contain_text("Marked as read")
    screen.get_by_label("Show").select_option("read")
    expect(screen.locator(".study .name")).to_have_text("Müller, Änne")


def test_search_and_filters_work_while_one_types(department: Department, screen: Page) -> None:
    reset(department.node)
    goto(screen, department.node.page_url)
    screen.keyboard.press("/")
    expect(screen.locator("#q")).to_be_focused()
    screen.keyboard.type("花子")
    expect(screen.locator("#q")).to_have_value("花子")
    expect(screen.locator(".study")).to_have_count(1)
    expect(screen.locator(".study .name")).to_contain_text("Sato")
    screen.locator("#q").fill("")
    expect(screen.locator(".study")).to_have_count(2)
    screen.get_by_label("Malpositioned tube").check()
    expect(screen.locator(".study")).to_have_count(1)
    screen.locator("#q").fill("nobody")
    expect(screen.locator(".empty")).to_contain_text("No study is like this")


def test_an_answer_to_other_filters_that_comes_late_does_not_undo_a_search(
    department: Department, screen: Page
) -> None:
    reset(department.node)
    goto(screen, department.node.page_url)
    screen.locator("#q").fill("花子")
    expect(screen.locator(".study")).to_have_count(1)
    screen.evaluate("htmx.ajax('GET', '/?show=open', {target: '#worklist', swap: 'morph:outerHTML'})")
    screen.wait_for_timeout(1000)
    expect(screen.locator(".study")).to_have_count(1)
    expect(screen.locator(".study .name")).to_contain_text("Sato")


def state(department: Department, header: Dataset) -> str:
    with department.node.ledger.read() as session:
        return session.scalars(
            select(Study.read_state).where(Study.study_instance_uid == header.StudyInstanceUID)
        ).one()


def test_a_result_changes_the_open_list_by_itself(department: Department, screen: Page, tmp_path: Path) -> None:
    reset(department.node)
    goto(screen, department.node.page_url)
    header = send(department.node, tmp_path / "new.dcm", 9, "malpositioned", "New^Comer")

    def committed() -> float | None:
        with department.node.ledger.read() as session:
            flagged = session.scalars(
                select(Study.malpositioned_tube).where(Study.study_instance_uid == header.StudyInstanceUID)
            ).one()
            return flagged is not None or None

    wait_for("the result is committed", committed, 60, every=0.01)
    row = screen.locator(f"#study-{header.StudyInstanceUID.replace('.', chr(92) + '.')}")
    expect(row.locator(".badge")).to_have_text("⚑ immediate", timeout=5000)
    wait_for("its pictures are drawn", lambda: drawn(department.node) >= 3)
    expect(row.locator("img").first).to_be_visible()


def test_tip_masks_and_evidence_are_drawn_where_the_truth_is(department: Department, screen: Page) -> None:
    goto(screen, f"{department.node.page_url}/studies/{department.flagged.StudyInstanceUID}")
    layers = screen.locator(".layers")
    box = layers.bounding_box()
    assert box
    tip = screen.locator(".overlay .tip").bounding_box()
    assert tip
    x = (tip["x"] + tip["width"] / 2 - box["x"]) / box["width"]
    y = (tip["y"] + tip["height"] / 2 - box["y"]) / box["height"]
    truth = phantom(FLAGGED, "malpositioned", ROWS, COLUMNS)
    assert abs(x - tip_of(truth).x / COLUMNS) < TIP_TOLERANCE
    assert abs(y - tip_of(truth).y / ROWS) < TIP_TOLERANCE

    screen.get_by_label("Right lung").check()
    screen.get_by_label("Left lung").check()
    loaded = "[...document.querySelectorAll('.mask:not([hidden])')].filter(mask => mask.complete).length"
    wait_for("the masks are loaded", lambda: screen.evaluate(loaded) == 2)
    with_masks = pixels(screen)
    screen.keyboard.press("m")  # off again by key: nothing scrolls, so the two pictures lie on each other
    without = pixels(screen)
    changed = (with_masks != without).any(axis=2)
    both = lungs_of(truth)
    lungs = np.asarray(Image.fromarray(both).resize((round(box["width"]), round(box["height"]))))
    lungs = lungs[: changed.shape[0], : changed.shape[1]]
    overlap = 2 * (changed & lungs).sum() / (changed.sum() + lungs.sum())
    assert overlap > 0.9, f"Dice of the drawn masks and the true lungs is {overlap:.2f}"
    screen.keyboard.press("m")
    keep_screenshot(screen, "study-masks")


def pixels(screen: Page) -> NDArray[np.uint8]:
    """What the image looks like on the screen, uint8 [h, w, 3]."""
    shot = Image.open(BytesIO(screen.locator(".layers").screenshot())).convert("RGB")
    # A box of a broken number of pixels is cut to one more or one less of them, now and then.
    return np.asarray(shot)[: shot.height // 4 * 4 - 4, : shot.width // 4 * 4 - 4]


def test_window_and_level_change_the_image_and_reset_brings_it_back(department: Department, screen: Page) -> None:
    goto(screen, f"{department.node.page_url}/studies/{department.well_placed.StudyInstanceUID}")
    before = pixels(screen)
    width = screen.locator(".window-width")
    width.focus()
    for _ in range(20):
        screen.keyboard.press("ArrowLeft")
    wait_for("the canvas is drawn", lambda: screen.locator(".layers canvas").is_visible())
    wait_for("more contrast", lambda: pixels(screen).std() > before.std() + 1)
    box = screen.locator(".layers").bounding_box()
    assert box
    level = screen.locator(".window-level").input_value()
    screen.mouse.move(box["x"] + 200, box["y"] + 200)
    screen.mouse.down()
    screen.mouse.move(box["x"] + 200, box["y"] + 300, steps=3)
    screen.mouse.up()
    assert screen.locator(".window-level").input_value() != level
    screen.get_by_role("button", name="Reset").click()
    # The preview is a JPEG, the canvas is exact.
    wait_for("the default window", lambda: np.abs(pixels(screen).astype(int) - before).mean() < 3)
    screen.get_by_role("button", name="Invert").click()
    wait_for("inverted", lambda: np.abs(pixels(screen).astype(int) - before).mean() > 40)


def test_the_study_page_tells_what_was_set_aside_what_was_made_and_when(department: Department, screen: Page) -> None:
    goto(screen, f"{department.node.page_url}/studies/{department.flagged.StudyInstanceUID}")
    live = screen.locator("#live")
    expect(live).to_contain_text("Set aside by routing")
    expect(live).to_contain_text(str(department.lateral.SOPInstanceUID))
    expect(live).to_contain_text("lateral", ignore_case=True)
    for words in ("Image received", "Image analysed", "Result 1", "report", "segmentation"):
        expect(live).to_contain_text(words)


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_and_nothing_is_cut_off(
    department: Department, chromium_browser: Browser, scheme: Literal["dark", "light"], width: int
) -> None:
    reset(department.node)
    addresses = {
        "worklist": "/",
        "study": f"/studies/{department.flagged.StudyInstanceUID}",
        "nobody": "/?q=nobody",
        "checks": "/checks",
        "quarantine": "/quarantine",
        "access": "/access",
    }
    context = chromium_browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    for name, address in addresses.items():
        goto(page, department.node.page_url + address)
        found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]})
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} scrolls sideways"
        keep_screenshot(page, f"{name}-{width}-{scheme}", full_page=True)
    context.close()


def test_the_pages_work_without_scripts(department: Department, chromium_browser: Browser) -> None:
    reset(department.node)
    context = chromium_browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(department.node.page_url)
    page.locator(".study").first.get_by_role("button", name="Mark as read").click()
    expect(page.locator("h1")).to_contain_text("Müller")
    assert state(department, department.flagged) == "read"
    context.close()
