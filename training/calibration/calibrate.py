"""Re-fits calibration and operating points of a bundle on local labels. Called by `chexnode train calibrate`."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from schemas.bundle import Manifest
from schemas.codes import NOT_FOR_CLINICAL_USE
from schemas.errors import BundleMakingError
from schemas.settings import WorkerSettings
from training.calibration.fitting import (
    LEAST_CASES,
    LEAST_PATIENTS,
    CalibratedClass,
    CalibrationPlan,
    LabelledLogits,
    calibrated_classes,
    too_few,
    with_classes,
)
from training.calibration.local_labels import LocalLabels, read_labels
from training.calibration.local_logits import LocalLogits, Unread, local_logits
from training.calibration.reliability import save_reliability
from training.calibration.table import calibration_section, calibration_table
from training.progress import training_progress
from workers.bundle import CARD_FILE, LoadedBundle, copy_bundle
from workers.registry_commands import print_whole

_SUFFIX = "+cal"
_NAMED = 10


def calibrate(
    bundle: LoadedBundle,
    table: Path,
    images: Path,
    plan: CalibrationPlan,
    out: Path,
    settings: WorkerSettings,
    console: Console,
    version: str | None = None,
) -> LoadedBundle:
    """Write a bundle with the same weights whose classes are calibrated on the images that `table` labels.

    Prints each class before and after, and saves the reliability diagrams beside `out`. Raises BundleMakingError when
    no class can be calibrated, SourceError for labels that cannot be used; then nothing is written.
    """
    _check_plan(bundle.manifest, plan)
    old = bundle.manifest
    version = version or f"{old.version.removesuffix(_SUFFIX)}{_SUFFIX}"
    # Before the hours that reading may take.
    _checked(old.model_copy(update={"version": version}))
    labels = read_labels(table, images, bundle.manifest)
    if labels.ignored:
        console.print(
            f"note: no class of {bundle.manifest.name}, so ignored: {', '.join(labels.ignored)}", markup=False
        )
    if all(too_few(truth, labels.patients) for truth in labels.truth.T):
        raise BundleMakingError(
            f"{table} has no class with enough labels: {LEAST_CASES} images of {LEAST_PATIENTS} patients with it, and "
            "as many without. Label more images; nothing was written."
        )
    if not any(path.is_file() for path in labels.paths):
        raise BundleMakingError(f"There is no {labels.paths[0]}, nor any other image: is {images} their folder?")
    with training_progress(console) as progress:
        read = local_logits(bundle, labels.paths, settings, progress)
        _tell_unread(read.unread, len(labels.paths), console)
        cases = LabelledLogits(read.logits, labels.truth[read.rows], labels.patients[read.rows], read.courses)
        task = progress.add_task("Calibrating classes", total=len(bundle.manifest.classes))
        classes = []
        for each in calibrated_classes(bundle.manifest, cases, plan):
            classes.append(each)
            progress.advance(task)
    # A column that is not there is no attempt at the class.
    asked = [each for each in classes if each.n]
    print_whole(console, calibration_table(asked, plan))
    if not any(each.is_fitted for each in classes):
        raise BundleMakingError("Too many of the images cannot be used, so nothing was written: see above.")
    manifest = _checked(_manifest(bundle, classes, plan, labels, read, table, version))
    written = copy_bundle(bundle, out, manifest, _card(bundle, manifest, asked, plan))
    diagrams = out.with_name(f"{out.name}.reliability.png")
    save_reliability(classes, diagrams, f"{manifest.name} {manifest.version} on {plan.data}")
    console.print(f"reliability diagrams: {escape(str(diagrams))}", soft_wrap=True, highlight=False)
    return written


def _check_plan(manifest: Manifest, plan: CalibrationPlan) -> None:
    if not manifest.classes:
        raise BundleMakingError(f"{manifest.name} {manifest.version} has no head that classifies.")
    targets = [scored.target for scored in manifest.classes]
    if unknown := [each for each in [*plan.sensitivities, *plan.prevalences] if each not in targets]:
        raise BundleMakingError(f"{', '.join(unknown)}: no class of {manifest.name}, which has {', '.join(targets)}.")


def _tell_unread(unread: list[Unread], count: int, console: Console) -> None:
    if not unread:
        return
    console.print(f"[yellow]{len(unread)} of {count} images could not be used:[/]")
    for each in unread[:_NAMED]:
        console.print(f"  {each.path}: {each.reason}", markup=False, soft_wrap=True)
    if len(unread) > _NAMED:
        console.print(f"  and {len(unread) - _NAMED} more")


def _manifest(
    bundle: LoadedBundle,
    classes: list[CalibratedClass],
    plan: CalibrationPlan,
    labels: LocalLabels,
    read: LocalLogits,
    table: Path,
    version: str,
) -> Manifest:
    old = bundle.manifest
    figures = [[each.auroc, each.error, each.sensitivity, each.specificity] for each in classes]
    calibration = {
        "from_bundle": bundle.digest,
        "data": plan.data,
        "labels_sha256": hashlib.sha256(table.read_bytes()).hexdigest(),
        "images": len(read.rows),
        "unreadable": len(read.unread),
        "patients": len(set(labels.patients[read.rows].tolist())),
    }
    changed = {
        "version": version,
        "created": datetime.now(UTC).date(),
        # Whoever cleared it cleared other operating points.
        "cleared_for_clinical_use": False,
        "metrics": [figure for row in figures for figure in row if figure is not None],
        "training": {**old.training, "calibration": calibration},
    }
    return with_classes(old.model_copy(update=changed), classes)


def _checked(manifest: Manifest) -> Manifest:
    """The manifest, of which model_copy checked nothing."""
    try:
        return Manifest.model_validate(manifest.model_dump())
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise BundleMakingError(f"The calibrated bundle would not be one ({reasons}); see --version.") from error


def _card(bundle: LoadedBundle, made: Manifest, classes: list[CalibratedClass], plan: CalibrationPlan) -> str:
    old = (bundle.folder / CARD_FILE).read_text(encoding="utf-8")
    lines = [
        f"# {made.name} {made.version}",
        "",
        f"**{NOT_FOR_CLINICAL_USE}.** The weights of another bundle, with calibration and operating points of its own.",
        "",
        f"- From: {bundle.manifest.name} {bundle.manifest.version}, digest {bundle.digest}",
        "",
        *calibration_section(classes, plan),
        "## Card of the bundle that it was made from",
        "",
        "What it says of calibration, operating points and figures that depend on them is that bundle's.",
        "",
        *(f"> {line}".rstrip() for line in old.splitlines()),
    ]
    return "\n".join(lines) + "\n"
