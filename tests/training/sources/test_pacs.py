"""Images out of a real Orthanc: de-identified on the way, patients apart, labels joined, nothing fetched twice."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from rich.progress import Progress

from schemas.errors import PeerError, SourceError
from schemas.settings import SETTINGS_VARIABLE, OrthancDestination
from tests.conftest import REAL_DATA
from tests.support.peers import Orthanc
from tests.support.phantoms import write_phantom
from tests.support.processes import free_port
from training.curate_command import curate_command
from training.curation.manifest import read_manifest
from training.sources.deidentify import Pseudonyms, deidentified
from training.sources.folder import Folder
from training.sources.pacs import Fetched, fetch, read_key
from workers.pixels import read_pixels

_KEY = b"a secret of the department"
_NAME = "Yamada^Tarou=山田^太郎=やまだ^たろう"
#: What must not come out anywhere, in whichever encoding.
_PHI = (
    "Yamada",
    "山田",
    "太郎",
    "やまだ",
    "4711",
    "ACC-99",
    "19570412",
    "20260102",
    "Dr. Who",
    "Saint Elsewhere",
    "private",
)


def _identify(dataset: Dataset, patient_id: str, accession: str) -> None:
    """Everything that a hospital writes into a header, also where it has no business."""
    dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    dataset.PatientName = _NAME
    dataset.PatientID = patient_id
    dataset.PatientBirthDate = "19570412"
    dataset.PatientAge = ""
    dataset.PatientSex = "F"
    dataset.StudyDate = dataset.AcquisitionDate = "20260102"
    dataset.AccessionNumber = accession
    dataset.ReferringPhysicianName = "Dr. Who"
    dataset.InstitutionName = dataset.InstitutionAddress = "Saint Elsewhere"
    dataset.StudyDescription = dataset.ImageComments = f"Chest of {_NAME}"
    other = Dataset()
    other.PatientID, other.PatientName = "H-4711", _NAME
    dataset.OtherPatientIDsSequence = [other]
    # A name nested where no profile looks for one.
    dataset.ViewCodeSequence[0].CodeMeaning = "Yamada lying"
    dataset.ViewCodeSequence[0].PatientComments = "Yamada"
    dataset.private_block(0x0011, "ACME", create=True).add_new(1, "LO", "private 4711")
    dataset.add_new((0x6000, 0x4000), "LT", "Yamada 4711")


#: Patient ID, accession number and what else is different. Blanks at the end of an identifier mean nothing.
_IMAGES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("H-4711", "ACC-99-1", {}),
    ("H-4711 ", "ACC-99-2", {}),
    ("H-4712", "ACC-99-3", {}),
    ("H-4713", "ACC-99-4", {"ViewPosition": "LL"}),
    ("H-4714", "ACC-99-5", {"BurnedInAnnotation": "YES"}),
)


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images as files: two of one patient, one of another, a lateral one and one with text burned in."""
    folder = tmp_path_factory.mktemp("sent")
    for number in range(len(_IMAGES)):

        def change(dataset: Dataset, number: int = number) -> None:
            patient, accession, more = _IMAGES[number]
            _identify(dataset, patient, accession)
            for keyword, value in more.items():
                setattr(dataset, keyword, value)

        write_phantom(folder / f"{number}.dcm", seed=number, change=change, rows=300, columns=300)
    return folder


@pytest.fixture(scope="module")
def pacs(sent: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancDestination]:
    """An Orthanc that has them."""
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    for path in sorted(sent.iterdir()):
        server.client.upload(path.read_bytes())
    yield OrthancDestination(name="pacs", url=server.url)
    server.stop()


def _fetch(pacs: OrthancDestination, folder: Path, labels: Path | None = None, dates: str = "") -> Fetched:
    with Progress(disable=True) as progress:
        return fetch(pacs, folder, Pseudonyms(_KEY), progress, labels=labels, dates=dates)


