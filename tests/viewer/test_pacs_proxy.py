"""The proxy before a real Orthanc, and before PACSs that misbehave."""

import base64
import hashlib
import json
import time
from asyncio import Semaphore
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import quote

import httpx
import pytest
import requests
from anyio.from_thread import start_blocking_portal
from dicomweb_client import DICOMwebClient
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from sqlalchemy import select
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from node.database import upgrade
from node.ledger import Ledger
from node.object_store import FolderObjectStore
from node.page import pacs_proxy
from node.page.app import create_page
from schemas.settings import OrthancDestination, Settings
from schemas.tables import AccessEntry
from tests.support.peers import Orthanc
from tests.support.phantoms import write_phantom
from tests.support.processes import free_port, wait_for

_JSON = {"Accept": "application/dicom+json"}
#: Patient ID and name of each study: what a value of a search may hold.
_PATIENTS = (
    ("PP-1", "Proxy^Plain"),
    ("PP 2", "Proxy^Space"),
    ("PP&2", "Proxy^Ampersand"),
    ("PP#2", "Proxy^Hash"),
    ("PP+2", "Proxy^Plus"),
    ("PP%2", "Proxy^Percent"),
    ("PP%262", "Proxy^Encoded"),
    ("PP,2", "Proxy^Comma, Jr."),
    ("PP=2;x", "Proxy^Equals"),
    ("PP'2", "Proxy^Apostrophe O'Hara"),
    ("PP/../2", "Proxy^Dots"),
    ("PP-Ä", "Proxy^Jörg Müller"),
    ("PP-山田", "Proxy^Tarou=山田^太郎"),
)


class Page:
    """The page's application with its proxy, without a port; a browser on this host."""

    def __init__(self, folder: Path, destination: OrthancDestination | None) -> None:
        folder.mkdir()
        settings = Settings(home=folder, destinations=[destination] if destination else [])
        self.ledger = Ledger(settings.resolved_ledger_url)
        upgrade(self.ledger)
        app = create_page(settings, self.ledger, FolderObjectStore(folder / "objects"))
        self.client = TestClient(app, "http://localhost", client=("127.0.0.1", 50000), raise_server_exceptions=False)
        self.client.__enter__()

    def close(self) -> None:
        self.client.__exit__()
        self.ledger.close()


@pytest.fixture
def page_for(tmp_path: Path) -> Iterator[Callable[[OrthancDestination | None], Page]]:
    pages: list[Page] = []

    def make(destination: OrthancDestination | None) -> Page:
        pages.append(Page(tmp_path / f"home{len(pages)}", destination))
        return pages[-1]

    yield make
    for each in pages:
        each.close()


