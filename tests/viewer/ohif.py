"""OHIF in a browser tab, driven as a reader drives it, with everything that went wrong while it was open."""

from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from PIL import Image
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response

from tests.support.browser import keep_screenshot
from tests.support.processes import wait_for
from tests.viewer.screen import Box, Pixels

#: The canvas that the image is drawn on, and the layer of annotations above it.
_CANVAS = "canvas.cornerstone-canvas"
_ANNOTATIONS = "svg.svg-layer"
#: Console messages of the pinned OHIF that mean nothing.
_HARMLESS = ("dataSource=", "Metadata add skipped", "Download the React DevTools")

#: Difference of the channels from which on a pixel counts as coloured.
_COLOURED = 40

#: Where arrow, link and label of an annotation are: OHIF draws an arrow (three lines that end at its tip), the label's
#: group, and the line that links both.
_ARROWS = """labels => labels.map(label => {
    const arrow = label.previousElementSibling;
    return {
        uid: label.dataset.annotationUid,
        text: [...label.querySelectorAll('tspan')].map(line => line.textContent).join('\\n'),
        x: arrow?.tagName === 'line' ? Number(arrow.getAttribute('x2')) : null,
        y: arrow?.tagName === 'line' ? Number(arrow.getAttribute('y2')) : null,
    };
})"""

#: A digest of what is drawn and written, faster than a screenshot; "" while a viewport is being replaced.
_FINGERPRINT = """async ([canvas, annotations]) => {
    const drawn = document.querySelector(canvas);
    if (!drawn || !drawn.width) return '';
    const parts = [drawn.toDataURL(), document.querySelector(annotations)?.innerHTML, document.body.innerText];
    const bytes = new TextEncoder().encode(JSON.stringify([...parts, drawn.getBoundingClientRect()]));
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    return Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join('');
}"""
_BOXES = """texts => texts.filter(text => text.textContent).map(text => {
    const box = text.getBoundingClientRect();
    return [text.textContent, box.left, box.top, box.right, box.bottom];
})"""


def _overlap(one: list[float], other: list[float]) -> bool:
    """Whether two boxes (left, top, right, bottom) share more than their borders."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@dataclass(frozen=True)
class Label:
    """An annotation's label; `x`, `y` is the tip of its arrow in CSS pixels of the viewport, None without an arrow."""

    #: Tracking UID of the measurement group.
    uid: str
    text: str
    x: float | None
    y: float | None


