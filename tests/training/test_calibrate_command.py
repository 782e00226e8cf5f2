"""`chexnode train calibrate` on files of phantoms with the bundle that is shipped: read, fitted, written, told."""

import csv
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from schemas.bundle import bundle_folder, read_manifest
from schemas.codes import DistanceBasis
from schemas.errors import BundleMakingError, ChexnodeError, SourceError
from training.calibrate_command import calibrate_command
from training.calibration.local_images import read_placed
from training.calibration.local_labels import read_labels
from training.calibration.operating_points import point_of_sensitivity
from training.evaluation.seeing import second_looks
from training.examples.targets import phantom_classes
from training.phantom.render import render_phantom
from training.phantom.truth import DeviceKind
from training.phantom_dicom import Order, phantom_dataset
from workers.bundle import load_bundle, normalise, run_selftest
from workers.interpret import interpret
from workers.output import ModelOutput
from workers.second_look import detail_preprocessing
from workers.spacing import Spacing

SHIPPED = bundle_folder(None)
MANIFEST = read_manifest(SHIPPED)
TUBE = "endotracheal_tube.presence"
EACH = 21


@dataclass(frozen=True)
class Run:
    """One run of the command."""

    out: Path
    result: Result


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """21 films with and 21 without a tube, every third one a PNG, with labels.csv; two more that cannot be read."""
    folder = tmp_path_factory.mktemp("films")
    rows: list[dict[str, str]] = []
    for seed in range(5000, 5080):
        phantom = render_phantom(seed, 256, 224, age_years=60, masks=False)
        tube = phantom.device(DeviceKind.ENDOTRACHEAL_TUBE) is not None
        alike = sum((row[TUBE] == "1") is tube for row in rows)
        if alike == EACH:
            continue
        name = f"{seed}.png" if seed % 3 == 0 else f"{seed}.dcm"
        if name.endswith(".png"):
            Image.fromarray((phantom.image * 255).astype(np.uint8)).save(folder / name)
        else:
            phantom_dataset(phantom, Order()).save_as(folder / name, enforce_file_format=True)
        known = phantom_classes(phantom)
        labels = {str(each.target): _label(known.get(str(each.target))) for each in MANIFEST.classes}
        rows.append({"path": name, "patient": f"P{seed // 2}", "ward": "7", **labels})
    assert len(rows) == 2 * EACH
    (folder / "broken.dcm").write_bytes(b"nothing")
    rows += [{**rows[0], "path": name} for name in ("broken.dcm", "absent.png")]
    _write(folder / "labels.csv", rows)
    return folder


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("out") / "local"
    options = ["--real", "films of ward 7", "--sensitivity", "0.8", "--sensitivity", f"{TUBE}=0.95"]
    return Run(out, _calibrate(images, out, *options, "--prevalence", f"{TUBE}=0.1"))


def _label(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.0f}"


def _write(table: Path, rows: list[dict[str, str]]) -> None:
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def _calibrate(images: Path, out: Path, *options: str, labels: Path | None = None) -> Result:
    line = [str(SHIPPED), "--images", str(images), "--labels", str(labels or images / "labels.csv"), "--out", str(out)]
    return CliRunner().invoke(calibrate_command, [*line, *options], catch_exceptions=False, terminal_width=250)


def test_the_new_bundle_has_the_old_weights_and_decides_by_the_labels(run: Run) -> None:
    made = load_bundle(run.out)
    assert run_selftest(made) <= 1e-4
    old, new = _hashes(SHIPPED), _hashes(run.out)
    assert {name for name in old if old[name] != new[name]} == {"manifest.json", "card.md"}
    assert made.manifest.version == f"{MANIFEST.version}+cal"
    tube = next(each for each in made.manifest.classes if each.target == TUBE)
    assert tube.calibrated and tube.calibration is not None and tube.operating_point is not None
    assert (tube.calibration.data, tube.calibration.n) == ("films of ward 7", 2 * EACH)
    assert tube.calibration.prevalence == 0.1
    assert made.manifest.training["calibration"]["unreadable"] == 2
    assert made.manifest.training["recipe"] == MANIFEST.training["recipe"]
    names = [metric.name for metric in made.manifest.metrics]
    assert f"AUROC {TUBE}" in names and f"sensitivity {TUBE}" in names


def test_the_operating_point_of_a_tube_belongs_to_the_score_that_results_state(run: Run, images: Path) -> None:
    """That is of class and course together: a threshold on the class alone has another sensitivity than was asked."""
    made = load_bundle(run.out)
    labels = read_labels(images / "labels.csv", images, made.manifest)
    column = [str(each.target) for each in made.manifest.classes].index(TUBE)
    scores, truth = [], []
    for path, known in zip(labels.paths, labels.truth[:, column], strict=True):
        if not path.is_file() or path.name == "broken.dcm":
            continue
        placed = read_placed(path, made.manifest.preprocessing, detail_preprocessing(made.manifest))
        with torch.inference_mode():
            said = made.network(normalise(torch.from_numpy(placed.image[None]), made.manifest.preprocessing))
        logits, dense = said.logits[0].numpy(), said.dense[0].numpy()
        (closer,) = second_looks(made.network, made.manifest, dense[None], [placed.detail])
        output = ModelOutput(logits, np.zeros((len(logits), 1, 1), np.float16), dense.astype(np.float16), closer)
        spacing = Spacing(0.0, 0.0, DistanceBasis.NONE)
        tube = interpret(output, made.manifest, placed.placement, spacing).tubes[0]
        scores.append(tube.score)
        truth.append(known)
    point = next(each.operating_point for each in made.manifest.classes if each.target == TUBE)
    assert point == pytest.approx(point_of_sensitivity(np.array(scores), np.array(truth), 0.95), abs=1e-4)