@pytest.fixture(scope="module")
def patients(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """A study in Orthanc for each of `_PATIENTS`, by Patient ID."""
    folder = tmp_path_factory.mktemp("patients")
    sent = {}
    for number, (patient_id, name) in enumerate(_PATIENTS):

        def identify(dataset: Dataset, patient_id: str = patient_id, name: str = name) -> None:
            dataset.SpecificCharacterSet = "ISO_IR 192"
            dataset.PatientID, dataset.PatientName = patient_id, name

        path = folder / f"{number}.dcm"
        sent[patient_id] = write_phantom(path, seed=1, rows=256, columns=256, change=identify)
        orthanc.client.upload(path.read_bytes())
    return sent


@pytest.fixture(scope="module")
def page(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    page = Page(tmp_path_factory.mktemp("page") / "home", OrthancDestination(name="pacs", url=orthanc.url))
    yield page
    page.close()


def found(page: Page, patients: dict[str, Dataset], query: str) -> list[str]:
    """Patient IDs of the studies that a search has, of the patients of this module."""
    answer = page.client.get(f"/pacs/studies?{query}", headers=_JSON)
    assert answer.status_code == 200, answer.text
    own = {sent.StudyInstanceUID: patient_id for patient_id, sent in patients.items()}
    studies = {study["0020000D"]["Value"][0]: study["00100020"]["Value"][0] for study in answer.json()}
    assert {uid: patient_id for uid, patient_id in studies.items() if uid in own}.items() <= own.items()
    return sorted(own[uid] for uid in studies if uid in own)


@pytest.mark.parametrize("patient_id", [patient_id for patient_id, _ in _PATIENTS])
def test_a_patient_is_found_by_the_id_as_it_is_whatever_it_is_made_of(
    page: Page, patients: dict[str, Dataset], patient_id: str
) -> None:
    assert found(page, patients, f"00100020={quote(patient_id, safe='')}&limit=101&offset=0&fuzzymatching=false") == [
        patient_id
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Proxy^Pl*", ["PP+2", "PP-1"]),
        ("proxy^plain", ["PP-1"]),
        ("Proxy^Pl?in", ["PP-1"]),
        ("Proxy^Comma, Jr.", ["PP,2"]),
        ("*O'Hara", ["PP'2"]),
        ("Proxy^Jörg*", ["PP-Ä"]),
        ("*山田*", ["PP-山田"]),
    ],
)
def test_names_are_found_with_wildcards_and_letters_beyond_ascii(
    page: Page, patients: dict[str, Dataset], name: str, expected: list[str]
) -> None:
    assert found(page, patients, f"PatientName={quote(name, safe='')}") == expected


def test_without_the_proxy_the_plugin_finds_none_of_these(orthanc: Orthanc, patients: dict[str, Dataset]) -> None:
    """The day this fails, Orthanc decodes queries and the proxy may do less."""
    for query in ("PatientName=Proxy%5EPlain", "PatientID=PP%202", "PatientName=Proxy%2A"):
        assert requests.get(f"{orthanc.url}/dicom-web/studies?{query}", headers=_JSON, timeout=10).json() == []


def test_names_come_whole_though_orthanc_answers_in_latin_1(
    page: Page, orthanc: Orthanc, patients: dict[str, Dataset]
) -> None:
    query = f"StudyInstanceUID={patients['PP-山田'].StudyInstanceUID},{patients['PP-Ä'].StudyInstanceUID}"
    direct = requests.get(f"{orthanc.url}/dicom-web/studies?{query}", headers=_JSON, timeout=10).json()
    assert "PP-" in [study["00100020"]["Value"][0] for study in direct]
    studies = page.client.get(f"/pacs/studies?{query}", headers=_JSON).json()
    names = {study["00100020"]["Value"][0]: study["00100010"]["Value"][0] for study in studies}
    assert names == {
        "PP-山田": {"Alphabetic": "Proxy^Tarou", "Ideographic": "山田^太郎"},
        "PP-Ä": {"Alphabetic": "Proxy^Jörg Müller"},
    }


@pytest.mark.parametrize("separator", [",", "\\"])
def test_a_list_of_studies_is_found_with_either_separator(
    page: Page, patients: dict[str, Dataset], separator: str
) -> None:
    uids = separator.join(patients[each].StudyInstanceUID for each in ("PP-1", "PP&2"))
    assert found(page, patients, f"StudyInstanceUID={quote(uids, safe='')}") == ["PP&2", "PP-1"]
    assert found(page, patients, f"PatientID=PP-1&ModalitiesInStudy={quote(f'CR{separator}DX')}") == ["PP-1"]


def test_fields_that_are_asked_for_beside_come_with_an_encoded_comma(page: Page, patients: dict[str, Dataset]) -> None:
    answer = page.client.get("/pacs/studies?PatientID=PP-1&includefield=00081030%2C00080060", headers=_JSON)
    assert answer.json()[0]["00081030"]["Value"] == ["Chest phantom"]


def test_an_id_that_looks_like_a_second_parameter_stays_a_value(page: Page, patients: dict[str, Dataset]) -> None:
    uid = patients["PP-1"].StudyInstanceUID
    assert found(page, patients, f"PatientID=nobody%26StudyInstanceUID%3D{uid}") == []
    assert found(page, patients, f"PatientID=nobody%26%23&StudyInstanceUID={uid}") == []
    assert found(page, patients, f"PatientID=nobody%2526StudyInstanceUID%253D{uid}") == []


@pytest.mark.parametrize(
    "query",
    ["PatientID=A%0d%0aX-Header:1", "PatientID=A%00", "PatientID=%ff", "Patient%20ID=1", "limit=1%26x", "=1"],
)
def test_what_no_client_means_is_refused(page: Page, query: str) -> None:
    assert page.client.get(f"/pacs/studies?{query}", headers=_JSON).status_code == 400


@given(value=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_what_goes_to_the_pacs_is_one_value_of_plain_characters(value: str) -> None:
    raw = f"PatientID={quote(value, safe='')}&limit=5".encode()
    try:
        query = pacs_proxy._Query.parse(raw, search=True)
    except HTTPException as error:
        assert error.status_code == 400 and not value.isprintable()
        return
    assert query.matches == (("PatientID", value),)
    if not query.awkward:
        sent = query.encoded()
        assert sent.isascii() and not any(char <= " " or char in '%#+"' for char in sent)
        assert sent.count("&") == 1 and sent.endswith("&limit=5")


@pytest.mark.parametrize(
    "path",
    [
        "../system",
        "studies/../../system",
        "%2e%2e/system",
        "studies/%2e%2e/%2e%2e/system",
        "studies/..%2f..%2fsystem",
        "studies/..;/system",
        "studies/1.2/..",
        "system",
        "instances/0e9b1a9e-1/file",
        "tools/find",
        "servers",
        "info",
        "studies/1.2/archive",
        "studies/1.2?/../../system",
        "//evil.example/studies",
        "http://evil.example/studies",
        "studies/1.2/series/1.3/instances/1.4/bulk/../../../../../../../system",
    ],
)
def test_nothing_but_dicomweb_search_and_retrieval_is_reached(page: Page, path: str) -> None:
    # As bytes on the wire: a client would tidy the path first.
    answer = page.client.request("GET", "http://localhost/pacs/x", extensions={"target": f"/pacs/{path}".encode()})
    assert answer.status_code in (400, 404)
    assert "DatabaseVersion" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_nothing_is_changed_through_the_proxy(page: Page, patients: dict[str, Dataset], method: str) -> None:
    uid = patients["PP-1"].StudyInstanceUID
    assert page.client.request(method, f"/pacs/studies/{uid}").status_code in (403, 405)
    assert found(page, patients, "PatientID=PP-1") == ["PP-1"]


def test_frames_bulk_data_and_instances_are_the_bytes_of_the_pacs(
    page: Page, orthanc: Orthanc, patients: dict[str, Dataset]
) -> None:
    sent = patients["PP-1"]
    instance = f"studies/{sent.StudyInstanceUID}/series/{sent.SeriesInstanceUID}/instances/{sent.SOPInstanceUID}"
    for path, accept in (
        (f"{instance}/frames/1", 'multipart/related; type="application/octet-stream"; transfer-syntax=*'),
        (f"{instance}/bulk/7fe00010", 'multipart/related; type="application/octet-stream"'),
        (instance, 'multipart/related; type="application/dicom"'),
        (f"{instance}/rendered", "image/jpeg"),
    ):
        direct = requests.get(f"{orthanc.url}/dicom-web/{path}", headers={"Accept": accept}, timeout=10)
        proxied = page.client.get(f"/pacs/{path}", headers={"Accept": accept})
        assert (direct.status_code, proxied.status_code) == (200, 200), path
        kinds = [str(each.headers["Content-Type"]).partition("boundary=") for each in (direct, proxied)]
        assert kinds[0][0] == kinds[1][0]
        # Orthanc makes a new boundary each time.
        contents = [direct.content, proxied.content]
        bodies = [
            content.replace(kind[2].strip('"').encode() or b"\0none", b"BOUNDARY")
            for content, kind in zip(contents, kinds, strict=True)
        ]
        assert hashlib.sha256(bodies[0]).digest() == hashlib.sha256(bodies[1]).digest(), path
        assert "no-store" in proxied.headers["Cache-Control"]


def test_addresses_of_the_pacs_in_metadata_become_the_proxys(page: Page, patients: dict[str, Dataset]) -> None:
    sent = patients["PP-1"]
    answer = page.client.get(f"/pacs/studies/{sent.StudyInstanceUID}/metadata", headers=_JSON)
    uri = answer.json()[0]["7FE00010"]["BulkDataURI"]
    assert uri.startswith(f"/pacs/studies/{sent.StudyInstanceUID}/series/")
    assert (
        page.client.get(uri, headers={"Accept": 'multipart/related; type="application/octet-stream"'}).status_code
        == 200
    )
    series = page.client.get(f"/pacs/studies/{sent.StudyInstanceUID}/series", headers=_JSON).json()
    assert series[0]["00081190"]["Value"][0].startswith("/pacs/studies/")
    assert "127.0.0.1" not in answer.text


def test_a_dicomweb_client_works_through_it(page: Page, patients: dict[str, Dataset]) -> None:
    class Session(requests.Session):
        def get(self, url: str, **options: object) -> requests.Response:  # type: ignore[override]
            answer = page.client.get(url, headers={**self.headers, **(options.get("headers") or {})})  # type: ignore
            response = requests.Response()
            response.status_code, response._content = answer.status_code, answer.content
            response.headers.update(answer.headers)
            return response

    client = DICOMwebClient("http://localhost/pacs", session=Session())
    (study,) = client.search_for_studies(search_filters={"PatientName": "Proxy^Plain"})
    assert study["00100020"]["Value"] == ["PP-1"]
    (instance,) = client.retrieve_study(patients["PP-1"].StudyInstanceUID)
    assert instance.SOPInstanceUID == patients["PP-1"].SOPInstanceUID


def test_looking_at_a_study_is_in_the_access_log_once(page: Page, patients: dict[str, Dataset]) -> None:
    uid = patients["PP-1"].StudyInstanceUID
    for _ in range(3):
        assert page.client.get(f"/pacs/studies/{uid}/metadata", headers=_JSON).status_code == 200
    found(page, patients, "PatientID=PP-1")
    with page.ledger.read() as session:
        of_study = select(AccessEntry).where(AccessEntry.action == "viewer", AccessEntry.study_instance_uid == uid)
        assert len(session.scalars(of_study).all()) == 1


def test_searches_of_the_whole_pacs_are_in_the_access_log_without_what_was_searched_for(
    behaving: Callable[..., tuple["Pacs", Page]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, page = behaving(lambda handler: reply(handler, 200, b"[]", Content_Type="application/dicom+json"))

    def rows() -> list[tuple[str, str, str]]:
        with page.ledger.read() as session:
            entries = session.scalars(select(AccessEntry).order_by(AccessEntry.id)).all()
            return [(each.action, each.study_instance_uid, each.detail) for each in entries]

    assert page.client.get("/pacs/studies?limit=x", headers=_JSON).status_code == 400
    assert rows() == []
    for address in ("studies?PatientName=Proxy*", "studies?PatientName=%C3%84nne", "series", "instances?PatientID=1"):
        assert page.client.get(f"/pacs/{address}", headers=_JSON).status_code == 200
    assert rows() == [("viewer", "", "search")]
    page.client.get("/pacs/studies/1.2/series", headers=_JSON)
    assert rows() == [("viewer", "", "search"), ("viewer", "1.2", "")]
    monkeypatch.setattr(pacs_proxy, "_SEARCH_SECONDS", 0.0)
    page.client.get("/pacs/studies?PatientName=Proxy*", headers=_JSON)
    assert rows()[2:] == [("viewer", "", "search")]


def test_without_an_orthanc_there_is_nothing_to_ask(page_for: Callable[[OrthancDestination | None], Page]) -> None:
    assert page_for(None).client.get("/pacs/studies").status_code == 404


# --- PACSs that misbehave --------------------------------------------------------------------------------------------

Answer = Callable[[BaseHTTPRequestHandler], None]


class Pacs:
    """An HTTP server whose answer the test writes; it keeps what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        pacs = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                pacs.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer(self)

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *arguments: object) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def reply(handler: BaseHTTPRequestHandler, status: int, content: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(content)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def behaving(page_for: Callable[[OrthancDestination | None], Page]) -> Iterator[Callable[..., tuple[Pacs, Page]]]:
    """A PACS that answers so, with a page before it."""
    servers: list[Pacs] = []

    def make(answer: Answer, **options: object) -> tuple[Pacs, Page]:
        pacs = Pacs(answer)
        servers.append(pacs)
        return pacs, page_for(OrthancDestination.model_validate({"name": "pacs", "url": pacs.url, **options}))

    yield make
    for each in servers:
        each.close()


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
    response = page.client.get("/pacs/studies", headers=_JSON)
    assert response.status_code == 502
    assert "credentials" in response.text
    assert "www-authenticate" not in response.headers


@pytest.mark.parametrize(("status", "expected"), [(404, 404), (400, 400), (500, 502), (503, 502), (302, 502)])
def test_other_refusals_say_what_the_pacs_answered(
    behaving: Callable[..., tuple[Pacs, Page]], status: int, expected: int
) -> None:
    _, page = behaving(lambda handler: reply(handler, status, b"<script>", Location="http://evil.example/"))
    response = page.client.get("/pacs/studies/1.2.3", headers=_JSON)
    assert response.status_code == expected
    assert str(status) in response.text and "<script>" not in response.text
    assert "location" not in response.headers


def test_a_dead_pacs_is_a_bad_gateway(page_for: Callable[[OrthancDestination | None], Page]) -> None:
    page = page_for(OrthancDestination(name="pacs", url=f"http://127.0.0.1:{free_port()}"))
    response = page.client.get("/pacs/studies", headers=_JSON)
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
    response = page.client.get("/pacs/studies", headers=_JSON)
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
    first, second = page.client.get("/pacs/studies/1.2/metadata", headers=_JSON).json()
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
    assert page.client.get(f"/pacs/{level}?{asked}", headers=_JSON).status_code == 200
    assert [target for target, _ in pacs.asked] == [f"/dicom-web/{level}?{sent}"]


@pytest.mark.parametrize("limit", ["-1", "1.5", "ten", "1e9", "9999999999", ""])
def test_a_limit_that_is_no_number_is_refused(behaving: Callable[..., tuple[Pacs, Page]], limit: str) -> None:
    pacs, page = behaving(lambda handler: reply(handler, 200, b"[]", Content_Type="application/dicom+json"))
    assert page.client.get(f"/pacs/studies?limit={limit}", headers=_JSON).status_code == 400
    assert pacs.asked == []


def test_the_series_of_a_study_come_all(behaving: Callable[..., tuple[Pacs, Page]]) -> None:
    pacs, page = behaving(lambda handler: reply(handler, 200, b"[]", Content_Type="application/dicom+json"))
    page.client.get("/pacs/studies/1.2/series?includefield=00080060", headers=_JSON)
    assert [target for target, _ in pacs.asked] == ["/dicom-web/studies/1.2/series?includefield=00080060"]


@pytest.mark.parametrize(
    ("path", "most"), [("studies", "_PARSED_BYTES"), ("studies/1.2/metadata", "_JSON_BYTES"), ("series", "_JSON_BYTES")]
)
def test_json_beyond_the_bound_is_not_taken_in(
    behaving: Callable[..., tuple[Pacs, Page]], monkeypatch: pytest.MonkeyPatch, path: str, most: str
) -> None:
    content = json.dumps([{"00081030": {"vr": "LO", "Value": ["x" * 10_000]}}]).encode()
    _, page = behaving(lambda handler: reply(handler, 200, content, Content_Type="application/dicom+json"))
    assert page.client.get(f"/pacs/{path}", headers=_JSON).status_code == 200
    monkeypatch.setattr(pacs_proxy, most, 10_000)
    answer = page.client.get(f"/pacs/{path}", headers=_JSON)
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
            assert page.client.get("/healthz").status_code == 200
            slowest = max(slowest, time.monotonic() - started)
    assert long.result().content.count(b'"/pacs/studies/1.2/bulk/1"') == 120_000
    assert slowest < 1.0


def test_the_pacs_can_come_back(tmp_path: Path, page_for: Callable[[OrthancDestination | None], Page]) -> None:
    folder = tmp_path / "orthanc"
    folder.mkdir()
    server = Orthanc(folder)
    page = page_for(OrthancDestination(name="pacs", url=server.url))
    assert page.client.get("/pacs/studies", headers=_JSON).json() == []
    server.stop()
    assert page.client.get("/pacs/studies", headers=_JSON).status_code == 502
    server.start()
    answer = wait_for("it answers again", lambda: page.client.get("/pacs/studies", headers=_JSON).status_code == 200)
    assert answer
    server.stop()