@dataclass
class Ohif:
    """A tab with OHIF at `root` (the page's address)."""

    root: str
    page: Page
    #: Console errors, exceptions, failed requests and requests to anybody else.
    problems: list[str] = field(default_factory=list)

    @staticmethod
    def start(context: BrowserContext, root: str, width: int = 1600, height: int = 1000) -> "Ohif":
        """A new tab; tabs of one context share the browser's cache, as they do for a reader."""
        ohif = Ohif(root, context.new_page())
        ohif.page.set_viewport_size({"width": width, "height": height})
        ohif.page.on("console", ohif._on_console)
        ohif.page.on("pageerror", lambda error: ohif.problems.append(f"exception: {error}"))
        ohif.page.on("request", ohif._on_request)
        ohif.page.on("response", ohif._on_response)
        return ohif

    def close(self) -> None:
        self.page.close()

    def open(self, href: str) -> None:
        """Follow a study's link and wait until its image stands still on the screen."""
        self.page.goto(self.root + href)
        self.page.wait_for_selector(_CANVAS)
        # Window level is shown once the image is.
        self.page.get_by_text("W:").first.wait_for()
        self.still()

    def show_report(self, series_number: int) -> None:
        """Double-click the report and wait until its annotations are drawn."""
        self._double_click(series_number)
        self.page.wait_for_selector(f"{_ANNOTATIONS} g[data-annotation-uid]", state="attached")
        self.still()

    def show_segmentation(self, series_number: int) -> None:
        """Double-click the segmentation and wait until it is drawn over the image."""
        self._double_click(series_number)
        # Radiographs are grey: what has a colour is a segment.
        wait_for("the segmentation is drawn", lambda: int(np.ptp(self.image(), axis=2).max()) > _COLOURED)
        self.still()

    def segment_names(self) -> list[str]:
        """Names in the segmentation panel, which is opened for it."""
        self.page.locator("[data-cy=panelSegmentation-btn]").click()
        rows = self.page.locator("[data-cy=data-row]")
        rows.first.wait_for()
        return [text.strip() for text in rows.all_inner_texts()]

    def labels(self) -> list[Label]:
        groups = self.page.locator(f"{_ANNOTATIONS} g[data-annotation-uid]")
        return [Label(each["uid"], each["text"], each["x"], each["y"]) for each in groups.evaluate_all(_ARROWS)]

    def overlay(self) -> list[str]:
        """Lines of text in the upper left corner of the image."""
        return self.page.locator("[data-cy=viewport-overlay-top-left]").first.inner_text().splitlines()

    def overprinted(self) -> list[str]:
        """Labels of annotations that lie over another one or leave the viewport."""
        viewport = self.viewport()
        boxes = self.page.locator(f"{_ANNOTATIONS} g[data-annotation-uid] text").evaluate_all(_BOXES)
        wrong = []
        for number, (text, *box) in enumerate(boxes):
            inside = box[0] >= viewport.left and box[2] <= viewport.left + viewport.width
            inside = inside and box[1] >= viewport.top and box[3] <= viewport.top + viewport.height
            others = [other for _, *other in boxes[number + 1 :]]
            if not inside or any(_overlap(box, other) for other in others):
                wrong.append(text)
        return wrong

    def shows(self, text: str) -> int:
        """How many elements with just this text are visible."""
        return sum(each.is_visible() for each in self.page.get_by_text(text, exact=True).all())

    def viewport(self) -> Box:
        """Where the image's viewport is on the screen."""
        # OHIF replaces the viewport when another kind of series is shown.
        box = wait_for("a viewport is there", lambda: self.page.locator(_CANVAS).first.bounding_box())
        return Box(box["x"], box["y"], box["width"], box["height"])

    def image(self) -> Pixels:
        """Screenshot of the viewport, uint8 [height, width, 3], with the image and segmentations on it alone."""
        return self._screenshot(f"{_CANVAS} {{ visibility: visible !important }}")

    def annotated(self) -> Pixels:
        """The same with annotations."""
        return self._screenshot(f"{_CANVAS}, {_ANNOTATIONS}, {_ANNOTATIONS} * {{ visibility: visible !important }}")

    def keep(self, name: str) -> None:
        """Keep a screenshot of the whole tab as .test-artefacts/NAME.png."""
        keep_screenshot(self.page, name)

    def still(self) -> None:
        """Wait until image, annotations and words are the same three times in a row."""
        seen: list[str] = []

        def unchanged() -> bool:
            seen.append(self.page.evaluate(_FINGERPRINT, [_CANVAS, _ANNOTATIONS]))
            return len(seen) > 2 and seen[-1] != "" and seen[-1] == seen[-2] == seen[-3]

        wait_for("the screen stands still", unchanged, 30, every=0.1)

    def _screenshot(self, visible: str) -> Pixels:
        box = self.viewport().whole()
        clip = {"x": box.left, "y": box.top, "width": box.width, "height": box.height}
        style = f"* {{ visibility: hidden !important }} {visible}"
        content = self.page.screenshot(clip=clip, style=style)  # type: ignore[arg-type]
        return np.asarray(Image.open(BytesIO(content)).convert("RGB"))

    def _double_click(self, series_number: int) -> None:
        self.page.locator(f'[data-cy^=study-browser-thumbnail][data-series="{series_number}"]').first.dblclick()
        # Out of the way: what the pointer stands on lights up.
        self.page.mouse.move(2, 2)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(_HARMLESS):
            self.problems.append(f"console: {message.text[:300]}")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self.root, "data:", f"blob:{self.root}")):
            self.problems.append(f"request to somebody else: {request.url}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self.problems.append(f"HTTP {response.status}: {response.url}")
