"""Every source in the layout of its publisher: what is known of an image, and that what is unknown stays unknown."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.progress import Progress

from schemas.codes import TubePosition
from schemas.errors import PixelDataError, SourceError
from tests.training.sources import layouts
from training.curation.attribution import attributions
from training.curation.curate import curate
from training.curation.settings import CurationSettings
from training.sources.catalogue import FOLDERS, every_kind, open_folder, parse
from training.sources.images import read_image
from training.sources.source import Sample, Source
from training.sources.tables import age_years, view_of

_LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "folder": layouts.folder,
    "kermany": layouts.kermany,
    "nih": layouts.nih,
    "covid-chestxray": layouts.covid_chestxray,
    "covidx": layouts.covidx,
    "chexpert": layouts.chexpert,
    "mimic-cxr-jpg": layouts.mimic,
    "ranzcr-clip": layouts.ranzcr,
    "jsrt": layouts.jsrt,
    "montgomery": layouts.montgomery,
    "shenzhen": layouts.shenzhen,
}


def _source(kind: str, tmp_path: Path) -> Source:
    return open_folder(parse(f"{kind}={_LAYOUTS[kind](tmp_path / kind)}"))


def _by_key(source: Source) -> dict[str, Sample]:
    return {sample.key: sample for sample in source}


@pytest.mark.parametrize("kind", FOLDERS)
def test_every_source_reads_its_images_masks_and_points_at_one_size(kind: str, tmp_path: Path) -> None:
    source = _source(kind, tmp_path)
    samples = list(source)
    assert [sample.key for sample in samples] == [sample.key for sample in source]
    assert len({sample.key for sample in samples}) == len(samples) >= 1
    assert source.document.startswith(("http", "docs/"))
    for sample in samples:
        image = sample.read()
        assert image.dtype == np.float32 and 0 <= image.min() < image.max() <= 1
        assert sample.patient and sample.source == kind
        for mask in sample.masks.values():
            inside = mask.read(*image.shape)
            assert inside.shape == image.shape and inside.any() and not inside.all()
        for point in sample.landmarks.values():
            assert 0 <= point.x <= image.shape[1] and 0 <= point.y <= image.shape[0]


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_of_something_else_is_refused_in_words(kind: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=str(tmp_path)):
        list(open_folder(parse(f"{kind}={tmp_path}")))


def test_kermany_children_are_one_patient_in_every_folder(tmp_path: Path) -> None:
    samples = _by_key(_source("kermany", tmp_path))
    assert samples["person1_bacteria_1"].patient == samples["person1_virus_6"].patient == "person1"
    assert samples["IM-0115-0001"].patient == samples["NORMAL2-IM-0115-0002"].patient
    assert samples["person1_bacteria_1"].split == "train" and samples["person1_virus_6"].split == "test"
    assert samples["person1_bacteria_1"].labels["pneumonia.bacterial"] == 1
    assert samples["person2_virus_7"].labels == {
        "normal": 0,
        "pneumonia": 1,
        "pneumonia.bacterial": 0,
        "view.pa": 0,
        "view.ap": 1,
        "view.lateral": 0,
    }
    assert "pneumonia.bacterial" not in samples["IM-0115-0001"].labels


def test_chestxray14_takes_the_lists_the_boxes_and_no_impossible_age(tmp_path: Path) -> None:
    samples = _by_key(_source("nih", tmp_path))
    assert sorted(samples) == ["00000001_000", "00000001_001", "00000002_000"]
    first, second, third = (samples[key] for key in sorted(samples))
    assert first.labels["cardiomegaly"] == first.labels["pleural_effusion"] == 1 and first.labels["hernia"] == 0
    assert first.age_years == 58 and second.age_years is None and second.labels["normal"] == 1
    assert (first.split, third.split) == ("train", "test") and (first.view, second.view) == ("PA", "AP")
    box = third.masks["infiltration"].read(1024, 1024)
    assert box.sum() == 512 * 256 and box[512, 256] and not box[511, 256]


def test_covid_chestxray_keeps_patients_without_number_apart_and_says_nothing_where_nothing_is_said(
    tmp_path: Path,
) -> None:
    samples = _by_key(_source("covid-chestxray", tmp_path))
    # CT is no radiograph.
    assert sorted(samples) == ["a", "b", "c"]
    assert samples["a"].labels["pneumonia"] == samples["a"].labels["covid_19"] == 1
    assert samples["a"].labels["endotracheal_tube.presence"] == 0 and samples["a"].view == "AP"
    assert samples["b"].labels["normal"] == 1 and "endotracheal_tube.presence" not in samples["b"].labels
    assert set(samples["c"].labels) == {"view.pa", "view.ap", "view.lateral"} and samples["c"].view == "LL"
    assert len({sample.patient for sample in samples.values()}) == 3


def test_images_out_of_articles_name_their_article_and_its_licence(tmp_path: Path) -> None:
    root = tmp_path / "covid"
    layouts.covid_chestxray(root)
    (root / "metadata.csv").write_text(
        "patientid,finding,view,modality,folder,filename,license,doi,url\n"
        "1,No Finding,PA,X-ray,images,a.jpg,CC BY 3.0,10.1000/a,https://example.org/a\n"
        "2,No Finding,PA,X-ray,images,b.png,CC BY 3.0,,https://example.org/b\n"
        "3,No Finding,PA,X-ray,images,c.png,CC BY 3.0,,\n"
    )
    source = open_folder(parse(f"covid-chestxray={root}"))
    samples = _by_key(source)
    assert [samples[key].attribution for key in "abc"] == [
        "https://doi.org/10.1000/a, CC BY 3.0",
        "https://example.org/b, CC BY 3.0",
        "",
    ]
    with Progress(disable=True) as progress:
        made = curate([source], CurationSettings(), tmp_path / "out", progress)
    assert attributions(source, [*made.images, *made.images]) == [
        f"covid-chestxray: 6 images, CC BY 3.0; {source.document}",
        "covid-chestxray: https://doi.org/10.1000/a, CC BY 3.0",
        "covid-chestxray: https://example.org/b, CC BY 3.0",
    ]


def test_covidx_keeps_the_patients_of_different_origins_apart(tmp_path: Path) -> None:
    samples = _by_key(_source("covidx", tmp_path))
    assert samples["train/one image.png"].patient != samples["train/two.png"].patient
    assert samples["train/two.png"].labels == {"covid_19": 1}
    assert samples["test/three.png"].split == "test" and samples["test/three.png"].labels["pneumonia"] == 1


def test_of_chexpert_uncertain_and_unmentioned_findings_are_unknown(tmp_path: Path) -> None:
    samples = _by_key(_source("chexpert", tmp_path))
    healthy = samples["train/patient00001/study1/view1_frontal.jpg"]
    ill = samples["train/patient00002/study2/view2_lateral.jpg"]
    assert healthy.labels["normal"] == healthy.labels["support_devices"] == 1 and healthy.labels["edema"] == 0
    assert ill.labels["lung_opacity"] == ill.labels["fracture"] == 1 and ill.labels["normal"] == 0
    assert not {"edema", "cardiomegaly", "pneumonia", "pneumothorax"} & ill.labels.keys()
    assert ill.view == "LL" and healthy.view == "AP" and healthy.sex == "F"
    assert samples["valid/patient64541/study1/view1_frontal.jpg"].split == "val"


def test_mimic_joins_its_three_tables(tmp_path: Path) -> None:
    (sample,) = _source("mimic-cxr-jpg", tmp_path)
    assert (sample.patient, sample.split, sample.view) == ("10000032", "val", "LL")
    assert sample.labels["atelectasis"] == 1 and sample.labels["pneumonia"] == 0
    assert "cardiomegaly" not in sample.labels and "edema" not in sample.labels


def test_ranzcr_gives_presence_malposition_and_the_courses(tmp_path: Path) -> None:
    first, second = _source("ranzcr-clip", tmp_path)
    assert first.labels["endotracheal_tube.presence"] == first.labels["endotracheal_tube.malposition"] == 1
    assert first.labels["nasogastric_tube.presence"] == 1
    # It leaves the image: nobody knows where it ends.
    assert "nasogastric_tube.malposition" not in first.labels
    assert first.labels["central_venous_catheter.malposition"] == 0
    assert second.labels["endotracheal_tube.presence"] == 0 and "endotracheal_tube.malposition" not in second.labels
    (course,) = first.courses
    assert course.device == "endotracheal_tube" and course.position is TubePosition.ABNORMAL
    assert course.points.tolist() == [[10, 20], [11, 40], [12, 60]]
    assert second.courses[0].device == "pulmonary_artery_catheter" and second.courses[0].position is None


def test_jsrt_shows_bones_bright_and_its_lungs_on_the_patients_sides(tmp_path: Path) -> None:
    nodule, none = _source("jsrt", tmp_path)
    image = nodule.read()
    assert image.shape == (2048, 2048) and image[0, 0] == 1 and image[-1, -1] == 0
    assert nodule.labels["nodule"] == 1 and none.labels["nodule"] == 0
    assert (nodule.age_years, nodule.sex, none.age_years, none.sex) == (53, "M", 66, "F")
    assert (nodule.landmarks["nodule"].x, nodule.landmarks["nodule"].y) == (1634, 692)
    right = nodule.masks["right_lung"].read(2048, 2048)
    assert right[:, :1024].any() and not right[:, 1024:].any()
    assert set(nodule.masks) == {"right_lung", "left_lung", "heart", "clavicles"} and not none.masks


def test_montgomery_has_the_patients_right_lung_at_the_left_whatever_the_file_is_called(tmp_path: Path) -> None:
    normal, ill = _source("montgomery", tmp_path)
    right = normal.masks["right_lung"].read(240, 200)
    assert right[:, :100].any() and not right[:, 100:].any()
    assert (normal.age_years, normal.sex) == (27, "F") and normal.labels["tuberculosis"] == 0
    assert ill.labels["tuberculosis"] == 1 and ill.patient == "MCUCXR_0104"


def test_shenzhen_reads_age_and_sex_of_its_reading(tmp_path: Path) -> None:
    (sample,) = _source("shenzhen", tmp_path)
    assert (sample.age_years, sample.sex) == (37, "M") and set(sample.masks) == {"lungs"}


def test_a_folder_says_which_column_and_which_label_is_wrong(tmp_path: Path) -> None:
    layouts.folder(tmp_path)
    table = tmp_path / "labels.csv"
    good = table.read_text()
    table.write_text(good.replace("edema", "oedema"))
    with pytest.raises(SourceError, match="oedema"):
        list(open_folder(parse(f"folder={tmp_path}")))
    table.write_text(good.replace("80,0,", "80,-1,", 1))
    with pytest.raises(SourceError, match="pneumothorax is -1"):
        list(open_folder(parse(f"folder={tmp_path}")))


def test_a_blank_label_of_a_folder_is_unknown(tmp_path: Path) -> None:
    sample = next(iter(_source("folder", tmp_path)))
    assert sample.labels["pneumothorax"] == 0 and "edema" not in sample.labels
    assert sample.landmarks["carina"].x == 100.5 and sample.age_years == 40


def test_images_of_sixteen_bits_keep_their_greys(tmp_path: Path) -> None:
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(values).save(tmp_path / "twelve_of_sixteen.png")
    assert len(np.unique(read_image(tmp_path / "twelve_of_sixteen.png"))) == 4096
    whole = layouts.write_image(tmp_path / "whole.png", 1).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PixelDataError, match=r"cut\.png"):
        read_image(tmp_path / "cut.png")


@pytest.mark.parametrize(
    ("cell", "years"), [("058Y", 58), ("36", 36), ("18M", 1.5), ("45yrs", 45), ("412", None), ("", None), ("?", None)]
)
def test_ages_of_all_spellings(cell: str, years: float | None) -> None:
    assert age_years(cell) == years


@pytest.mark.parametrize(
    ("cell", "view"), [("AP Supine", "AP"), ("PA", "PA"), ("L", "LL"), ("LATERAL", "LL"), ("Frontal", None), ("", None)]
)
def test_views_of_all_spellings(cell: str, view: str | None) -> None:
    assert view_of(cell) == view


def test_phantoms_are_a_source_like_any_other() -> None:
    from training.sources.phantom import Phantoms

    samples = list(Phantoms(2, side=192))
    assert [sample.key for sample in samples] == ["seed-0", "seed-1"] and samples[0].patient != samples[1].patient
    for sample in samples:
        image = sample.read()
        assert image.shape == (192, 192) and 0 <= image.min() < image.max() <= 1
        assert sample.masks["right_lung"].read(192, 192).any() and "carina" in sample.landmarks
        assert {"pneumothorax", "endotracheal_tube.presence", "view.ap"} <= sample.labels.keys()


@pytest.mark.parametrize("text", ["nothing=/tmp", "kermany", "kermany=", "=x"])
def test_a_source_that_is_none_is_answered_with_the_kinds(text: str) -> None:
    with pytest.raises(SourceError, match=r"chexpert.*pacs, phantom"):
        parse(text)


def test_listings_say_which_layouts_no_real_file_has_proved() -> None:
    unverified = {source.name for source in every_kind() if not source.verified}
    assert {"chexpert", "mimic-cxr-jpg", "ranzcr-clip", "jsrt", "montgomery", "shenzhen", "covidx"} <= unverified
