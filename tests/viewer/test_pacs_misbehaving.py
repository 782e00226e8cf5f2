"""The proxy before PACSs that misbehave, and the bounds of what it takes in."""

import base64
import json
import time
from asyncio import Semaphore
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from sqlalchemy import select
from starlette.testclient import TestClient

from node.page import pacs_proxy
from schemas.account_tables import AccessEntry
from schemas.settings import OrthancDestination
from tests.support.peers import Orthanc
from tests.support.processes import free_port, wait_for
from tests.viewer.proxy import JSON, Pacs, Page, reply


def test_searches_of_the_whole_pacs_are_in_the_access_log_without_what_was_searched_for(
    behaving: Callable[..., tuple["Pacs", Page]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, page = behaving(lambda handler: reply(handler, 200, b"[]", Content_Type="application/dicom+json"))

    def rows() -> list[tuple[str, str, str]]:
        with page.ledger.read() as session:
            entries = session.scalars(select(AccessEntry).order_by(AccessEntry.id)).all()
            return [(each.action, each.study_instance_uid, each.detail) for each in entries]

    assert page.client.get("/pacs/studies?limit=x", headers=JSON).status_code == 400
    assert rows() == []
    for address in ("studies?PatientName=Proxy*", "studies?PatientName=%C3%84nne", "series", "instances?PatientID=1"):
        assert page.client.get(f"/pacs/{address}", headers=JSON).status_code == 200
    assert rows() == [("viewer", "", "search")]
    page.client.get("/pacs/studies/1.2/series", headers=JSON)
    assert rows() == [("viewer", "", "search"), ("viewer", "1.2", "")]
    monkeypatch.setattr(pacs_proxy, "_SEARCH_SECONDS", 0.0)
    page.client.get("/pacs/studies?PatientName=Proxy*", headers=JSON)
    assert rows()[2:] == [("viewer", "", "search")]


def test_credentials_are_the_nodes_and_cookies_go_neither_way(behaving: Callable[..., tuple[Pacs, Page]]) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        reply(handler, 200, b"[]", Content_Type="application/dicom+json", Set_Cookie="pacs=1", Server="Secret/1.0")

    pacs, page = behaving(answer, username="chexnode", password="geheim", dicomweb_root="/root/dicom-web/")
    page.client.cookies.set("session", "reader")
    headers = {"Accept": "application/dicom+json", "Authorization": "Bearer reader", "Connection": "keep-alive, X-Hop"}
    response = page.client.get("/pacs/studies?PatientID=1", headers={**headers, "X-Hop": "1"})
    assert response.json() == []
    ((target, received),) = pacs.asked
    assert target == "/root/dicom-web/studies?PatientID=1&limit=101"
    assert received["authorization"] == f"Basic {base64.b64encode(b'chexnode:geheim').decode()}"
    assert received["accept"] == "application/dicom+json"
    assert not {"cookie", "x-hop", "x-forwarded-for", "origin"} & set(received)
    assert "pacs=1" not in response.headers.get("set-cookie", "")
    assert "Secret" not in response.headers.get("server", "")


@pytest.mark.parametrize("status", [401, 403])
def test_a_pacs_that_refuses_the_node_does_not_ask_the_reader_for_a_password(
    behaving: Callable[..., tuple[Pacs, Page]], status: int
) -> None:
    _, page = behaving(lambda handler: reply(handler, status, b"", WWW_Authenticate='Basic realm="Orthanc"'))
    response = page.client.get("/pacs/studies", headers=JSON)
    assert response.status_code == 502
    assert "credentials" in response.text
    assert "www-authenticate" not in response.headers


@pytest.mark.parametrize(("status", "expected"), [(404, 404), (400, 400), (500, 502), (503, 502), (302, 502)])
def test_other_refusals_say_what_the_pacs_answered(
    behaving: Callable[..., tuple[Pacs, Page]], status: int, expected: int
) -> None:
    _, page = behaving(lambda handler: reply(handler, status, b"<script>", Location="http://evil.example/"))
    response = page.client.get("/pacs/studies/1.2.3", headers=JSON)
    assert response.status_code == expected
    assert str(status) in response.text and "<script>" not in response.text
    assert "location" not in response.headers


def test_a_dead_pacs_is_a_bad_gateway(page_for: Callable[[OrthancDestination | None], Page]) -> None:
    page = page_for(OrthancDestination(name="pacs", url=f"http://127.0.0.1:{free_port()}"))
    response = page.client.get("/pacs/studies", headers=JSON)
    assert response.status_code == 502
    assert "cannot be reached" in response.text


@pytest.mark.parametrize("begun", [False, True])
def test_a_slow_pacs_is_a_gateway_timeout(behaving: Callable[..., tuple[Pacs, Page]], begun: bool) -> None:
    released = Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if begun:
            handler.send_response(200)
            handler.send_header("Content-Type", "application/dicom+json")
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b"[")
        released.wait(20)

    _, page = behaving(answer, timeout_seconds=0.3)
    started = time.monotonic()
    response = page.client.get("/pacs/studies", headers=JSON)
    released.set()
    assert response.status_code == 504
    assert "in time" in response.text
    assert time.monotonic() - started < 5


def streamed(pacs: Pacs, received: Callable[[bytes], None]) -> dict[str, str]:
    """Take a frame through the proxy, each part as it comes; returns the headers."""
    destination = OrthancDestination(name="pacs", url=pacs.url)

    async def take() -> dict[str, str]:
        async with httpx.AsyncClient() as client, AsyncExitStack() as stack:
            link = pacs_proxy._Pacs(client, destination, Semaphore(1), stack)
            response = await link.get("studies/1.2", "", "*/*")
            async for part in response.body_iterator:  # type: ignore[attr-defined]
                received(part)
            return dict(response.headers)

    # In a thread of its own: that of the tests may belong to the browser's event loop.
    with start_blocking_portal() as portal:
        return portal.call(take)


def test_an_image_that_breaks_off_is_not_taken_for_whole(behaving: Callable[..., tuple[Pacs, Page]]) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/octet-stream")
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(b"x" * 1000)
        handler.close_connection = True

    pacs, _ = behaving(answer)
    with pytest.raises(httpx.RemoteProtocolError, match=r"incomplete|peer closed"):
        streamed(pacs, lambda part: None)


def test_a_long_image_is_passed_on_while_it_comes(behaving: Callable[..., tuple[Pacs, Page]]) -> None:
    """The first bytes arrive before the PACS has sent the last: nothing is taken in whole."""
    go_on = Event()
    content = bytearray()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/octet-stream")
        handler.send_header("Content-Length", "200000")
        handler.end_headers()
        handler.wfile.write(b"a" * 100_000)
        if go_on.wait(20):
            handler.wfile.write(b"b" * 100_000)

    def received(part: bytes) -> None:
        content.extend(part)
        go_on.set()

    pacs, _ = behaving(answer)
    headers = streamed(pacs, received)
    assert content == b"a" * 100_000 + b"b" * 100_000
    assert headers["content-length"] == "200000"


def test_an_orthanc_elsewhere_that_names_itself_otherwise_is_rewritten_too(
    behaving: Callable[..., tuple[Pacs, Page]],
) -> None:
    content = json.dumps(
        [
            {"7FE00010": {"vr": "OW", "BulkDataURI": "https://pacs.example:8443/orthanc/dicom-web/studies/1.2/bulk/1"}},
            {"00081030": {"vr": "LO", "Value": ["see http://pacs.example/dicom-web/ for more"]}},
        ]
    ).encode()
    _, page = behaving(lambda handler: reply(handler, 200, content, Content_Type="application/dicom+json"))
    first, second = page.client.get("/pacs/studies/1.2/metadata", headers=JSON).json()
    assert first["7FE00010"]["BulkDataURI"] == "/pacs/studies/1.2/bulk/1"
    assert second["00081030"]["Value"] == ["see http://pacs.example/dicom-web/ for more"]


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("", "limit=101"),
        ("limit=50", "limit=50"),
        ("limit=0", "limit=101"),
        ("limit=100000&offset=202", "offset=202&limit=101"),
        ("Limit=100000&LIMIT=7&limit=9", "limit=7"),
        ("PatientID=1&limit=100000", "PatientID=1&limit=101"),
    ],
)
@pytest.mark.parametrize("level", ["studies", "series", "instances"])
def test_no_search_has_the_whole_pacs_for_an_answer(
    behaving: Callable[..., tuple[Pacs, Page]], level: str, asked: str, sent: str
) -> None:
    pacs, page = behaving(lambda handler: reply(handler, 200, b"[]", Content_Type="application/dicom+json"))
    assert page.client.get(f"/pacs/{level}?{asked}", headers=JSON).status_code == 200
    assert [target for target, _ in pacs.asked] == [f"/dicom-web/{level}?{sent}"]


