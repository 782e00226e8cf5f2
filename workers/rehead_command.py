"""`chexnode bundle rehead`: the same backbone and head for other classes."""

from pathlib import Path

import click


@click.command("rehead")
@click.argument("bundle")
@click.option("--classes", required=True, help="All classes of the new head, in order: a,b,c or a file of lines.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace the bundle that --out already is.")
@click.option("--name", help="Name of the new bundle; by default the old one's.")
@click.option("--version", "version", help="Version of the new bundle; by default the old one's with +rehead.")
@click.option("--seed", default=0, show_default=True, help="Of the new classes' random weights.")
def rehead_command(
    bundle: str, classes: str, out: Path, force: bool, name: str | None, version: str | None, seed: int
) -> None:
    """Make BUNDLE one for other classes: a folder, or a name or the beginning of a digest of chexnode bundle list.

    A class that stays keeps its query, weights and operating point. A new one starts untrained: it has no operating
    point, so results call it undetermined. Classes that are not named are dropped.
    """
    from rich.console import Console

    from workers.bundle import load_bundle
    from workers.checkpoints.classes import class_names, in_results
    from workers.checkpoints.import_run import check_target
    from workers.registry_commands import named_folder
    from workers.rehead import rehead

    check_target(out, force)
    loaded = load_bundle(named_folder(bundle))
    names = class_names(classes)
    written = rehead(loaded, names, out, name=name, version=version, seed=seed)
    old = [scored.target for scored in loaded.manifest.classes]
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"kept: {', '.join(each for each in names if each in old) or 'none'}")
    console.print(f"new, untrained: {', '.join(each for each in names if each not in old) or 'none'}")
    console.print(f"dropped: {', '.join(each for each in old if each not in names) or 'none'}")
    if nameless := [each.target for each in written.manifest.classes if not in_results(each.target)]:
        console.print(f"note: no code for {', '.join(nameless)}, so no result speaks of it", markup=False)
    if not written.manifest.says_something:
        console.print("note: its results would say nothing, so it cannot be activated")
    console.print(f"written: {written.folder}: {written.manifest.name} {written.manifest.version}", markup=False)
    console.print(f"digest: {written.digest}")
