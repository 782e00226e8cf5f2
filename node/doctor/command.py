"""`chexnode doctor`: the checks on the terminal, or as JSON for scripts."""

import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from node.doctor.checks import names, run_checks
from node.doctor.settings_check import read_settings
from node.doctor.verdict import Status, Verdict, summary, things_to_do
from node.monitoring.logs import configure_logs
from schemas.settings import Settings

STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "bold red", Status.SKIPPED: "dim"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON document for scripts, and nothing else.")
@click.option(
    "--only", multiple=True, metavar="NAME", help="This subject (ledger) or check (ledger.clock); repeatable."
)
@click.option("--no-store", is_flag=True, help="Store no test objects at the destinations.")
def doctor_command(as_json: bool, only: tuple[str, ...], no_store: bool) -> None:
    """Say what is wrong with this installation, and what to do.

    Examines settings, ports, disk, ledger, broker, parts, bundle, receiver and every destination, at which a test
    object of no patient is stored, found and deleted again. Status 0 when nothing failed (warnings are allowed), 1 when
    something did, 2 when a NAME is unknown. docs/doctor.md explains each check.
    """
    configure_logs()
    # What libraries would log is what the verdicts say.
    logging.disable(logging.CRITICAL)
    settings = read_settings()
    if isinstance(settings, Settings):
        unknown = sorted(set(only) - set(names(settings)))
        if unknown:
            raise click.BadParameter(
                f"{', '.join(unknown)}: there is {', '.join(names(settings))}", param_hint="--only"
            )
    started = time.monotonic()
    verdicts = run_checks(settings, store=not no_store, only=only)
    gathered = list(verdicts) if as_json else _show(verdicts, max(map(len, names(settings))), Console())
    seconds = time.monotonic() - started
    if as_json:
        click.echo(json.dumps(_document(gathered, seconds), indent=2))
    else:
        _show_end(gathered, seconds, Console())
    if any(verdict.status == Status.FAILED for verdict in gathered):
        raise click.exceptions.Exit(1)


def _show(verdicts: Iterable[Verdict], name_width: int, console: Console) -> list[Verdict]:
    """One line per verdict as it comes."""
    gathered = []
    with console.status("examining"):
        for verdict in verdicts:
            gathered.append(verdict)
            line = Table.grid(padding=(0, 2, 0, 0))
            line.add_column(width=7)
            line.add_column(width=name_width)
            line.add_column(overflow="fold")
            line.add_row(Text(verdict.status, STYLES[verdict.status]), Text(verdict.name), Text(verdict.found))
            console.print(line)
    return gathered


def _show_end(verdicts: Sequence[Verdict], seconds: float, console: Console) -> None:
    to_do = things_to_do(verdicts)
    if to_do:
        console.print("\n[bold]What to do[/]")
    for status, what, checks in to_do:
        console.print(Text(", ".join(checks), STYLES[status]))
        console.print(Padding(Text(what), (0, 0, 0, 2), expand=False))
    console.print(f"\n{summary(verdicts)} in {seconds:.1f} s", highlight=False)


def _document(verdicts: Sequence[Verdict], seconds: float) -> dict[str, object]:
    failed = any(verdict.status == Status.FAILED for verdict in verdicts)
    return {
        "status": Status.FAILED if failed else Status.OK,
        "seconds": round(seconds, 3),
        "verdicts": [{**asdict(verdict), "seconds": round(verdict.seconds, 3)} for verdict in verdicts],
    }