@pytest.mark.parametrize("limit", ["-1", "1.5", "ten", "1e9", "9999999999", ""])
def test_a_limit_that_is_no_number_is_refused(behaving: Callable[..., tuple[Pacs, Page]], limit: str) -> None:
    pacs, page = behaving(lambda handler: reply(handler, 200, b"[]", Content_Type="application/dicom+json"))
    assert page.client.get(f"/pacs/studies?limit={limit}", headers=JSON).status_code == 400
    assert pacs.asked == []


def test_the_series_of_a_study_come_all(behaving: Callable[..., tuple[Pacs, Page]]) -> None:
    pacs, page = behaving(lambda handler: reply(handler, 200, b"[]", Content_Type="application/dicom+json"))
    page.client.get("/pacs/studies/1.2/series?includefield=00080060", headers=JSON)
    assert [target for target, _ in pacs.asked] == ["/dicom-web/studies/1.2/series?includefield=00080060"]


@pytest.mark.parametrize(
    ("path", "most"), [("studies", "_PARSED_BYTES"), ("studies/1.2/metadata", "_JSON_BYTES"), ("series", "_JSON_BYTES")]
)
def test_json_beyond_the_bound_is_not_taken_in(
    behaving: Callable[..., tuple[Pacs, Page]], monkeypatch: pytest.MonkeyPatch, path: str, most: str
) -> None:
    content = json.dumps([{"00081030": {"vr": "LO", "Value": ["x" * 10_000]}}]).encode()
    _, page = behaving(lambda handler: reply(handler, 200, content, Content_Type="application/dicom+json"))
    assert page.client.get(f"/pacs/{path}", headers=JSON).status_code == 200
    monkeypatch.setattr(pacs_proxy, most, 10_000)
    answer = page.client.get(f"/pacs/{path}", headers=JSON)
    assert answer.status_code == 502
    assert "too long" in answer.text


