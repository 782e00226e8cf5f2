"""`chexnode train calibrate`: a department's own labels make a bundle decide there. Part of train_command.py."""

from pathlib import Path

import click


@click.command("calibrate")
@click.argument("bundle")
@click.option(
    "--images",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that the table's paths begin in: DICOM, PNG or JPEG.",
)
@click.option(
    "--labels",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with the columns path, patient, and one per class: 1 present, 0 absent, blank unknown.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace the bundle that --out already is.")
@click.option("--version", "version", help="Version of the new bundle; by default the old one's with +cal.")
@click.option(
    "--real",
    "name",
    help="Name of the data, and your word that they are radiographs of patients of the intended population: then "
    "results call the scores probabilities.",
)
@click.option(
    "--sensitivity",
    "sensitivities",
    multiple=True,
    default=["0.9"],
    show_default=True,
    help="That operating points are chosen for; CLASS=0.95 for one class. May be repeated.",
)
@click.option(
    "--prevalence",
    "prevalences",
    multiple=True,
    help="CLASS=0.1: share of patients to come that have it, where it is not that of the labels. May be repeated.",
)
def calibrate_command(
    bundle: str,
    images: Path,
    labels: Path,
    out: Path,
    force: bool,
    version: str | None,
    name: str | None,
    sensitivities: tuple[str, ...],
    prevalences: tuple[str, ...],
) -> None:
    """Fit calibration and operating points of BUNDLE to local labels, without training; writes another bundle.

    BUNDLE is a folder, or a name or the beginning of a digest of chexnode bundle list. A class needs 20 images of 10
    patients with it, and as many without; any other stays as it is. The reliability diagrams go to OUT.reliability.png.
    """
    from rich.console import Console

    from schemas.settings import load_settings
    from training.calibration.calibrate import calibrate
    from training.calibration.fitting import CalibrationPlan
    from workers.bundle import load_bundle
    from workers.checkpoints.import_run import check_target
    from workers.registry_commands import named_folder

    check_target(out, force)
    by_class = _shares(sensitivities, "--sensitivity", highest=1.0)
    for_all = by_class.pop("", 0.9)
    of_patients = _shares(prevalences, "--prevalence")
    if "" in of_patients:
        raise click.BadParameter("write CLASS=0.1: every class has its own", param_hint="--prevalence")
    data = name or f"{labels.name}, not stated to be of patients"
    plan = CalibrationPlan(data, name is not None, for_all, by_class, of_patients)
    console = Console(highlight=False)
    written = calibrate(
        load_bundle(named_folder(bundle)), labels, images, plan, out, load_settings().worker, console, version
    )
    console.print(f"written: {out}: {written.manifest.name} {written.manifest.version}", markup=False, soft_wrap=True)
    console.print(f"digest: {written.digest}", soft_wrap=True)


def _shares(options: tuple[str, ...], hint: str, highest: float = 0.999999) -> dict[str, float]:
    """Shares by class of CLASS=SHARE; a bare SHARE is that of ""."""
    shares: dict[str, float] = {}
    for option in options:
        target, _, value = option.rpartition("=")
        try:
            shares[target] = float(value)
        except ValueError:
            raise click.BadParameter(f"{value!r} is no number", param_hint=hint) from None
        if not 0 < shares[target] <= highest:
            raise click.BadParameter(f"{value} does not lie between 0 and 1", param_hint=hint)
    return shares
