"""`chexnode train export`: what was pre-trained as a bundle, or as the published file. Imports are heavy: they wait."""

from pathlib import Path
from typing import Literal

import click


@click.command("export")
@click.argument("trained", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder for a bundle, otherwise a file.")
@click.option(
    "--layout",
    type=click.Choice(["bundle", "published", "hugging-face"]),
    default="bundle",
    show_default=True,
    help="published: as CheXFound's Drive, MoCo, MAE, GMML and SiT files are; hugging-face: CheXFound's copy there.",
)
def export_command(trained: Path, out: Path, layout: Literal["bundle", "published", "hugging-face"]) -> None:
    """Write TRAINED, the file that chexnode train pretrain has named at its end, as a bundle or a published layout."""
    from rich.console import Console

    from training.pretraining.export import export
    from workers.checkpoints.import_run import check_target

    if layout == "bundle":
        check_target(out, force=False)
    export(trained, out, layout)
    Console().print(f"written: {out}", soft_wrap=True, highlight=False)
