"""What the page does by itself in a real browser: the stream of changes, how it comes back, and keys that mark."""

import re
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from time import monotonic

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from node.page import events
from schemas.account_tables import LoginSession
from schemas.codes import TubePosition
from schemas.pictures import INDEX, EvidenceScale, PictureIndex, Size
from schemas.tables import Picture, ReadState, WorkState
from tests.node.studies import add_study, commit_result, document
from tests.page.conftest import PASSWORD, ServedPage, Server
from tests.page.test_worklist_and_api import add_picture
from tests.support.processes import wait_for

#: Browsers hide a page and tell it when another tab comes to the front; a browser without a screen shows them all.
_TABS = """
    Object.defineProperty(document, "hidden", { get: () => window.isBehind === true });
    window.bring = (behind) => {
        window.isBehind = behind;
        document.dispatchEvent(new Event("visibilitychange"));
    };
"""
#: How long after a page was shown its keys mark nothing, ms.
_SETTLE_MS = 700


@pytest.fixture
def context(chromium_browser: Browser) -> Iterator[BrowserContext]:
    context = chromium_browser.new_context()
    context.add_init_script(_TABS)
    yield context
    context.close()


def test_eight_tabs_work_though_a_browser_has_six_connections(server: Server, context: BrowserContext) -> None:
    add_study(server.page.ledger, "1.1")
    tabs: list[Page] = []
    for number in range(8):
        for each in tabs[-1:]:
            each.evaluate("bring(true)")
        tabs.append(context.new_page())
        tabs[-1].goto(server.url, timeout=10_000)
        expect(tabs[-1].locator(".live"), f"tab {number}").to_have_text("live")
    wait_for("the tabs behind hold no stream", lambda: server.streams == 1)
    add_study(server.page.ledger, "1.2")
    expect(tabs[-1].locator(".study")).to_have_count(2)
    assert tabs[0].locator(".study").count() == 1

    tabs[-1].evaluate("bring(true)")
    tabs[0].evaluate("bring(false)")
    expect(tabs[0].locator(".study")).to_have_count(2)
    expect(tabs[0].locator(".live")).to_have_text("live")
    wait_for("one stream again", lambda: server.streams == 1)


@pytest.mark.parametrize("status", [502, 503])
def test_a_refused_stream_reloads_nothing_and_comes_back(server: Server, context: BrowserContext, status: int) -> None:
    server.refuses = status
    tab = context.new_page()
    tab.goto(server.url)
    expect(tab.locator(".live")).to_have_text("not live")
    tab.wait_for_timeout(3000)
    assert server.count("/") == 1
    # One to listen and one to see why it is refused, each time after a longer wait.
    assert 2 <= server.count("/events") <= 8
    add_study(server.page.ledger, "1.1")
    server.refuses = None
    expect(tab.locator(".live")).to_have_text("live", timeout=15_000)
    expect(tab.locator(".study")).to_have_count(1)


def test_when_the_network_is_back_the_page_listens_again(server: Server, context: BrowserContext) -> None:
    tab = context.new_page()
    tab.goto(server.url)
    expect(tab.locator(".live")).to_have_text("live")
    context.set_offline(True)
    tab.evaluate("bring(true); bring(false)")
    expect(tab.locator(".live")).to_have_text("not live")
    add_study(server.page.ledger, "1.1")
    context.set_offline(False)
    expect(tab.locator(".study")).to_have_count(1, timeout=15_000)
    expect(tab.locator(".live")).to_have_text("live")