def test_a_class_with_too_few_cases_is_as_it_was(run: Run) -> None:
    made = {each.target: each for each in read_manifest(run.out).classes}
    kept = [each for each in MANIFEST.classes if made[each.target] == each]
    assert kept
    assert "are needed" in run.result.output


def test_what_was_done_is_told_and_written_into_the_card(run: Run) -> None:
    told = run.result.output
    assert "2 of 44 images could not be used" in told
    assert "broken.dcm: The data set cannot be read as DICOM" in told and "absent.png" in told
    assert "so ignored: ward" in told
    card = (run.out / "card.md").read_text(encoding="utf-8")
    assert "On films of ward 7. These are radiographs of patients" in card
    assert f"at least 0.8, 0.95 for {TUBE}" in card
    assert f"| {TUBE} |" in card and f"> # {MANIFEST.name}" in card
    with Image.open(run.out.with_name("local.reliability.png")) as diagrams:
        assert diagrams.format == "PNG"


def test_a_png_is_seen_as_the_same_film_in_dicom(tmp_path: Path) -> None:
    phantom = render_phantom(1, 256, 224, masks=False)
    grey = np.round(phantom.image * 255).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "film.png")
    phantom_dataset(phantom, Order()).save_as(tmp_path / "film.dcm", enforce_file_format=True)
    placed = [read_placed(tmp_path / name, MANIFEST.preprocessing).image for name in ("film.png", "film.dcm")]
    # Rounded to 8 bits, then stretched.
    assert np.abs(placed[0] - placed[1]).max() < 0.01


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("path,nodule\na.png,1\n", "has no column patient"),
        ("patient,nodule\nA,1\n", "has no column path"),
        ("path,patient,nodul\na.png,A,1\n", "no column of a class"),
        ("path,patient,nodule\na.png,A,maybe\n", "line 2: nodule is maybe; write 1"),
        ("path,patient,nodule\na.png,A,-1\n", "line 2: nodule is -1"),
        ("path,patient,nodule\na.png,,1\n", "line 2 has no patient"),
        ("path,patient,nodule\na.png,A,1\na.png,B,1\n", "line 3: a.png is in line 2 already"),
        ("path,patient,nodule\n", "names no image"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused_with_their_line(tmp_path: Path, table: str, complaint: str) -> None:
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8")
    with pytest.raises(SourceError, match=complaint):
        read_labels(tmp_path / "labels.csv", tmp_path, MANIFEST)


def test_blank_is_unknown_and_a_table_of_a_source_folder_serves(tmp_path: Path) -> None:
    table = "file,patient,view,mask.lungs,nodule,pneumothorax\na.png,A,PA,m.png,1,\nb.png,B,AP,,0,1\n"
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8")
    labels = read_labels(tmp_path / "labels.csv", tmp_path, MANIFEST)
    truth = dict(zip([each.target for each in MANIFEST.classes], labels.truth.T.tolist(), strict=True))
    assert truth["nodule"] == [1, 0]
    assert np.isnan(truth["pneumothorax"][0]) and truth["pneumothorax"][1] == 1
    assert np.isnan(truth["consolidation"]).all()
    assert labels.ignored == []


def test_without_enough_cases_or_without_images_nothing_is_written(images: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader((images / "labels.csv").open(encoding="utf-8")))
    _write(tmp_path / "few.csv", rows[:3])
    with pytest.raises(BundleMakingError, match="no class with enough labels"):
        _calibrate(images, tmp_path / "new", labels=tmp_path / "few.csv")
    with pytest.raises(BundleMakingError, match="nor any other image"):
        _calibrate(tmp_path, tmp_path / "new", labels=images / "labels.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["few.csv"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--sensitivity", "much"], "no number"),
        (["--sensitivity", "1.5"], "between 0 and 1"),
        (["--prevalence", "0.1"], "CLASS=0.1"),
        (["--prevalence", "nodul=0.1"], "no class of"),
        (["--version", "much-longer-than-a-version"], "--version"),
    ],
)
def test_options_that_cannot_be_carried_out_are_refused(
    images: Path, tmp_path: Path, options: list[str], complaint: str
) -> None:
    try:
        said = _calibrate(images, tmp_path / "new", *options).output
    except ChexnodeError as error:
        said = str(error)
    assert complaint in said
    assert not (tmp_path / "new").exists()
