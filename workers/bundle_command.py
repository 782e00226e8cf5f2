"""`chexnode bundle`: what a model bundle is, and whether it is intact."""

from typing import TYPE_CHECKING

import click

from workers.checkpoints.import_command import import_group
from workers.registry_commands import (
    activate_command,
    list_command,
    named_folder,
    retire_command,
    rollback_command,
)
from workers.rehead_command import rehead_command
from workers.run_command import run_command
from workers.tune_command import tune_command

if TYPE_CHECKING:
    from schemas.bundle import ScoredClass

_bundle_argument = click.argument("bundle", required=False)


@click.group("bundle")
def bundle_group() -> None:
    """Import, show and verify model bundles, and choose which ones analyse."""


bundle_group.add_command(import_group)
bundle_group.add_command(run_command)
bundle_group.add_command(rehead_command)
bundle_group.add_command(tune_command)
for command in (list_command, activate_command, rollback_command, retire_command):
    bundle_group.add_command(command)


@bundle_group.command("show")
@_bundle_argument
def show_command(bundle: str | None) -> None:
    """Show what BUNDLE is made for, how it was made and what it achieves.

    BUNDLE is a folder, or a name or the beginning of a digest of chexnode bundle list; by default the shipped one.
    """
    from rich.console import Console
    from rich.table import Table

    from schemas.bundle import bundle_digest, read_manifest
    from schemas.codes import NOT_FOR_CLINICAL_USE
    from workers.metrics_table import metrics_table
    from workers.registry_commands import print_whole

    folder = named_folder(bundle)
    manifest = read_manifest(folder)
    console = Console()
    if not manifest.cleared_for_clinical_use:
        console.print(f"[bold red]{NOT_FOR_CLINICAL_USE}.[/] See {folder / 'card.md'}.")
    population = manifest.population
    age = "any age" if population.minimum_age_years is None else f"from {population.minimum_age_years} years"
    # Lines of their own, to be copied whole.
    console.print(f"folder: {folder}", soft_wrap=True, markup=False, highlight=False)
    console.print(f"digest: {bundle_digest(folder)}", soft_wrap=True, markup=False, highlight=False)
    facts = Table(title=f"{manifest.name} {manifest.version}", show_header=False)
    facts.add_column()
    facts.add_column(overflow="fold")
    facts.add_row("made", manifest.created.isoformat())
    facts.add_row("licence", manifest.licence)
    views = f"views {', '.join(population.view_positions)}"
    facts.add_row("made for", ", ".join([age, views, *population.devices]))
    facts.add_row("backbone", f"{manifest.architecture.timm_name}, {manifest.preprocessing.size} px")
    if manifest.channels:
        facts.add_row("regions and landmarks", ", ".join(manifest.channels))
    if (look := manifest.second_look) is not None:
        said = f"crops of {look.crop} of {look.detail_size} px above the carina: {', '.join(look.channels)}"
        facts.add_row("second look", said)
    facts.add_row("data", str(manifest.training.get("data", "not stated")))
    print_whole(console, facts)
    if not manifest.says_something:
        console.print("[yellow]Its results would say nothing, so it cannot be activated.[/]")
    classes = Table("class", "operating point", "score", "calibrated on", title="Classes")
    for scored in manifest.classes:
        meaning = "probability" if scored.calibrated else "no probability"
        point = scored.operating_point
        classes.add_row(
            scored.target, "none: undetermined" if point is None else f"{point:.3f}", meaning, _made_on(scored)
        )
    if manifest.classes:
        print_whole(console, classes)
    if manifest.metrics:
        print_whole(console, metrics_table(manifest.metrics, "Figures stated by the bundle"))


def _made_on(scored: "ScoredClass") -> str:
    calibration = scored.calibration
    if calibration is None:
        return "nothing"
    error = calibration.expected_calibration_error
    figures = [f"n {calibration.n}", f"prevalence {calibration.prevalence:.1%}"]
    return ", ".join([calibration.data, *figures, *([] if error is None else [f"expected error {error:.3f}"])])


@bundle_group.command("verify")
@_bundle_argument
@click.option("--digest", help="The digest that it must have (its first characters are enough).")
def verify_command(bundle: str | None, digest: str | None) -> None:
    """Load BUNDLE (as for show; default: the shipped one) strictly, print its digest and run its self-test.

    The self-test shows that the weights compute what they did when the bundle was made; only --digest, taken from
    where the bundle came from, shows that nothing in it was changed.
    """
    from rich.console import Console

    from schemas.errors import BundleError
    from workers.bundle import load_bundle, run_selftest

    loaded = load_bundle(named_folder(bundle))
    if digest and not loaded.digest.startswith(digest.lower()):
        raise BundleError(f"{loaded.folder} has the digest {loaded.digest}, not {digest}: it was changed.")
    difference = run_selftest(loaded)
    console = Console()
    console.print(f"{loaded.manifest.name} {loaded.manifest.version}: {loaded.digest}", soft_wrap=True)
    console.print(f"self-test passed, greatest difference of a logit {difference:.2g}")