def test_a_department_learns_from_its_pacs_without_anybodys_name(
    pacs: OrthancDestination, sent: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("accession_number,pneumothorax,endotracheal_tube.presence\nACC-99-1,1,\nACC-99-3,0,1\n")
    out = tmp_path / "out"
    fetched = _fetch(pacs, out, labels)
    assert fetched.images == 3 and fetched.left_out == {"lateral": 1, "burned_in_annotation": 1}

    for path in (path for path in out.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for word in _PHI:
            for encoding in ("utf-8", "iso2022_jp", "euc_jp", "utf-16-le"):
                assert word.encode(encoding) not in content, (path.name, word)
    originals = {dcmread(sent / f"{number}.dcm").PixelData for number in range(3)}
    headers = [dcmread(path) for path in sorted((out / "images").iterdir())]
    assert {header.PixelData for header in headers} == originals
    for header in headers:
        assert not any(element.tag.is_private for element in header.iterall())
        assert header.PatientIdentityRemoved == "YES" and header.PatientName == ""
        assert [item.CodeValue for item in header.DeidentificationMethodCodeSequence] == ["113100", "113108"]
        assert header.PatientAge == "068Y" and header.PatientSex == "F"
        assert not [element for element in header.iterall() if element.VR in ("DA", "DT", "TM", "PN") and element.value]
        uids = [str(element.value) for element in header.iterall() if element.VR == "UI"]
        assert all(uid.startswith("2.25.") or uid == header.SOPClassUID for uid in uids)

    samples = {sample.labels.get("pneumothorax"): sample for sample in Folder(out)}
    assert set(samples) == {1.0, 0.0, None}
    assert samples[1.0].patient == samples[None].patient != samples[0.0].patient
    assert samples[0.0].labels["endotracheal_tube.presence"] == 1 and samples[1.0].view in ("PA", "AP")
    assert {sample.read().shape for sample in samples.values()} == {(300, 300)}

    # What is there is not fetched again: a dead PACS is asked for its list alone.
    stamps = {path: path.stat().st_mtime_ns for path in (out / "images").iterdir()}
    assert _fetch(pacs, out, labels) == fetched
    assert {path: path.stat().st_mtime_ns for path in (out / "images").iterdir()} == stamps
    assert _fetch(pacs, tmp_path / "other", dates="20270101-").images == 0


def test_the_command_curates_a_pacs_of_the_settings_and_says_what_stayed_there(
    pacs: OrthancDestination, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "chexnode.toml"
    settings.write_text(f'[[destinations]]\nkind = "orthanc"\nname = "archive"\nurl = "{pacs.url}"\n')
    monkeypatch.setenv(SETTINGS_VARIABLE, str(settings))
    key = tmp_path / "key"
    key.write_bytes(_KEY)
    out = tmp_path / "curated"
    options = ["--key-file", str(key), "--out", str(out), "--processes", "1"]
    unknown = CliRunner().invoke(curate_command, ["--source", "pacs=elsewhere", *options])
    assert unknown.exit_code == 2 and "archive" in unknown.output
    result = CliRunner().invoke(curate_command, ["--source", "pacs:ward=archive", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "1 left in the PACS (lateral)" in result.output
    images = read_manifest(out)
    assert len(images) == 3 and {image.source for image in images} == {"ward"}
    assert len({image.patient for image in images}) == 2


def test_a_silent_pacs_a_missing_key_and_labels_of_nobody_are_said_in_words(tmp_path: Path) -> None:
    nobody = OrthancDestination(name="pacs", url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(PeerError, match=nobody.url):
        _fetch(nobody, tmp_path / "out")
    with pytest.raises(SourceError, match="urandom"):
        read_key(tmp_path / "key")
    (tmp_path / "key").write_text("short")
    with pytest.raises(SourceError, match="at least 16"):
        read_key(tmp_path / "key")
    labels = tmp_path / "labels.csv"
    labels.write_text("name,pneumothorax\nYamada,1\n")
    with pytest.raises(SourceError, match="accession_number"):
        _fetch(nobody, tmp_path / "out", labels)


def test_pseudonyms_need_the_key_and_say_the_same_every_time() -> None:
    header = Dataset()
    header.PatientID = "H-4711"
    first, second = Pseudonyms(_KEY), Pseudonyms(os.urandom(16))
    assert first.patient(header) == Pseudonyms(_KEY).patient(header) != second.patient(header)
    header.PatientID, header.StudyInstanceUID = "", "1.2.3"
    other = Dataset()
    other.StudyInstanceUID = "1.2.4"
    # Nobody knows who they are, so they are not taken for one.
    assert first.patient(header) != first.patient(other)
    assert len(first.uid(generate_uid())) <= 64


def test_the_age_of_the_very_old_is_told_as_ninety(tmp_path: Path) -> None:
    write_phantom(tmp_path / "film.dcm", rows=64, columns=64)
    assert deidentified(dcmread(tmp_path / "film.dcm"), Pseudonyms(_KEY), 97.4).PatientAge == "090Y"
    assert "PatientAge" not in deidentified(dcmread(tmp_path / "film.dcm"), Pseudonyms(_KEY), None)


@pytest.mark.skipif(not (REAL_DATA / "dicom").is_dir(), reason="the real DICOM files (../shared/data/dicom) are absent")
@pytest.mark.parametrize(
    "name", ["pylibjpeg-data/966_fixed.dcm", "pydicom-data/RG1_J2KI.dcm", "dwv/gdcm-CR-MONO1-10-chest.dcm"]
)
def test_real_radiographs_of_three_makers_look_the_same_and_say_nothing_of_the_patient(
    name: str, tmp_path: Path
) -> None:
    original = dcmread(REAL_DATA / "dicom" / name)
    before = original.to_json()
    kept = deidentified(original, Pseudonyms(_KEY), None)
    assert original.to_json() == before
    content = io.BytesIO()
    kept.save_as(content, enforce_file_format=True)
    (tmp_path / "kept.dcm").write_bytes(content.getvalue())
    assert np.array_equal(read_pixels(tmp_path / "kept.dcm"), read_pixels(REAL_DATA / "dicom" / name))
    for element in original.iterall():
        telling = element.VR in ("PN", "LO", "SH", "ST", "LT", "UI", "DA", "UT")
        # Codes and what a class of objects is called are everybody's.
        shared = element.keyword in ("SOPClassUID", "CodeValue", "CodingSchemeDesignator", "ReferencedSOPClassUID")
        if telling and not shared and len(str(element.value)) > 5:
            assert str(element.value) not in str(kept), element.keyword
