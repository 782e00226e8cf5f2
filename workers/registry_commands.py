"""`chexnode bundle list, activate, rollback, retire`: which models analyse. They work while node and workers run."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.bundles.activation import activate, before, register, retire
from node.bundles.files import bundle_path
from node.bundles.registry import BundleStateError, find_bundle
from node.ledger.database import upgrade
from node.ledger.ledger import Ledger, open_ledger
from node.monitoring.logs import configure_logs
from schemas.bundle import Manifest, bundle_folder, read_manifest
from schemas.errors import BundleError
from schemas.settings import LogLevel, Settings, load_settings
from schemas.tables import Bundle, BundleState

_STYLES = {BundleState.ACTIVE: "green", BundleState.CANDIDATE: "", BundleState.RETIRED: "dim"}


@dataclass(frozen=True)
class _Listed:
    """A bundle as `list --json` prints it."""

    name: str
    version: str
    #: SHA-256, hex.
    digest: str
    #: "active", "candidate" or "retired"
    state: str
    registered_at: datetime
    #: None: it never was.
    activated_at: datetime | None
    #: None: this version of the software cannot read its manifest.
    cleared_for_clinical_use: bool | None
    shipped: bool
    #: The folder that it was registered from.
    source: str


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


def print_whole(console: Console, table: Table) -> None:
    """Print a table; into a pipe or file as wide as it is, since nobody there can widen a window."""
    if not console.is_terminal:
        wanted = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
        console.width = max(console.width, wanted)
    console.print(table)


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON, with whole digests.")
def list_command(as_json: bool) -> None:
    """List the bundles that this node knows; the active ones analyse."""
    configure_logs(LogLevel.WARNING)
    with _ledger(load_settings()).read() as session:
        rows = session.scalars(select(Bundle).order_by(Bundle.name, Bundle.state, Bundle.id.desc())).all()
        bundles = [_listed(row) for row in rows]
    if as_json:
        click.echo(TypeAdapter(list[_Listed]).dump_json(bundles, indent=2))
        return
    # Without lines between them seven columns fit a window of 80 characters; what is too long goes on below.
    table = Table(box=None)
    for heading in ("name", "version", "digest", "state", "since", "cleared", "from"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("digest", "state", "cleared"))
    for each in bundles:
        style = _STYLES[BundleState(each.state)]
        cleared = {True: "yes", False: "no", None: "[red]unreadable[/]"}[each.cleared_for_clinical_use]
        table.add_row(
            each.name,
            escape(each.version),
            each.digest[:12],
            f"[{style}]{each.state}[/]" if style else each.state,
            (each.activated_at or each.registered_at).astimezone().strftime("%Y-%m-%d %H:%M"),
            cleared,
            "shipped" if each.shipped else escape(each.source),
        )
    console = Console()
    if bundles:
        print_whole(console, table)
        console.print("cleared: for clinical use", style="dim")
    if any(each.cleared_for_clinical_use is None for each in bundles):
        console.print("unreadable: made for another version of the software", style="dim")
    if not bundles:
        console.print("None is known yet: the shipped one is active from the node's first start on.")
    elif not any(each.state == BundleState.ACTIVE for each in bundles):
        console.print("[yellow]None is active:[/] what comes in is kept and waits. chexnode bundle activate BUNDLE")


@click.command("activate")
@click.argument("bundle")
def activate_command(bundle: str) -> None:
    """Load BUNDLE (a folder, a name or the beginning of a digest), run its self-test, and let it analyse from now on.

    It takes the place of the active version of the same name; bundles of other names stay. A bundle that does not load
    or computes something else than when it was made is refused, and the old one goes on.
    """
    configure_logs(LogLevel.WARNING)
    settings = load_settings()
    _activate(settings, _ledger(settings), named_folder(bundle))


@click.command("rollback")
@click.argument("name", required=False)
def rollback_command(name: str | None) -> None:
    """Go back to the version of NAME that was active before. NAME may be left out while only one name is active."""
    configure_logs(LogLevel.WARNING)
    settings = load_settings()
    ledger = _ledger(settings)
    with ledger.read() as session:
        earlier = before(session, name or _only_name(session))
    _activate(settings, ledger, bundle_path(settings.home, earlier.digest))


@click.command("retire")
@click.argument("name")
def retire_command(name: str) -> None:
    """Let the active version of NAME analyse no more. What it said of studies stays."""
    configure_logs(LogLevel.WARNING)
    retired = _ledger(load_settings()).write(lambda session: retire(session, name))
    Console().print(f"{retired.name} {retired.version} is retired; its results stay")


def _activate(settings: Settings, ledger: Ledger, folder: Path) -> None:
    from workers.bundle import load_bundle, run_selftest

    console = Console()
    # Before its files are kept: what can never serve is no candidate.
    read_manifest(folder).check_says_something()
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
        which = f"Several are active, so say which: {', '.join(names)}." if names else "None is active; give its name."
        raise BundleStateError(which)
    return names[0]


def _listed(row: Bundle) -> _Listed:
    try:
        cleared = Manifest.model_validate_json(row.manifest).cleared_for_clinical_use
    except ValidationError:
        cleared = None
    return _Listed(
        name=row.name,
        version=row.version,
        digest=row.digest,
        state=row.state,
        registered_at=datetime.fromtimestamp(row.registered_at, UTC),
        activated_at=None if row.activated_at is None else datetime.fromtimestamp(row.activated_at, UTC),
        cleared_for_clinical_use=cleared,
        shipped=row.shipped,
        source=row.source,
    )


def _ledger(settings: Settings) -> Ledger:
    ledger = open_ledger(settings)
    upgrade(ledger)
    return ledger
