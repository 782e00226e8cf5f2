"""The proxy before a real Orthanc."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import requests
from dicomweb_client import DICOMwebClient
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from sqlalchemy import select
from starlette.exceptions import HTTPException

from node.page import pacs_proxy
from schemas.account_tables import AccessEntry
from schemas.settings import OrthancDestination
from tests.support.peers import Orthanc
from tests.support.phantoms import write_phantom
from tests.viewer.proxy import JSON, Page

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
    answer = page.client.get(f"/pacs/studies?{query}", headers=JSON)
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
        assert requests.get(f"{orthanc.url}/dicom-web/studies?{query}", headers=JSON, timeout=10).json() == []


def test_names_come_whole_though_orthanc_answers_in_latin_1(
    page: Page, orthanc: Orthanc, patients: dict[str, Dataset]
) -> None:
    query = f"StudyInstanceUID={patients['PP-山田'].StudyInstanceUID},{patients['PP-Ä'].StudyInstanceUID}"
    direct = requests.get(f"{orthanc.url}/dicom-web/studies?{query}", headers=JSON, timeout=10).json()
    assert "PP-" in [study["00100020"]["Value"][0] for study in direct]
    studies = page.client.get(f"/pacs/studies?{query}", headers=JSON).json()
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
    answer = page.client.get("/pacs/studies?PatientID=PP-1&includefield=00081030%2C00080060", headers=JSON)
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
    assert page.client.get(f"/pacs/studies?{query}", headers=JSON).status_code == 400


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
    answer = page.client.get(f"/pacs/studies/{sent.StudyInstanceUID}/metadata", headers=JSON)
    uri = answer.json()[0]["7FE00010"]["BulkDataURI"]
    assert uri.startswith(f"/pacs/studies/{sent.StudyInstanceUID}/series/")
    assert (
        page.client.get(uri, headers={"Accept": 'multipart/related; type="application/octet-stream"'}).status_code
        == 200
    )
    series = page.client.get(f"/pacs/studies/{sent.StudyInstanceUID}/series", headers=JSON).json()
    assert series[0]["00081190"]["Value"][0].startswith("/pacs/studies/")
    assert "127.0.0.1" not in answer.text


def test_a_dicomweb_client_works_through_it(page: Page, patients: dict[str, Dataset]) -> None:
    class Session(requests.Session):
        def get(self, url: str | bytes, **options: Any) -> requests.Response:  # type: ignore[override]
            answer = page.client.get(str(url), headers={**self.headers, **(options.get("headers") or {})})
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
        assert page.client.get(f"/pacs/studies/{uid}/metadata", headers=JSON).status_code == 200
    found(page, patients, "PatientID=PP-1")
    with page.ledger.read() as session:
        of_study = select(AccessEntry).where(AccessEntry.action == "viewer", AccessEntry.study_instance_uid == uid)
        assert len(session.scalars(of_study).all()) == 1


def test_without_an_orthanc_there_is_nothing_to_ask(page_for: Callable[[OrthancDestination | None], Page]) -> None:
    assert page_for(None).client.get("/pacs/studies").status_code == 404
