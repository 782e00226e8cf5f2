"""`chexnode bundle list, activate, rollback, retire`: which models analyse. They work while node and workers run."""

from datetime import datetime
from pathlib import Path

import click
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.activation import activate, before, register, retire
from node.bundle_files import bundle_path
from node.database import upgrade
from node.ledger import Ledger, open_ledger
from node.logs import configure_logs
from node.registry import BundleNotFoundError, find_bundle
from schemas.bundle import Manifest, bundle_folder
from schemas.errors import BundleError
from schemas.settings import Settings, load_settings
from schemas.tables import Bundle, BundleState

_STYLES = {BundleState.ACTIVE: "green", BundleState.CANDIDATE: "", BundleState.RETIRED: "dim"}


def named_folder(bundle: str | None) -> Path:
    """The folder that BUNDLE means: a folder, or a name or the beginning of a digest in the registry; None: shipped.

    Raises BundleNotFoundError.
    """
    if bundle is None:
        return bundle_folder(None)
    if Path(bundle).is_dir():
        return Path(bundle)
    settings = load_settings()
    with _ledger(settings).read() as session:
        return bundle_path(settings.home, find_bundle(session, bundle).digest)


@click.command("list")
def list_command() -> None:
    """List the bundles that this node knows; the active ones analyse."""
    configure_logs()
    table = Table("name", "version", "digest", "state", "since", "for clinical use", "from")
    with _ledger(load_settings()).read() as session:
        rows = session.scalars(select(Bundle).order_by(Bundle.name, Bundle.state, Bundle.id.desc())).all()
        for row in rows:
            since = row.registered_at if row.activated_at is None else row.activated_at
            table.add_row(
                row.name,
                escape(row.version),
                row.digest[:12],
                f"[{_STYLES[BundleState(row.state)]}]{row.state}[/]" if _STYLES[BundleState(row.state)] else row.state,
                datetime.fromtimestamp(since).strftime("%Y-%m-%d %H:%M"),
                _cleared(row),
                "shipped" if row.shipped else escape(row.source),
            )
    console = Console()
    console.print(table)
    if not rows:
        console.print("None is known yet: the shipped one is active from the node's first start on.")
    elif not any(row.state == BundleState.ACTIVE for row in rows):
        console.print("[yellow]None is active:[/] what comes in is kept and waits. chexnode bundle activate BUNDLE")


@click.command("activate")
@click.argument("bundle")
def activate_command(bundle: str) -> None:
    """Load BUNDLE (a folder, a name or the beginning of a digest), run its self-test, and let it analyse from now on.

    It takes the place of the active version of the same name; bundles of other names stay. A bundle that does not load
    or computes something else than when it was made is refused, and the old one goes on.
    """
    configure_logs()
    settings = load_settings()
    _activate(settings, _ledger(settings), named_folder(bundle))


@click.command("rollback")
@click.argument("name", required=False)
def rollback_command(name: str | None) -> None:
    """Go back to the version of NAME that was active before. NAME may be left out while only one name is active."""
    configure_logs()
    settings = load_settings()
    ledger = _ledger(settings)
    with ledger.read() as session:
        earlier = before(session, name or _only_name(session))
    _activate(settings, ledger, bundle_path(settings.home, earlier.digest))


@click.command("retire")
@click.argument("name")
def retire_command(name: str) -> None:
    """Let the active version of NAME analyse no more. What it said of studies stays."""
    configure_logs()
    retired = _ledger(load_settings()).write(lambda session: retire(session, name))
    Console().print(f"{retired.name} {retired.version} is retired; its results stay")


def _activate(settings: Settings, ledger: Ledger, folder: Path) -> None:
    from workers.bundle import load_bundle, run_selftest

    console = Console()
    with console.status(f"loading {folder} and running its self-test"):
        loaded = load_bundle(folder)
        difference = run_selftest(loaded)
    with console.status("keeping its files"):
        digest = register(ledger, settings.home, folder)
    if digest != loaded.digest:
        raise BundleError(f"{folder} was changed meanwhile: try again.")
    replaced = ledger.write(lambda session: activate(session, digest))
    manifest = loaded.manifest
    console.print(f"self-test passed, greatest difference {difference:.2g}")
    place = f" in the place of {replaced.version} ({replaced.digest[:12]})" if replaced else ""
    console.print(f"[bold]{manifest.name} {manifest.version}[/] ({digest[:12]}) is active{place}", soft_wrap=True)
    if not manifest.cleared_for_clinical_use:
        console.print("[bold red]Not for clinical use.[/]")


def _only_name(session: Session) -> str:
    names = session.scalars(select(Bundle.name).where(Bundle.state == BundleState.ACTIVE).order_by(Bundle.name)).all()
    if len(names) != 1:
        raise BundleNotFoundError(f"Say which: {', '.join(names)}." if names else "None is active; give its name.")
    return names[0]


def _cleared(row: Bundle) -> str:
    try:
        return "cleared" if Manifest.model_validate_json(row.manifest).cleared_for_clinical_use else "no"
    except ValidationError:
        return "[red]not readable by this version[/]"


def _ledger(settings: Settings) -> Ledger:
    ledger = open_ledger(settings)
    upgrade(ledger)
    return ledger
