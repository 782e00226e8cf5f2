"""Does the ledger answer, fit this software, keep what it commits, and agree on the time?"""

import time
from collections.abc import Iterator
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import make_url, select, text

import schemas.migrations
from node.doctor.reach_ledger import LedgerUnavailableError, reach_ledger
from node.doctor.verdict import Finding, Judge, Subject, Verdict, failed, ok, warning
from node.ledger.database import current_revision, head_revision
from node.ledger.ledger import Ledger, now
from schemas.settings import Settings

#: A round trip above this slows every step of every study.
_SLOW_SECONDS = 0.1
_CLOCK_SECONDS = 5.0
#: File systems over a network, on which SQLite's WAL does not work (sqlite.org/wal.html).
_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "fuse.sshfs", "fuse.glusterfs"}


def ledger_subject(settings: Settings) -> Subject:
    """Checks of the ledger; only the first one when it does not answer."""

    def examine(judge: Judge) -> Iterator[Verdict]:
        try:
            with reach_ledger(settings) as ledger:
                yield judge("ledger.answers", lambda: _answers(ledger))
                yield judge("ledger.migrations", lambda: migrations(ledger))
                yield judge("ledger.durability", lambda: _durability(ledger))
                yield judge("ledger.clock", lambda: _clock(ledger))
        except LedgerUnavailableError as error:
            finding = failed(error.found, error.to_do, error.said)
            yield judge("ledger.answers", lambda: finding)

    return Subject("ledger", ("answers", "migrations", "durability", "clock"), examine)


def migrations(ledger: Ledger) -> Finding:
    """The ledger's revision against the one that this software works with."""
    current, head = current_revision(ledger), head_revision()
    if current == head:
        return ok(f"revision {current}, as this software wants")
    if current is None:
        return failed("it is empty", "Run chexnode db upgrade (a node that starts does so too).")
    folder = Path(schemas.migrations.__file__).parent
    if current not in {script.revision for script in ScriptDirectory(str(folder)).walk_revisions()}:
        return failed(
            f"revision {current} is newer than this software, which knows {head}",
            "Install the newer CheXNode on this host: an older one must not work on this ledger.",
        )
    return failed(
        f"revision {current}, this software wants {head}",
        "Back the ledger up, then run chexnode db upgrade (a node that starts does so too).",
    )


def _answers(ledger: Ledger) -> Finding:
    with ledger.read() as session:
        started = time.monotonic()
        session.scalar(select(now()))
        seconds = time.monotonic() - started
    found = (
        f"{make_url(ledger.url).set(query={}).render_as_string(hide_password=True)} answers in {seconds * 1e3:.1f} ms"
    )
    if seconds > _SLOW_SECONDS:
        return warning(found, "Bring the database nearer to the node, or find out what it is busy with.")
    return ok(found)


def _durability(ledger: Ledger) -> Finding:
    """Whether a commit is on the disk before it is answered: an answer of success to a sender promises that."""
    return _sqlite_durability(ledger) if ledger.engine.dialect.name == "sqlite" else _postgresql_durability(ledger)


def _sqlite_durability(ledger: Ledger) -> Finding:
    with ledger.engine.connect() as connection:
        journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
    if journal != "wal" or synchronous < 2:
        return failed(
            f"SQLite says journal_mode={journal}, synchronous={synchronous}; wanted are wal and 2 (FULL)",
            "Put the ledger's folder on a local file system.",
        )
    kind = _file_system(Path(make_url(ledger.url).database or "").resolve())
    if kind in _NETWORK_FILE_SYSTEMS:
        return failed(
            f"SQLite on a network file system ({kind}) can lose and damage data",
            "Put home on a local disk, or use PostgreSQL (ledger_url).",
        )
    return ok(f"SQLite writes ahead and waits for the disk (WAL, synchronous=FULL, {kind})")


def _postgresql_durability(ledger: Ledger) -> Finding:
    names = ("fsync", "synchronous_commit", "full_page_writes")
    with ledger.read() as session:
        values = {name: session.scalar(text("SELECT current_setting(:name)"), {"name": name}) for name in names}
    weak = [f"{name}={value}" for name, value in values.items() if value == "off"]
    if weak:
        return warning(
            f"PostgreSQL runs with {', '.join(weak)}: a power cut can lose what a sender was told is stored",
            f"Switch on {', '.join(each.split('=')[0] for each in weak)} for this database.",
        )
    return ok(f"PostgreSQL waits for the disk (fsync=on, synchronous_commit={values['synchronous_commit']})")


def _clock(ledger: Ledger) -> Finding:
    if ledger.engine.dialect.name == "sqlite":
        return ok("SQLite goes by this host's clock")
    with ledger.read() as session:
        before = time.time()
        theirs = session.scalars(select(now())).one()
        difference = theirs - (before + time.time()) / 2
    if abs(difference) > _CLOCK_SECONDS:
        which = "ahead of" if difference > 0 else "behind"
        return warning(
            f"the database's clock is {abs(difference):.0f} s {which} this host's",
            "Let both hosts take their time from the same server (NTP).",
        )
    return ok(f"the database's clock and this host's differ by {abs(difference):.1f} s")


def _file_system(path: Path) -> str:
    """Type of the file system that holds `path`, from /proc/mounts; "" when unknown."""
    best, kind = "", ""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return kind
    for line in mounts:
        _, point, type_, *_ = line.split(" ")
        point = point.encode().decode("unicode_escape")
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, type_
    return kind
