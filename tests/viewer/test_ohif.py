"""What a reader sees in OHIF: phantom studies sent through the node, opened from the page, checked on the screen."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, expect
from pydicom import Dataset
from sqlalchemy import select

from schemas.account_tables import AccessEntry
from tests.support.live_node import LiveNode, orthanc_destination
from tests.support.peers import Orthanc
from tests.support.phantoms import Tube, phantom, write_phantom
from tests.viewer.looking import LIMIT_PX, Seen, look, read_case
from tests.viewer.ohif import Ohif

#: What the model's tip may be off the true one, mm; the viewer's own part is checked in pixels.
TIP_TOLERANCE_MM = 10.0


@dataclass(frozen=True)
class Sent:
    """A phantom study in the node and in the PACS."""

    path: Path
    header: Dataset
    seed: int
    tube: Tube

    @property
    def uid(self) -> str:
        return str(self.header.StudyInstanceUID)

    @property
    def href(self) -> str:
        return f"/viewer/viewer?StudyInstanceUIDs={self.uid}"


@dataclass(frozen=True)
class Department:
    node: LiveNode
    orthanc: Orthanc
    well_placed: Sent
    malpositioned: Sent
    #: MONOCHROME1, landscape, a name and an ID beyond ASCII.
    without_tube: Sent


def _inverted(dataset: Dataset) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = "Yamada^Tarou=山田^太郎", "山田 3"
    dataset.PhotometricInterpretation, dataset.PresentationLUTShape = "MONOCHROME1", "INVERSE"
    dataset.PixelData = (4095 - dataset.pixel_array).astype("<u2").tobytes()


@pytest.fixture(scope="module")
def department(orthanc: Orthanc, viewer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    folder = tmp_path_factory.mktemp("department")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHEXNODE_PAGE__VIEWER", str(viewer))
        node = LiveNode(folder / "home", "", "", orthanc_destination(orthanc.url))

        def send(seed: int, tube: Tube, rows: int, columns: int, inverted: bool = False) -> Sent:
            def change(dataset: Dataset) -> None:
                dataset.StudyDate, dataset.StudyTime = datetime.now().strftime("%Y%m%d %H%M%S").split()
                dataset.PatientID, dataset.PatientName = f"VIEWER-{seed}", f"Viewer^Phantom {seed}"
                if inverted:
                    _inverted(dataset)

            path = folder / f"{seed}.dcm"
            header = write_phantom(path, seed, tube, rows=rows, columns=columns, change=change)
            orthanc.client.upload(path.read_bytes())
            assert node.send(path)[0].accepted
            node.wait_delivered(str(header.StudyInstanceUID))
            return Sent(path, header, seed, tube)

        try:
            node.start("node", "page", "worker", "delivery")
            yield Department(
                node,
                orthanc,
                send(17, "well-placed", 1024, 854),
                send(34, "malpositioned", 1024, 854),
                send(3, "absent", 512, 640, inverted=True),
            )
        finally:
            node.stop()


@pytest.fixture(scope="module")
def context(chromium_browser: Browser) -> Iterator[BrowserContext]:
    context = chromium_browser.new_context()
    yield context
    context.close()


def seen(context: BrowserContext, department: Department, sent: Sent, keep: str) -> Seen:
    rows, columns = int(sent.header.Rows), int(sent.header.Columns)
    truth = phantom(sent.seed, sent.tube, rows, columns)
    case = read_case(department.node, department.orthanc, sent.href, sent.path, truth)
    ohif = Ohif.start(context, department.node.page_url)
    try:
        return look(ohif, case, keep)
    finally:
        ohif.close()


@pytest.mark.parametrize("which", ["well_placed", "malpositioned"])
def test_image_report_and_segmentation_are_where_the_objects_and_the_truth_have_them(
    context: BrowserContext, department: Department, which: str
) -> None:
    shown = seen(context, department, getattr(department, which), f"viewer-{which.replace('_', '-')}")
    assert shown.faults == []
    assert shown.tip is not None and shown.tip < LIMIT_PX
    assert shown.tip_drawn is not None and shown.tip_drawn < LIMIT_PX
    assert shown.tip_truth_mm is not None and shown.tip_truth_mm < TIP_TOLERANCE_MM
    assert np.median(shown.edge) < LIMIT_PX and np.percentile(shown.edge, 95) < LIMIT_PX
    assert shown.lungs_truth > 0.95
    (position,) = [line for line in shown.summary if line.startswith("Endotracheal tube: position")]
    assert ("abnormal" in position) is (which == "malpositioned")


def test_a_study_without_a_tube_shows_no_tip_and_its_inverted_image_is_shown_as_a_radiograph(
    context: BrowserContext, department: Department
) -> None:
    shown = seen(context, department, department.without_tube, "viewer-without-tube")
    assert shown.faults == []
    assert shown.tip is None and not any(label.text.startswith("Tip") for label in shown.labels)
    assert any(line.startswith("Endotracheal tube: absent") for line in shown.summary)
    assert shown.image_correlation > 0.99
    assert shown.lungs_truth > 0.95


def test_a_reader_gets_from_the_studys_page_to_its_images_and_it_is_in_the_access_log(
    context: BrowserContext, department: Department
) -> None:
    sent = department.without_tube
    page = context.new_page()
    page.goto(f"{department.node.page_url}/studies/{sent.uid}")
    with context.expect_page() as opened:
        page.get_by_role("link", name="Open in OHIF").first.click()
    images = opened.value
    images.wait_for_selector("canvas.cornerstone-canvas")
    images.get_by_text("W:").first.wait_for()
    assert images.url == f"{department.node.page_url}{sent.href}"
    # The other studies of the patient were asked for by the ID as it is, and there is this one.
    expect(images.locator("[data-cy^=study-browser-thumbnail][data-series]")).to_have_count(3)
    images.close()
    page.close()
    with department.node.ledger.read() as session:
        query = select(AccessEntry.study_instance_uid).where(AccessEntry.action == "viewer")
        assert sent.uid in set(session.scalars(query))