def test_when_the_login_has_ended_nothing_stays_on_the_screen(
    server: Server, context: BrowserContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_VALID_SECONDS", 0.2)
    add_study(server.page.ledger, "1.1")
    server.page.add_account("ada")
    tab = context.new_page()
    tab.goto(f"{server.url}/login")
    tab.fill("[name=name]", "ada")
    tab.fill("[name=password]", PASSWORD)
    tab.keyboard.press("Enter")
    expect(tab.locator(".live")).to_have_text("live")
    server.page.ledger.write(lambda session: session.execute(delete(LoginSession)))
    tab.wait_for_url(re.compile("/login"), timeout=10_000)
    expect(tab.locator(".study")).to_have_count(0)


def test_many_changes_within_a_second_are_few_requests(server: Server, context: BrowserContext) -> None:
    tab = context.new_page()
    tab.goto(server.url)
    expect(tab.locator(".live")).to_have_text("live")
    tab.wait_for_timeout(1000)
    before = server.count("/")
    started = monotonic()
    for number in range(12):
        add_study(server.page.ledger, f"1.{number + 1}")
        tab.wait_for_timeout(100)
    expect(tab.locator(".study")).to_have_count(12)
    assert 1 <= server.count("/") - before <= 2 + (monotonic() - started) / 0.4


def test_a_key_that_is_held_or_struck_twice_marks_one_study(server: Server, context: BrowserContext) -> None:
    for number in range(4):
        add_study(server.page.ledger, f"1.{number + 1}", waited=100 - number)
    tab = context.new_page()
    tab.goto(f"{server.url}/studies/1.1")
    tab.keyboard.press("r")
    tab.wait_for_timeout(_SETTLE_MS + 300)
    assert server.state("1.1") != ReadState.READ, "the page had been shown for a moment only"
    # The second and further `down` without an `up` are the repetition of a held key.
    for _ in range(30):
        tab.keyboard.down("r")
        tab.wait_for_timeout(50)
    tab.keyboard.up("r")
    expect(tab).to_have_url(re.compile("/studies/1.2$"))
    assert [server.state(f"1.{number}") == ReadState.READ for number in (1, 2, 3, 4)] == [True, False, False, False]

    tab.wait_for_timeout(_SETTLE_MS + 300)
    tab.keyboard.press("r")
    tab.keyboard.press("r")
    expect(tab).to_have_url(re.compile("/studies/1.3$"))
    tab.wait_for_timeout(500)
    assert [server.state(f"1.{number}") == ReadState.READ for number in (1, 2, 3, 4)] == [True, True, False, False]


def test_nothing_is_marked_by_key_before_its_image_is_there(server: Server, context: BrowserContext) -> None:
    add_study(server.page.ledger, "1.1")
    commit_result(server.page.ledger, document("1.1", TubePosition.NORMAL, set()))
    add_picture(server.page)
    draw(server.page)
    tab = context.new_page()
    held: list[Callable[[], None]] = []

    def hold(route: Route) -> None:
        held.append(route.continue_)

    tab.route("**/preview.jpg", hold)
    tab.goto(f"{server.url}/studies/1.1", wait_until="domcontentloaded")
    expect(tab.locator(".live")).to_have_text("live")
    tab.wait_for_timeout(_SETTLE_MS + 300)
    tab.keyboard.press("r")
    expect(tab.locator("#said")).to_contain_text("still being loaded")
    assert server.state("1.1") != ReadState.READ
    for go_on in held:
        go_on()
    tab.wait_for_load_state("load")
    tab.wait_for_timeout(_SETTLE_MS + 100)
    tab.keyboard.press("r")
    # It goes on to the next study, and there is none: back to the list, at rest.
    tab.wait_for_url(f"{server.url}/")
    tab.wait_for_load_state("load")
    assert server.state("1.1") == ReadState.READ


def draw(page: ServedPage) -> None:
    """Pictures for every image that has some, with an index and a preview."""
    size = Size(rows=100, columns=80)
    scale = EvidenceScale(lowest=1, highest=2, colours=["#000000"], opacities=[0])
    index = PictureIndex(rows=100, columns=80, pixels=size, thumbnail=size, evidence=[], evidence_scale=scale, masks=[])
    jpeg, made = BytesIO(), BytesIO()
    Image.new("L", (80, 100)).save(jpeg, "JPEG")
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(INDEX, index.model_dump_json())
        archive.writestr("preview.jpg", jpeg.getvalue())
        archive.writestr("thumbnail.jpg", jpeg.getvalue())
    sha256 = page.store.put(made.getvalue())

    def change(session: Session) -> None:
        for each in session.scalars(select(Picture)):
            each.sha256, each.state = sha256, WorkState.DONE

    page.ledger.write(change)
