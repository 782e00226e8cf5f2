"""Headless Chromium for tests of what is on the screen; WebGL by SwiftShader, as in a browser without a GPU."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

#: Screenshots that a run leaves behind; not under version control.
ARTEFACTS = Path(__file__).resolve().parent.parent.parent / ".test-artefacts"

_FLAGS = (
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--force-color-profile=srgb",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

#: Said by htmx when a request gave way to a newer one, as it should.
_GAVE_WAY = ("htmx:afterRequest", "htmx:sendAbort")

# A machine under load takes longer than Playwright's five seconds.
expect.set_options(timeout=30_000)


def collect_errors(page: Page) -> list[str]:
    """A list that fills with what scripts throw and what the console calls an error."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: (
            problems.append(message.text)
            if message.type == "error" and not message.text.startswith(_GAVE_WAY)
            else None
        ),
    )
    return problems


@contextmanager
def chromium() -> Iterator[Browser]:
    """The installed Chromium (Debian: chromium); skips the test with the reason where there is none."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("chromium is not installed (make test installs it)")
    # Chromium's sandbox does not start for root.
    flags = [*_FLAGS, "--no-sandbox"] if os.geteuid() == 0 else list(_FLAGS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=flags)
        try:
            yield browser
        finally:
            browser.close()


def keep_screenshot(page: Page, name: str, *, full_page: bool = False) -> Path:
    """Save what the page shows as .test-artefacts/NAME.png."""
    ARTEFACTS.mkdir(exist_ok=True)
    path = ARTEFACTS / f"{name}.png"
    page.screenshot(path=path, full_page=full_page)
    return path
