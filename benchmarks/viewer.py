"""Studies opened in OHIF: `python -m benchmarks.viewer [--studies 20]`.

Starts an Orthanc and a node with its page, sends phantom studies (portrait and landscape, small and large, dark and
inverted, with and without a tube) and opens each in headless Chromium at one of three screen sizes: image, report,
segmentation. Prints how many were shown right, and how far tip and edges of masks lie from where the objects have them,
in screen pixels; apart from it the model's own error against the phantoms' truth. Screenshots: .test-artefacts/.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from rich.console import Console
from rich.progress import track
from rich.table import Table

from node.page.viewer_package import VERSION, check, default_folder, fetch, is_viewer, unpack
from tests.support.browser import chromium
from tests.support.live_node import LiveNode, orthanc_destination
from tests.support.peers import Orthanc
from tests.support.phantoms import Tube, phantom, write_phantom
from tests.viewer.looking import Case, Seen, look, read_case
from tests.viewer.ohif import Ohif

_SIZES = ((1024, 854), (854, 1024), (2048, 1706), (512, 512), (2500, 2048))
_TUBES: tuple[Tube, ...] = ("well-placed", "malpositioned", "absent", "any")
_SCREENS = ((1600, 1000), (1280, 800), (1920, 1200))


@dataclass(frozen=True)
class _Plan:
    """What the study of this number is like."""

    number: int

    @property
    def seed(self) -> int:
        return 4000 + self.number

    @property
    def size(self) -> tuple[int, int]:
        return _SIZES[self.number % len(_SIZES)]

    @property
    def tube(self) -> Tube:
        return _TUBES[self.number % len(_TUBES)]

    @property
    def screen(self) -> tuple[int, int]:
        return _SCREENS[self.number % len(_SCREENS)]

    def change(self, dataset: Dataset) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.PatientID, dataset.PatientName = f"BENCH {self.number}", f"Jörg^Müller {self.number}"
        if self.number % 3 == 2:
            dataset.PhotometricInterpretation, dataset.PresentationLUTShape = "MONOCHROME1", "INVERSE"
            dataset.PixelData = (4095 - dataset.pixel_array).astype("<u2").tobytes()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=20)
    arguments = parser.parse_args()
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["CHEXNODE_PAGE__VIEWER"] = str(_viewer(folder))
        (folder / "orthanc").mkdir()
        orthanc = Orthanc(folder / "orthanc")
        node = LiveNode(folder / "home", "", "", orthanc_destination(orthanc.url))
        try:
            node.start("node", "page", "worker", "delivery")
            plans = [_Plan(number) for number in range(arguments.studies)]
            cases = [
                _send(node, orthanc, folder, plan) for plan in track(plans, "sending", console=console, transient=True)
            ]
            seen = []
            with chromium() as browser:
                context = browser.new_context()
                for plan, case in track(
                    list(zip(plans, cases, strict=True)), "looking", console=console, transient=True
                ):
                    ohif = Ohif.start(context, node.page_url, *plan.screen)
                    seen.append(look(ohif, case, f"viewer-benchmark-{plan.number:02}"))
                    ohif.close()
        finally:
            node.stop()
            orthanc.stop()
    _print(plans, seen, console)


def _viewer(folder: Path) -> Path:
    if is_viewer(default_folder()):
        return default_folder()
    with fetch() as archive:
        check(archive)
        unpack(archive, folder / "ohif")
    return folder / "ohif"


def _send(node: LiveNode, orthanc: Orthanc, folder: Path, plan: _Plan) -> Case:
    path = folder / f"{plan.number}.dcm"
    rows, columns = plan.size
    header = write_phantom(path, plan.seed, plan.tube, change=plan.change, rows=rows, columns=columns)
    orthanc.client.upload(path.read_bytes())
    assert node.send(path)[0].accepted
    uid = str(header.StudyInstanceUID)
    node.wait_delivered(uid)
    truth = phantom(plan.seed, plan.tube, rows, columns)
    return read_case(node, orthanc, f"/viewer/viewer?StudyInstanceUIDs={uid}", path, truth)


def _print(plans: Sequence[_Plan], seen: Sequence[Seen], console: Console) -> None:
    right = sum(not each.faults for each in seen)
    table = Table(
        "figure", *("n", "median", "p95", "max"), title=f"OHIF {VERSION}: {right} of {len(seen)} studies shown right"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    pixels: list[tuple[str, Sequence[float | None]]] = [
        ("image off its place, screen px", [each.image_shift for each in seen]),
        ("tip of the arrow off the result's tip, screen px", [each.tip for each in seen]),
        ("carina's arrow off the result's carina, screen px", [each.carina for each in seen]),
        ("tip to the nearest drawn pixel, screen px", [each.tip_drawn for each in seen]),
        ("edge of masks, each study's median, screen px", [float(np.median(each.edge)) for each in seen]),
        ("edge of masks, all edge pixels, screen px", np.concatenate([each.edge for each in seen]).tolist()),
    ]
    truth: list[tuple[str, Sequence[float | None]]] = [
        ("tip of the arrow off the true tip, mm (model)", [each.tip_truth_mm for each in seen]),
        ("1 - Dice of lungs on screen and true lungs (model)", [1 - each.lungs_truth for each in seen]),
    ]
    for group in (pixels, truth):
        for name, found in group:
            values = [value for value in found if value is not None]
            middle, high = np.percentile(values, [50, 95])
            table.add_row(name, str(len(values)), f"{middle:.3f}", f"{high:.3f}", f"{max(values):.3f}")
        table.add_section()
    console.print(table)
    scales = [each.scale for each in seen]
    console.print(f"screen pixels per image pixel: {min(scales):.2f} to {max(scales):.2f}")
    for plan, each in zip(plans, seen, strict=True):
        for fault in each.faults:
            console.print(f"study {plan.number} (seed {plan.seed}, {plan.size}, {plan.screen}): {fault}", markup=False)


if __name__ == "__main__":
    main()
