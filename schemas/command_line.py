"""The `chexnode` command: sub-commands come from the entry points `chexnode.commands`, imported only when called.

That keeps imports one way: no package needs to know the commands of another.
"""

import os
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import click
from alembic.util import CommandError
from rich.console import Console
from rich.text import Text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from schemas.errors import ChexnodeError
from schemas.settings import SETTINGS_VARIABLE

_GROUP = "chexnode.commands"
#: In the order in which a newcomer needs them: (command, one line).
_SUMMARIES = {
    "up": "Run the whole node on this host: receiver, workers, delivery.",
    "demo": "Start a node with a local Orthanc, send two phantom studies, show the results.",
    "analyze": "Analyse DICOM files without any network.",
    "send": "Send DICOM files to an AE by C-STORE.",
    "doctor": "Say what is wrong with this node and its peers, and what to do.",
    "health": "Say whether the node is ready (for probes).",
    "conformance": "Write the DICOM Conformance Statement.",
    "triage": "Simulate what ordering the worklist by urgency would do to waiting times.",
    "user": "Add, list and remove the accounts of the worklist page.",
    "viewer": "Install the OHIF viewer for the worklist page.",
    "phantom": "Make synthetic chest radiographs with known truth.",
    "train": "Make and evaluate model bundles.",
    "bundle": "Import, tune, activate and show model bundles.",
    "quarantine": "List, try again or export what was kept and not used.",
    "storage": "Show space and what retention may remove.",
    "deliveries": "List what has not reached its destination; try again or drop it.",
    "db": "Create, upgrade and inspect the ledger.",
    "node": "Run the receiver and the sweep alone.",
    "page": "Serve the worklist page alone.",
    "store": "Serve the object store to workers on other hosts.",
    "worker": "Run an inference worker alone.",
    "delivery": "Run a delivery worker alone.",
}


class _LazyGroup(click.Group):
    """Lists every registered command without importing it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        registered = {point.name for point in entry_points(group=_GROUP)}
        known = [name for name in _SUMMARIES if name in registered]
        return known + sorted(registered - set(known))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = [point for point in entry_points(group=_GROUP) if point.name == cmd_name]
        return _load(found[0]) if found else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _SUMMARIES.get(name, "")) for name in self.list_commands(ctx)])


def _load(point: EntryPoint) -> click.Command:
    try:
        command = point.load()
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"'{point.name}' needs the package {error.name}, which is not installed here. "
            "Install chexnode[worker] (inference) or chexnode[training] (models) on this host."
        ) from error
    assert isinstance(command, click.Command)
    return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chexnode", prog_name="chexnode")
@click.option(
    "--settings",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings file (TOML). Default: $CHEXNODE_SETTINGS, else ./chexnode.toml where it exists.",
)
def chexnode(settings: Path | None) -> None:
    """CheXNode: a DICOM node for chest radiographs.

    Takes in studies by C-STORE, analyses the frontal chest radiographs among them, and writes Structured Reports and
    segmentations back to the PACS. The model that comes with it is NOT FOR CLINICAL USE.
    """
    if settings:
        # Child processes (workers, migrations) read the same file.
        os.environ[SETTINGS_VARIABLE] = str(settings.resolve())


def _complain(message: str) -> None:
    # As it stands: brackets in a message are no markup.
    Console(stderr=True).print(Text.assemble(("chexnode: ", "bold red"), message), highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point: what a user can mend is one clear line and status 1, anything else is a traceback."""
    try:
        status = chexnode(standalone_mode=False)
    except ChexnodeError as error:
        _complain(str(error))
        sys.exit(1)
    except DBAPIError as error:
        # Without the row that PostgreSQL shows when it refuses one: this may end in a log.
        said = str(error.orig).partition("\nDETAIL:")[0].strip()
        _complain(f"The ledger does not answer: {said} Check ledger_url in the settings.")
        sys.exit(1)
    except (SQLAlchemyError, CommandError, OSError) as error:
        _complain(f"{type(error).__name__}: {error}")
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _complain("stopped")
        sys.exit(130)
    # With standalone_mode off, click returns what ctx.exit() was given.
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
