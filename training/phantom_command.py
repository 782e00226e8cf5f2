"""`chexnode phantom`: files of simulated chest radiographs, each with its truth beside it."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from training.phantom.truth import Phantom

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
@click.option("--view", type=click.Choice(["PA", "AP", "LL"]), help="Default: PA or AP, by the seed.")
@click.option("--age", type=click.FloatRange(0, 110), help="Age in years. Default: by the seed, children too.")
@click.option(
    "--family",
    type=click.Choice(["training", "frozen"]),
    default="training",
    show_default=True,
    help="Set of parameters; models are never trained on the frozen one.",
)
@click.option("--png", is_flag=True, help="Write 8-bit PNG instead of DICOM.")
@click.option(
    "--masks", is_flag=True, help="Write all masks too: seed-N.npz, one array for each structure and finding."
)
@click.option("--twins", is_flag=True, help="Write the same films without bones and without nodules too, as PNG.")
@click.option("--sheet", is_flag=True, help="Write all films on one picture too: sheet.png.")
@click.option(
    "--date",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    help="Study Date and Time. Default: now; a node takes studies of days ago for priors and does not list them.",
)
def phantom_command(
    out: Path,
    count: int,
    seed: int,
    size: int,
    tube: str,
    view: str | None,
    age: float | None,
    family: str,
    png: bool,
    masks: bool,
    twins: bool,
    sheet: bool,
    date: datetime | None,
) -> None:
    """Make synthetic chest radiographs with known truth: seed-N.dcm and seed-N.json."""
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from training.phantom.endotracheal_tube import TubeChoice
    from training.phantom.render import render_phantom
    from training.phantom.truth import Family, View
    from training.phantom_sheet import SheetEntry, save_contact_sheet, sheet_entries

    out.mkdir(parents=True, exist_ok=True)
    title = f"{count} phantom{'' if count == 1 else 's'} in {out}"
    table = Table("file", "view", "age", "findings", "devices", "tube", "tip above carina", title=title)
    console = Console()
    entries: list[SheetEntry] = []
    for number in track(range(seed, seed + count), "Rendering", console=console, transient=True):
        phantom = render_phantom(
            number,
            size,
            size,
            family=Family(family),
            view=None if view is None else View(view),
            age_years=age,
            tube=TubeChoice(tube),
            twins=twins,
        )
        path = out / f"seed-{number}.{'png' if png else 'dcm'}"
        _write(phantom, path, date or datetime.now(), masks)
        _add_row(table, phantom, path)
        if sheet:
            entries += sheet_entries(phantom)
    if sheet:
        save_contact_sheet(entries, out / "sheet.png")
    console.print(table)


def _write(phantom: "Phantom", path: Path, taken: datetime, masks: bool) -> None:
    """The image, its truth, and what else there is of it."""
    import numpy as np

    from training.phantom_dicom import Order, phantom_dataset
    from training.phantom_sheet import as_picture
    from training.phantom_truth import phantom_truth

    uid = ""
    if path.suffix == ".png":
        as_picture(phantom.image).save(path)
    else:
        order = Order(
            patient_name=f"Phantom^Chest {phantom.seed}",
            patient_id=f"PHANTOM-{phantom.seed}",
            study_date=taken.strftime("%Y%m%d"),
            study_time=taken.strftime("%H%M%S"),
        )
        dataset = phantom_dataset(phantom, order)
        dataset.save_as(path, enforce_file_format=True)
        uid = str(dataset.SOPInstanceUID)
    path.with_suffix(".json").write_text(phantom_truth(phantom, uid).model_dump_json(indent=2) + "\n", encoding="utf-8")
    if masks:
        named = {f"structure_{name.value}": mask for name, mask in phantom.masks.items()}
        named |= {f"finding_{name.value}": mask for name, mask in phantom.finding_masks.items()}
        np.savez_compressed(path.with_suffix(".npz"), allow_pickle=False, **named)
    for name, film in (("bone-free", phantom.bone_free), ("nodule-free", phantom.nodule_free)):
        if film is not None:
            as_picture(film).save(path.with_name(f"{path.stem}-{name}.png"))


def _add_row(table: "Table", phantom: "Phantom", path: Path) -> None:
    from training.phantom.truth import DeviceKind

    tube = phantom.device(DeviceKind.ENDOTRACHEAL_TUBE)
    position, distance = "absent", ""
    if tube is not None and tube.position is not None and tube.tip_to_carina_mm is not None:
        position, distance = tube.position.value.replace("_", " "), f"{tube.tip_to_carina_mm:.0f} mm"
    others = dict.fromkeys(device.kind.value for device in phantom.devices if device is not tube)
    table.add_row(
        path.name,
        phantom.view.value,
        f"{phantom.age_years:.0f}",
        _listed(sorted(finding.value for finding in phantom.findings)),
        _listed(others),
        position,
        distance,
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