def test_a_visitor_has_so_many_requests_at_a_time_and_others_go_on(
    behaving: Callable[..., tuple[Pacs, Page]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacs_proxy, "_TURN_SECONDS", 0.5)
    released = Event()
    most = pacs_proxy._TURNS

    def answer(handler: BaseHTTPRequestHandler) -> None:
        # The body counts, not only the head: a frame is under way until its last byte is sent.
        handler.send_response(200)
        handler.send_header("Content-Type", "application/octet-stream")
        handler.send_header("Content-Length", "1")
        handler.end_headers()
        released.wait(20)
        handler.wfile.write(b"x")

    pacs, page = behaving(answer)
    other = TestClient(page.client.app, "http://localhost", client=("127.0.0.2", 50000), raise_server_exceptions=False)
    other.portal = page.client.portal
    address = "/pacs/studies/1.2/series/1.3/instances/1.4/frames/1"
    with ThreadPoolExecutor(most + 1) as threads:
        try:
            taken = [threads.submit(page.client.get, address) for _ in range(most)]
            wait_for("all turns are taken", lambda: len(pacs.asked) == most)
            started = time.monotonic()
            refused = page.client.get(address)
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) >= 1
            assert 0.3 < time.monotonic() - started < 5
            assert len(pacs.asked) == most
            of_other = threads.submit(other.get, address)
            wait_for("another visitor's request goes on", lambda: len(pacs.asked) == most + 1)
        finally:
            released.set()
        assert {each.result(20).status_code for each in [*taken, of_other]} == {200}
    assert page.client.get(address).status_code == 200
    assert page.client.app.state.pacs_proxy._queues == {}  # type: ignore[attr-defined]


def test_only_so_many_answers_are_rewritten_at_a_time(behaving: Callable[..., tuple[Pacs, Page]]) -> None:
    released = Event()
    begun: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/dicom+json")
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        begun.append(handler.path)
        released.wait(20)
        handler.wfile.write(b"[]")

    _, page = behaving(answer)
    with ThreadPoolExecutor(8) as threads:
        try:
            waiting = [threads.submit(page.client.get, "/pacs/studies/1.2/metadata") for _ in range(8)]
            wait_for("all are asked", lambda: len(begun) == 8)
            rewrites = page.client.app.state.pacs_proxy.rewrites  # type: ignore[attr-defined]
            wait_for("as many as may be are taken in", lambda: rewrites.locked())
        finally:
            released.set()
        assert {each.result(20).status_code for each in waiting} == {200}
    assert not rewrites.locked()


def test_the_page_answers_while_a_long_json_is_rewritten(behaving: Callable[..., tuple[Pacs, Page]]) -> None:
    each = {"7FE00010": {"vr": "OW", "BulkDataURI": "http://pacs.example/dicom-web/studies/1.2/bulk/1"}}
    content = json.dumps([each] * 120_000).encode()
    assert len(content) < pacs_proxy._JSON_BYTES
    _, page = behaving(lambda handler: reply(handler, 200, content, Content_Type="application/dicom+json"))
    slowest = 0.0
    with ThreadPoolExecutor(1) as threads:
        long = threads.submit(page.client.get, "/pacs/studies/1.2/metadata")
        while not long.done():
            started = time.monotonic()
            assert page.client.get("/health/live").status_code == 200
            slowest = max(slowest, time.monotonic() - started)
    assert long.result().content.count(b'"/pacs/studies/1.2/bulk/1"') == 120_000
    assert slowest < 1.0


def test_the_pacs_can_come_back(tmp_path: Path, page_for: Callable[[OrthancDestination | None], Page]) -> None:
    folder = tmp_path / "orthanc"
    folder.mkdir()
    server = Orthanc(folder)
    page = page_for(OrthancDestination(name="pacs", url=server.url))
    assert page.client.get("/pacs/studies", headers=JSON).json() == []
    server.stop()
    assert page.client.get("/pacs/studies", headers=JSON).status_code == 502
    server.start()
    answer = wait_for("it answers again", lambda: page.client.get("/pacs/studies", headers=JSON).status_code == 200)
    assert answer
    server.stop()
