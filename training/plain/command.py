"""`chexnode phantom`: DICOM files of simulated chest radiographs, each with its truth beside it."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from training.plain.phantom.truth import TubeChoice

_TUBES = ("well-placed", "malpositioned", "absent", "any")


@click.command("phantom")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the files.")
@click.option(
    "--count", type=click.IntRange(min=1), default=1, show_default=True, help="Number of images, one study each."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the first; they count up."
)
@click.option("--size", type=click.IntRange(64, 8192), default=1024, show_default=True, help="Rows and columns.")
@click.option("--tube", type=click.Choice(_TUBES), default="any", show_default=True, help="Endotracheal tube.")
@click.option(
    "--date",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    help="Study Date and Time. Default: now; a node takes studies of days ago for priors and does not list them.",
)
def phantom_command(out: Path, count: int, seed: int, size: int, tube: "TubeChoice", date: datetime | None) -> None:
    """Make synthetic chest radiographs with known truth: seed-N.dcm and seed-N.json."""
    from rich.console import Console
    from rich.table import Table

    from training.plain.dicom import Order, phantom_dataset
    from training.plain.phantom.render import render_phantom
    from training.plain.truth_document import phantom_truth

    out.mkdir(parents=True, exist_ok=True)
    taken = date or datetime.now()
    table = Table(
        "file",
        "view",
        "findings",
        "tube",
        "tip above carina",
        title=f"{count} phantom{'' if count == 1 else 's'} in {out}",
    )
    for number in range(seed, seed + count):
        phantom = render_phantom(number, size, size, tube)
        path = out / f"seed-{number}.dcm"
        order = Order(
            patient_name=f"Phantom^Chest {number}",
            patient_id=f"PHANTOM-{number}",
            study_date=taken.strftime("%Y%m%d"),
            study_time=taken.strftime("%H%M%S"),
        )
        dataset = phantom_dataset(phantom, order)
        dataset.save_as(path, enforce_file_format=True)
        truth = phantom_truth(phantom, str(dataset.SOPInstanceUID))
        path.with_suffix(".json").write_text(truth.model_dump_json(indent=2) + "\n", encoding="utf-8")
        position, distance = "absent", ""
        if truth.tube is not None:
            position = "malpositioned" if truth.tube.malpositioned else "not malpositioned"
            distance = f"{truth.tube.tip_to_carina_mm:.0f} mm"
        findings = ", ".join(finding.value for finding in truth.findings) or "none"
        table.add_row(path.name, truth.view_position, findings, position, distance)
    Console().print(table)
