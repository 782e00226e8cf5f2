"""Where the page leads to: OHIF where it is installed, else the page of that very study in a real Orthanc."""

from pathlib import Path

import pytest
from pydicom import Dataset

from node.ledger.ledger import Ledger
from node.page.context import Page
from node.page.viewer import study_link
from node.storage.object_store import FolderObjectStore
from schemas.settings import FolderDestination, OrthancDestination, PageSettings, Settings
from tests.support.peers import Orthanc
from tests.support.phantoms import write_phantom

ORTHANC = OrthancDestination(name="pacs", url="http://pacs.example:8042/")


def page_of(folder: Path, *destinations: OrthancDestination | FolderDestination, viewer: bool) -> Page:
    build = folder / "ohif"
    build.mkdir()
    if viewer:
        (build / "index.html").write_text("")
    settings = Settings(home=folder, destinations=list(destinations), page=PageSettings(viewer=build))
    return Page(settings, Ledger("sqlite://"), FolderObjectStore(folder / "objects"))


def test_with_a_viewer_and_an_orthanc_the_study_opens_in_ohif(tmp_path: Path) -> None:
    link = study_link(page_of(tmp_path, ORTHANC, viewer=True), "1.2.3", "P1")
    assert link is not None
    assert (link.label, link.href) == ("Open in OHIF", "/viewer/viewer?StudyInstanceUIDs=1.2.3")


def test_without_a_viewer_the_link_goes_to_the_address_that_browsers_reach(tmp_path: Path) -> None:
    page = page_of(tmp_path, ORTHANC.model_copy(update={"page_url": "https://pacs/orthanc/"}), viewer=False)
    link = study_link(page, "1.2.3", "P1")
    assert link is not None and link.label == "Open in Orthanc"
    assert link.href.startswith("https://pacs/orthanc/app/explorer.html#study?uuid=")


@pytest.mark.parametrize("viewer", [True, False])
def test_without_an_orthanc_there_is_no_link(tmp_path: Path, viewer: bool) -> None:
    folder = FolderDestination(name="folder", path=tmp_path / "results", kind="folder")
    assert study_link(page_of(tmp_path, folder, viewer=viewer), "1.2.3", "P1") is None


@pytest.mark.parametrize(
    ("patient_id", "character_set"),
    [
        ("P1", "ISO_IR 100"),
        ("p 1/a&b|c", "ISO_IR 100"),
        ("", "ISO_IR 100"),
        ("Ä-17", "ISO_IR 100"),
        ("Ä-17", "ISO_IR 192"),
        ("山田-3", "ISO_IR 192"),
        ("Иванов", "ISO_IR 144"),
    ],
)
def test_the_link_names_the_study_as_orthanc_does_whatever_its_character_set(
    orthanc: Orthanc, tmp_path: Path, patient_id: str, character_set: str
) -> None:
    def identify(dataset: Dataset) -> None:
        dataset.SpecificCharacterSet, dataset.PatientID = character_set, patient_id

    path = tmp_path / "a.dcm"
    sent = write_phantom(path, seed=1, rows=256, columns=256, change=identify)
    orthanc.client.upload(path.read_bytes())
    destination = OrthancDestination(name="pacs", url=orthanc.url)
    link = study_link(page_of(tmp_path, destination, viewer=False), sent.StudyInstanceUID, patient_id)
    assert link is not None
    identifier = orthanc.client.studies.lookup(sent.StudyInstanceUID)
    assert link.href == f"{orthanc.url}/app/explorer.html#study?uuid={identifier}"
    assert orthanc.client.get(f"studies/{identifier}").json()["MainDicomTags"]["StudyInstanceUID"]
