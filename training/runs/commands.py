"""`chexnode train worker, submit, status`: bundles that are made by a worker of their own, on demand or by schedule."""

import dataclasses
import json
from datetime import datetime
from pathlib import Path

import click

from schemas.settings import load_settings


@click.command("worker")
def worker_command() -> None:
    """Run a training worker: makes what was submitted, and what the schedule asks for.

    It gives way to everything else on the host. Killed and started again, it goes on where it was.
    """
    from training.runs.worker import serve

    serve()


@click.command("submit")
@click.argument("recipe", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def submit_command(recipe: Path | None) -> None:
    """Have the training worker make the bundle of RECIPE (default: the shipped bundle's) and judge it.

    It becomes a candidate of this node when the recipe's gate passes; see chexnode train status.
    """
    from rich.console import Console

    from node.ledger.database import upgrade
    from node.ledger.ledger import open_ledger
    from node.monitoring.presence import present_roles
    from training.regeneration.recipe import default_recipe, read_text
    from training.runs.ledger import submit

    ledger = open_ledger(load_settings())
    upgrade(ledger)
    path = recipe or default_recipe()
    text = read_text(path)
    run = ledger.write(lambda session: submit(session, text, str(path)))
    console = Console()
    console.print(f"run {run.id} ({run.title}) is due; chexnode train status shows how it gets on", highlight=False)
    roles = present_roles(ledger)
    if "training" not in roles:
        console.print(
            "[yellow]No training worker runs:[/] chexnode train worker, or training.enabled with chexnode up."
        )
    if "node" not in roles:
        console.print("[yellow]No node runs:[/] without its sweep nobody tells the training worker.")


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print the runs as JSON.")
@click.option("--count", type=click.IntRange(min=1), default=10, show_default=True, help="The latest so many.")
def status_command(as_json: bool, count: int) -> None:
    """Show training runs: stage, progress, what the gate said."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from node.ledger.database import upgrade
    from node.ledger.ledger import open_ledger
    from training.runs.ledger import listed_runs
    from workers.registry_commands import print_whole

    ledger = open_ledger(load_settings())
    upgrade(ledger)
    with ledger.read() as session:
        runs = listed_runs(session, count)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(run) for run in runs], indent=2, default=_iso))
        return
    console = Console()
    if not runs:
        console.print("No training was submitted yet: chexnode train submit.")
        return
    table = Table(box=None)
    for heading in ("run", "bundle", "state", "stage", "progress", "left", "gate", "digest", "since"):
        table.add_column(heading, overflow="fold")
    for run in runs:
        share, left = run.stage_share, run.stage_remaining_seconds
        gate = {True: "[green]passed[/]", False: "[red]refused[/]", None: ""}[run.gate_passed]
        state = {"leased": "[yellow]silent[/]" if run.silent else "under way", "failed": "[red]given up[/]"}
        table.add_row(
            f"{run.id}{'*' if run.scheduled_for else ''}",
            escape(run.title),
            state.get(run.state, run.state),
            run.stage,
            "" if share is None else f"{share:.0%}",
            "" if left is None else f"{left / 60:.0f} min",
            gate,
            (run.bundle_digest or "")[:12],
            (run.finished_at or run.submitted_at).astimezone().strftime("%Y-%m-%d %H:%M"),
        )
    print_whole(console, table)
    for run in runs:
        for line in (*run.gate_reasons, run.error, run.report):
            if line:
                console.print(f"  run {run.id}: {line}", soft_wrap=True, markup=False, highlight=False)
    if any(run.scheduled_for for run in runs):
        console.print("*: by schedule", style="dim")


def _iso(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()
