"""A header is made fit for result objects whatever it holds: names right, junk blank, nothing raised."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from schemas.errors import IdentityError
from schemas.settings import SegmentationGeometry
from tests.results.sources import (
    BUNDLE,
    CONTENT_TIME,
    cr_header,
    dx_header,
    image_result,
    masks,
    received,
    report_identity,
    request_attributes,
    source,
    study,
)
from tests.support.dicom_tools import dciodvfy_errors
from workers.results import header as header_module
from workers.results.equipment import part10_bytes
from workers.results.header import normalise
from workers.results.report import build_report
from workers.results.segmentation import build_segmentation

DICOM_FILES = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"
JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"
ATTRIBUTES = (*header_module.TYPE_2, *header_module.TYPE_3, *header_module.IMAGE)


def with_raw(keyword: str, value: bytes, **changes: Any) -> Dataset:
    """A header whose `keyword` holds `value` as it came over the wire."""
    header = dx_header(**changes)
    tag = Tag(tag_for_keyword(keyword) or 0)
    header._dict[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
    return header


def report_bytes(header: Dataset) -> bytes:
    image = source(header, image_result(dx_header()))
    return part10_bytes(build_report(study([image]), [image], [], report_identity(), CONTENT_TIME))


@pytest.mark.parametrize("read_before", [False, True])
def test_japanese_names_keep_all_three_groups(read_before: bool) -> None:
    header = received(dx_header(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName=JAPANESE))
    if read_before:
        assert str(header.PatientName) == JAPANESE
    assert str(normalise(header).PatientName) == JAPANESE
    report = dcmread(io.BytesIO(report_bytes(header)))
    assert report.SpecificCharacterSet == "ISO_IR 192"
    assert str(report.PatientName) == JAPANESE


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 144", "Люкceмбypг"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小東"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("ISO_IR 166", "นามสกุล^ชื่อ"),
    ],
)
def test_names_survive_in_every_character_set(charset: str, name: str) -> None:
    header = received(dx_header(SpecificCharacterSet=charset, PatientName=name))
    assert str(dcmread(io.BytesIO(report_bytes(header))).PatientName) == name


def test_plain_ascii_needs_no_character_set() -> None:
    report = dcmread(io.BytesIO(report_bytes(received(dx_header(SpecificCharacterSet="ISO_IR 100")))))
    assert "SpecificCharacterSet" not in report


@pytest.mark.parametrize(
    ("charset", "value", "name"),
    [
        ("ISO_IR 192", b"M\xfcller^Eva", "M?ller^Eva"),
        (None, b"M\xfcller^Eva", "Müller^Eva"),
        (None, "Müller^Eva".encode(), "Müller^Eva"),
        (None, b"\x81\x82^\xd7", "??^?"),
        ("NO SUCH SET", b"M\x80ller^Eva", "M?ller^Eva"),
    ],
)
def test_undecodable_bytes_are_flagged(charset: str | None, value: bytes, name: str) -> None:
    changes: dict[str, Any] = {} if charset is None else {"SpecificCharacterSet": charset}
    header = with_raw("PatientName", value, **changes)
    assert str(normalise(header).PatientName) == name
    assert str(dcmread(io.BytesIO(report_bytes(header))).PatientName) == name


@pytest.mark.parametrize(
    ("keyword", "value", "clean"),
    [
        ("PatientBirthDate", b"d14a028c2a3a", ""),
        ("PatientBirthDate", b"19990230", ""),
        ("StudyDate", b"1999.02.03", "19990203"),
        ("StudyTime", b"9999", ""),
        ("StudyTime", b"10:20:30", "102030"),
        ("PatientSex", b"?", ""),
        ("PatientName", b"^^^^", ""),
        ("PatientName", b"A\x00\x07B^C", "AB^C"),
        ("PatientID", b"  7 \x00", "7"),
        ("PatientID", b"7" * 80, "7" * 80),
        ("StudyDescription", b"7" * 80, "7" * 64),
        ("AccessionNumber", b"A\\B", "A?B"),
        ("AccessionNumber", b"7" * 17, ""),
    ],
)
def test_invalid_values_are_blank_or_mended(keyword: str, value: bytes, clean: str) -> None:
    assert str(normalise(with_raw(keyword, value))[keyword].value or "") == clean


def test_what_is_missing_is_empty() -> None:
    header = Dataset()
    for keyword in header_module.IDENTITY:
        setattr(header, keyword, "1.2.3")
    clean = normalise(header)
    for keyword in header_module.TYPE_2:
        assert not clean[keyword].value


@pytest.mark.parametrize("keyword", header_module.IDENTITY)
def test_an_image_without_identity_is_refused(keyword: str) -> None:
    with pytest.raises(IdentityError, match=keyword):
        normalise(dx_header(**{keyword: None}))


def test_orders_are_kept_and_what_is_nested_beyond_them_is_not() -> None:
    item = request_attributes("A 1")
    item.add_new(0x00091001, "LO", "private")
    nested = item
    for _ in range(50):
        nested.ReferencedStudySequence = [Dataset()]
        nested = nested.ReferencedStudySequence[0]
    clean = normalise(received(cr_header(AccessionNumber="A 1", RequestAttributesSequence=[item])))
    kept = clean.RequestAttributesSequence[0]
    assert (clean.AccessionNumber, kept.RequestedProcedureID) == ("A 1", "RP 7")
    assert 0x00091001 not in kept
    assert "ReferencedStudySequence" not in kept


junk = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from([b"\x1b$B\x7f\xff", b"\x1b", b"\xff\xfe\xff", b"=====", b"\\\\", b"1e999", b"NaN\\inf"]),
)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=300, deadline=None)
@given(
    values=st.dictionaries(st.sampled_from(ATTRIBUTES), junk, max_size=8),
    charset=st.one_of(st.none(), st.binary(max_size=12), st.sampled_from([b"\\ISO 2022 IR 87", b"GB18030", b"GBK"])),
)
def test_no_junk_makes_it_fail(values: dict[str, bytes], charset: bytes | None) -> None:
    header = dx_header()
    for keyword, value in {**values, **({} if charset is None else {"SpecificCharacterSet": charset})}.items():
        tag = Tag(tag_for_keyword(keyword) or 0)
        header._dict[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
    clean = normalise(header)
    again = normalise(clean)
    for keyword in (*header_module.IDENTITY, *header_module.TYPE_2):
        assert keyword in clean
        assert str(again[keyword].value or "") == str(clean[keyword].value or "")
    clean.SpecificCharacterSet = "ISO_IR 192"
    assert str(received(clean).PatientName) == str(again.PatientName)


def real_chest_images() -> list[Path]:
    index = DICOM_FILES / "index.csv"
    if not index.exists():
        return []
    with index.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    chests = {"CHEST", "THORAX"}
    wanted = [row for row in rows if row["category"] == "radiography" and row["body_part"] in chests]
    return [DICOM_FILES / row["file"] for row in wanted]


@pytest.mark.skipif(not DICOM_FILES.exists(), reason="the shared DICOM files are not here")
def test_real_headers_make_valid_objects(tmp_path: Path) -> None:
    paths = real_chest_images()
    assert len(paths) >= 6
    for path in paths:
        header = dcmread(path, stop_before_pixels=True)
        rows, columns = 64, 48
        result = image_result(dx_header(Rows=rows, Columns=columns, SOPInstanceUID=header.SOPInstanceUID))
        image = source(header, result, masks(rows, columns))
        objects = [build_segmentation(image, BUNDLE, geometry, CONTENT_TIME) for geometry in SegmentationGeometry]
        whole = study([image]).model_copy(update={"study_instance_uid": str(header.StudyInstanceUID)})
        objects.append(
            build_report(whole, [image], [each for each in objects if each], report_identity(), CONTENT_TIME)
        )
        for dataset in objects:
            assert dataset is not None
            output = tmp_path / "object.dcm"
            output.write_bytes(part10_bytes(dataset))
            assert dciodvfy_errors(output) == [], path.name


@pytest.mark.skipif(not DICOM_FILES.exists(), reason="the shared DICOM files are not here")
def test_a_real_japanese_name_is_kept() -> None:
    header = dcmread(DICOM_FILES / "pydicom" / "chrJapMulti.dcm", stop_before_pixels=True)
    assert str(normalise(header).PatientName) == "やまだ^たろう"
