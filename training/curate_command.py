"""`chexnode train curate`: sources to a curated set with its manifest. Heavy modules are imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

    from training.curation.curate import Curation
    from training.sources.catalogue import Named
    from training.sources.source import Source

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("curate")
@click.option(
    "--source",
    "texts",
    multiple=True,
    metavar="KIND[:NAME]=WHERE",
    help="A source, for example kermany=FOLDER, phantom=COUNT, pacs=DESTINATION (name in the settings, or URL).",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the manifest.")
@click.option("--val", type=click.FloatRange(0, 0.9), default=0.1, show_default=True, help="Share of patients.")
@click.option("--test", type=click.FloatRange(0, 0.9), default=0.2, show_default=True, help="Share of patients.")
@click.option("--key", help="Draws the splits; of patients of a department a secret. Default: a public one.")
@click.option(
    "--clean-only", is_flag=True, help="Only licences that allow weights to be shipped (attribution at most)."
)
@click.option(
    "--held-out",
    "held_out",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="MANIFEST",
    help="Manifest whose test patients must not be learned from; repeatable.",
)
@click.option("--shards", is_flag=True, help="Also write the images as tar files for streaming.")
@click.option("--size", type=click.IntRange(64, 8192), default=1024, show_default=True, help="Longest side in shards.")
@click.option("--key-file", type=_FILE, help="PACS: the secret that pseudonyms are made with.")
@click.option("--dates", default="", metavar="YYYYMMDD-YYYYMMDD", help="PACS: study dates.")
@click.option("--labels", type=_FILE, help="PACS: CSV with accession_number (or a UID) and a column per target.")
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True, help="That read images.")
@click.option("--list", "list_kinds", is_flag=True, help="List the kinds of sources and stop.")
def curate_command(
    texts: tuple[str, ...],
    out: Path | None,
    val: float,
    test: float,
    key: str | None,
    clean_only: bool,
    held_out: tuple[Path, ...],
    shards: bool,
    size: int,
    key_file: Path | None,
    dates: str,
    labels: Path | None,
    processes: int,
    list_kinds: bool,
) -> None:
    """Bring sources together: no film twice, no patient on two sides, a manifest with hashes and reasons."""
    from pydantic import ValidationError
    from rich.console import Console

    from schemas.errors import SettingsError
    from training.curation.curate import curate
    from training.curation.manifest import read_manifest
    from training.curation.settings import CurationSettings
    from training.curation.shards import write_shards
    from training.progress import training_progress
    from training.sources.catalogue import parse

    console = Console()
    if list_kinds:
        console.print(_kinds())
        return
    if not texts or out is None:
        raise click.UsageError("Name at least one --source and the folder --out; --list names the kinds of sources.")
    try:
        given = {"shares": {"val": val, "test": test}, "clean_only": clean_only} | ({"key": key} if key else {})
        settings = CurationSettings.model_validate(given)
    except ValidationError as error:
        raise SettingsError("; ".join(problem["msg"] for problem in error.errors())) from error
    frozen = [image for path in held_out for image in read_manifest(path) if image.split == "test"]
    with training_progress(console) as progress:
        sources = [_open(parse(text), out, key_file, dates, labels, progress) for text in texts]
        made = curate(sources, settings, out, progress, held_out=frozen, processes=processes)
        if shards:
            write_shards(made, out, size, progress)
    console.print(_table(made))
    found = f"{made.duplicates} pairs of one film; manifest.jsonl has the digest {made.digest[:16]}"
    console.print(f"{out}: {found}", soft_wrap=True, highlight=False)


def _open(
    named: "Named", out: Path, key_file: Path | None, dates: str, labels: Path | None, progress: "Progress"
) -> "Source":
    from schemas.settings import OrthancDestination, load_settings
    from training.sources.catalogue import PACS, PHANTOM, open_folder, open_phantoms
    from training.sources.deidentify import Pseudonyms
    from training.sources.folder import Folder
    from training.sources.pacs import fetch, read_key

    if named.kind == PHANTOM:
        return open_phantoms(named)
    if named.kind != PACS:
        return open_folder(named)
    if key_file is None:
        raise click.UsageError("A PACS needs --key-file: the secret that pseudonyms are made with.")
    if named.where.startswith(("http://", "https://")):
        pacs = OrthancDestination(name="pacs", url=named.where)
    else:
        known = {each.name: each for each in load_settings().destinations if isinstance(each, OrthancDestination)}
        if named.where not in known:
            names = ", ".join(known) or "none"
            raise click.UsageError(f"The settings name no Orthanc destination {named.where}; they have {names}.")
        pacs = known[named.where]
    folder = out / named.name
    fetched = fetch(pacs, folder, Pseudonyms(read_key(key_file)), progress, dates=dates, labels=labels)
    for reason, count in sorted(fetched.left_out.items()):
        progress.console.print(f"{named.name}: {count} left in the PACS ({reason})")
    return Folder(folder, name=named.name)


def _table(made: "Curation") -> "Table":
    from collections import Counter

    from rich.table import Table

    table = Table("source", "images", "patients", "train", "val", "test", "left out")
    for source in dict.fromkeys(image.source for image in made.images):
        images = [image for image in made.images if image.source == source]
        splits = Counter(image.split for image in images)
        reasons = Counter(image.excluded for image in images if image.excluded)
        table.add_row(
            source,
            f"{len(images):,}",
            f"{len({image.patient for image in images}):,}",
            *(f"{splits[split]:,}" for split in ("train", "val", "test")),
            "\n".join(f"{count:,} {reason}" for reason, count in reasons.most_common()) or "-",
        )
    return table


def _kinds() -> "Table":
    from rich.table import Table

    from training.sources.catalogue import FOLDERS, SUBSETS_READ, every_kind

    table = Table("kind", "layout after", "read from real files")
    for kind, source in zip(FOLDERS, every_kind(), strict=True):
        proved = "yes" if source.verified else "a subset with labels.csv; the rest unverified"
        table.add_row(kind, source.document, proved if source.verified or kind in SUBSETS_READ else "no: unverified")
    table.add_row("phantom", "training/phantom", "yes: phantom=COUNT draws them")
    table.add_row("pacs", "DICOMweb (PS3.18), de-identified by PS3.15 annex E", "yes")
    return table
