"""A backup is one moment of a running ledger; a restore gives it back, and never where somebody would miss what was."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pydicom import Dataset
from sqlalchemy import func, select

from node.intake.received import read_received
from node.intake.reception import ReceptionDesk
from node.intake.reconciliation import reconcile
from node.ledger.backup import back_up, restore
from node.ledger.database import current_revision, downgrade, head_revision
from node.ledger.ledger import Ledger, now
from node.monitoring.presence import present
from node.storage.object_store import FolderObjectStore
from schemas.errors import LedgerBackupError
from schemas.settings import Settings
from schemas.tables import Instance, Study
from tests.conftest import Mode
from tests.support.ledger_rows import contents, fill_empty_tables
from tests.support.phantoms import write_phantom


@pytest.fixture
def empty(mode: Mode, tmp_path: Path) -> Ledger:
    """Another ledger of the same kind, without tables."""
    return Ledger(mode.ledger_url() or f"sqlite:///{tmp_path}/other.db")


def _forget_processes(ledger: Ledger) -> None:
    """Rows of processes that were never there."""
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE process SET seen_at = 0")


def test_what_was_saved_comes_back_row_for_row(ledger: Ledger, empty: Ledger, tmp_path: Path) -> None:
    fill_empty_tables(ledger)
    _forget_processes(ledger)
    back_up(ledger, tmp_path / "backup")
    restore(empty, tmp_path / "backup", replace=False)
    assert contents(empty) == contents(ledger)
    assert current_revision(empty) == head_revision()
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
    with pytest.raises(LedgerBackupError, match="new name"):
        back_up(ledger, tmp_path / "backup")


def test_a_backup_is_one_moment_of_a_ledger_that_is_written_to(ledger: Ledger, empty: Ledger, tmp_path: Path) -> None:
    """Pairs are always committed together, and there is no moment with half of one."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            pair = [_study(f"{number}.1"), _study(f"{number}.2")]
            ledger.write(lambda session, pair=pair: session.add_all(pair))  # type: ignore[misc]

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            back_up(ledger, tmp_path / f"{number}")
    finally:
        stop.set()
        writer.join()
    restore(empty, tmp_path / "2", replace=False)
    with empty.read() as session:
        uids = set(session.scalars(select(Study.study_instance_uid)))
        assert session.scalar(select(func.count()).select_from(Study)) == len(uids)
    assert {uid.partition(".")[0] for uid in uids if uid.endswith(".1")} == {
        uid.partition(".")[0] for uid in uids if uid.endswith(".2")
    }


def _study(uid: str) -> Study:
    return Study(study_instance_uid=uid, first_received_at=now(), last_received_at=now(), changed_at=now())


def test_a_ledger_that_holds_studies_or_is_in_use_is_not_replaced_by_accident(ledger: Ledger, tmp_path: Path) -> None:
    back_up(ledger, tmp_path / "backup")
    fill_empty_tables(ledger)
    _forget_processes(ledger)
    before = contents(ledger)
    with pytest.raises(LedgerBackupError, match="--replace"):
        restore(ledger, tmp_path / "backup", replace=False)
    with present(ledger, "worker"), pytest.raises(LedgerBackupError, match="Stop every part"):
        restore(ledger, tmp_path / "backup", replace=True)
    assert contents(ledger)["study"] == before["study"]
    restore(ledger, tmp_path / "backup", replace=True)
    assert not any(contents(ledger).values())


def test_a_backup_of_an_older_version_is_migrated(ledger: Ledger, empty: Ledger, tmp_path: Path) -> None:
    downgrade(ledger, "0004")
    fill_empty_tables(ledger)
    _forget_processes(ledger)
    back_up(ledger, tmp_path / "backup")
    restore(empty, tmp_path / "backup", replace=False)
    assert current_revision(empty) == head_revision()
    with empty.read() as session:
        assert session.scalar(select(func.count()).select_from(Study)) == 1


@pytest.mark.parametrize("content", [b"", b"not a backup", b"SQLite format 3\0" + bytes(4000), b"PGDMP" + bytes(4000)])
def test_a_file_that_is_no_backup_changes_nothing(ledger: Ledger, tmp_path: Path, content: bytes) -> None:
    fill_empty_tables(ledger)
    _forget_processes(ledger)
    before = contents(ledger)
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(LedgerBackupError):
        restore(ledger, tmp_path / "file", replace=True)
    assert contents(ledger) == before


def test_images_that_came_after_the_backup_are_found_in_the_object_store(ledger: Ledger, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    store = FolderObjectStore(tmp_path / "objects")
    desk = ReceptionDesk(ledger, store, settings)

    def receive(name: str) -> Dataset:
        path = store.incoming / name
        sent = write_phantom(path, rows=300, columns=300)
        desk.take(read_received(path), "TESTSCU", 0.0)
        return sent

    before = receive("a")
    back_up(ledger, tmp_path / "backup")
    after = receive("b")
    restore(ledger, tmp_path / "backup", replace=True)
    found = reconcile(ledger, store, desk)
    assert (found.recorded, found.missing) == (1, [])
    with ledger.read() as session:
        uids = set(session.scalars(select(Instance.sop_instance_uid)))
    assert uids == {before.SOPInstanceUID, after.SOPInstanceUID}


def test_without_room_for_it_there_is_no_half_backup(ledger: Ledger, tmp_path: Path) -> None:
    # No file of the process may grow beyond 40 KB.
    command = 'ulimit -f 40; exec "$0" -m schemas.command_line db backup "$1"'
    environment = {**os.environ, "CHEXNODE_LEDGER_URL": ledger.url, "CHEXNODE_HOME": str(tmp_path)}
    run = subprocess.run(
        ["bash", "-c", command, sys.executable, tmp_path / "backup"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert run.returncode == 1
    assert "The ledger was not saved" in run.stderr
    assert not [path for path in tmp_path.iterdir() if "backup" in path.name]
