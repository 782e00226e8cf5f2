"""`chexnode viewer`: fetch the OHIF viewer that the page opens studies in, and say whether it is there."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from node.page.viewer_package import (
    PACKAGE,
    VERSION,
    ViewerInstallError,
    check,
    default_folder,
    fetch,
    is_viewer,
    size,
    unpack,
)
from schemas.settings import load_settings


@click.group("viewer")
def viewer_group() -> None:
    """The OHIF viewer on the page (optional; without it links go to the PACS's own page)."""


@viewer_group.command("install")
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), help="Folder to make.")
def install_command(folder: Path | None) -> None:
    """Fetch OHIF with npm, check it and put it where the page finds it; does nothing when it is there."""
    console = Console()
    target = (folder or default_folder()).resolve()
    if is_viewer(target):
        console.print(f"OHIF {VERSION} is there: {target}", soft_wrap=True)
        return
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and folder is not None:
        raise ViewerInstallError(f"{target} is in use and holds no viewer; name another folder.")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"fetching {PACKAGE} {VERSION} (50 MB)", total=None)
        with fetch() as archive:
            check(archive)
            progress.update(task, description="unpacking")
            unpack(archive, target, lambda done, total: progress.update(task, completed=done, total=total))
    console.print(f"OHIF {VERSION} ({size(target) / 1e6:.0f} MB) is now in {target}", soft_wrap=True)
    if folder is not None:
        console.print(f'Name it in the settings: [page] viewer = "{target}"', soft_wrap=True, markup=False)


@viewer_group.command("status")
def status_command() -> None:
    """Say whether the page has a viewer; status 1 when it has none."""
    console = Console()
    folder = load_settings().page.viewer or default_folder()
    if is_viewer(folder):
        console.print(f"The page opens studies in OHIF: {folder}", soft_wrap=True)
        return
    why = "holds no OHIF build for /viewer/" if folder.exists() else "is not there"
    console.print(f"No viewer: {folder} {why}. Links go to the PACS's own page.", soft_wrap=True)
    console.print("make viewer (or chexnode viewer install) fetches it.")
    raise click.exceptions.Exit(1)
