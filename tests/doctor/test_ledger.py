"""What the doctor says of a ledger that is not there, is of another version, or loses what it promised to keep."""

import os
import time
from typing import Any

import pytest
from sqlalchemy import make_url, text

from node.doctor.verdict import Status
from node.ledger.database import downgrade, head_revision
from node.ledger.ledger import now, open_ledger
from node.monitoring.presence import present
from schemas.settings import FolderDestination, Settings
from schemas.tables import Inference, Result, Study, WorkState
from tests.conftest import Mode
from tests.doctor.examining import examine, silent_port, states
from tests.support.processes import free_port


def test_a_prepared_ledger_is_well(prepared: Settings) -> None:
    verdicts = examine(prepared, "ledger", "work")
    assert set(states(verdicts).values()) == {Status.OK}
    assert f"revision {head_revision()}" in verdicts["ledger.migrations"].found


def test_looking_for_a_ledger_makes_none(bare: Settings) -> None:
    verdicts = examine(bare, "ledger", "parts", "work")
    assert states(verdicts) == dict.fromkeys(["ledger.answers", "parts", "work"], Status.FAILED)
    assert "there is none yet" in verdicts["ledger.answers"].found
    assert "chexnode up" in verdicts["ledger.answers"].to_do
    assert "ledger.answers" in verdicts["work"].to_do
    assert not bare.home.exists()


def test_a_ledger_one_revision_behind_is_to_be_upgraded(prepared: Settings) -> None:
    ledger = open_ledger(prepared)
    downgrade(ledger, "-1")
    ledger.close()
    verdicts = examine(prepared, "ledger", "work")
    behind = verdicts["ledger.migrations"]
    assert behind.status == Status.FAILED
    assert f"this software wants {head_revision()}" in behind.found and "chexnode db upgrade" in behind.to_do
    assert verdicts["work"].status == Status.FAILED and "ledger.migrations" in verdicts["work"].to_do


def test_a_ledger_of_newer_software_is_left_to_it(prepared: Settings) -> None:
    ledger = open_ledger(prepared)
    ledger.write(lambda session: session.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    ledger.close()
    newer = examine(prepared, "ledger.migrations")["ledger.migrations"]
    assert newer.status == Status.FAILED
    assert "9999 is newer than this software" in newer.found and "Install the newer CheXNode" in newer.to_do


def test_a_database_that_does_not_wait_for_the_disk_is_a_warning(prepared: Settings, mode: Mode) -> None:
    if mode.name == "embedded":
        durable = examine(prepared, "ledger.durability")["ledger.durability"]
        assert durable.status == Status.OK and "synchronous=FULL" in durable.found
        return
    ledger = open_ledger(prepared)
    name = make_url(prepared.ledger_url).database
    ledger.write(lambda session: session.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off")))
    ledger.close()
    weak = examine(prepared, "ledger.durability")["ledger.durability"]
    assert weak.status == Status.WARNING
    assert "synchronous_commit=off" in weak.found and "a power cut can lose" in weak.found
    assert "Switch on synchronous_commit" in weak.to_do


def test_a_database_server_that_is_down_or_hangs_is_named_without_its_password(bare: Settings) -> None:
    with silent_port() as silent:
        for port in (free_port(), silent):
            bare.ledger_url = f"postgresql+psycopg2://chexnode:geheim@127.0.0.1:{port}/ledger"
            started = time.monotonic()
            verdicts = examine(bare, "ledger", "parts")
            assert time.monotonic() - started < 20
            answers = verdicts["ledger.answers"]
            assert answers.status == verdicts["parts"].status == Status.FAILED
            assert f"chexnode:***@127.0.0.1:{port}/ledger does not answer" in answers.found
            assert "Check that the database server runs" in answers.to_do
            assert "geheim" not in str(verdicts)


def test_a_database_that_is_none_of_ours_is_named(bare: Settings) -> None:
    bare.ledger_url = "mysql://u:geheim@db/c"
    answers = examine(bare, "ledger")["ledger.answers"]
    assert answers.status == Status.FAILED
    assert "postgresql+psycopg2://" in answers.to_do and "geheim" not in str(answers)


def test_only_the_missing_parts_are_missed(prepared: Settings) -> None:
    prepared.destinations = [FolderDestination(name="out", path=prepared.home / "out")]
    none = examine(prepared, "parts")
    assert none["parts.worker"].to_do == none["parts.node"].to_do == "Run chexnode up."
    ledger = open_ledger(prepared)
    with present(ledger, "node"):
        verdicts = examine(prepared, "parts")
    ledger.close()
    assert verdicts["parts.node"].status == Status.OK
    worker = verdicts["parts.worker"]
    assert worker.status == Status.FAILED
    assert "nothing is analysed" in worker.found and "Run chexnode worker" in worker.to_do
    assert verdicts["parts.delivery"].status == Status.FAILED
    assert verdicts["parts.page"].status == Status.WARNING
    prepared.destinations = []
    assert "parts.delivery" not in examine(prepared, "parts")


def test_parts_that_started_before_the_settings_changed_are_named(
    prepared: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = prepared.home / "chexnode.toml"
    monkeypatch.setenv("CHEXNODE_SETTINGS", str(path))
    ledger = open_ledger(prepared)
    path.touch()
    # Plainly before and after: file times are coarse, and a database server has a clock of its own.
    before, after = time.time() - 60, time.time() + 60
    with present(ledger, "node"):
        os.utime(path, (before, before))
        assert examine(prepared, "parts.settings")["parts.settings"].status == Status.OK
        os.utime(path, (after, after))
        verdict = examine(prepared, "parts.settings")["parts.settings"]
    ledger.close()
    assert verdict.status == Status.WARNING
    assert "after node had started" in verdict.found and "Restart" in verdict.to_do


@pytest.mark.parametrize(
    ("values", "name", "found", "to_do"),
    [
        ({}, "work.waiting", "1 analysis, the oldest for 9 min", "parts.worker"),
        (
            {"state": WorkState.LEASED, "due_at": now() - 9999, "lease_expires_at": now() - 590},
            "work.waiting",
            "1 analysis, the oldest for 9 min",
            "parts.worker",
        ),
        ({"attempts": 2}, "work.retried", "1 analysis", "chexnode db status"),
        ({"state": WorkState.FAILED}, "work.given-up", "1 analysis", "chexnode db retry"),
    ],
)
def test_work_that_does_not_get_done_is_counted(
    prepared: Settings, values: dict[str, Any], name: str, found: str, to_do: str
) -> None:
    fixed = {"pixel_digest": "p", "bundle_digest": "b", "file_sha256": "f", "error": "ValueError: Name DOE^JOHN"}
    row = Inference(**{"due_at": now() - 590, "created_at": now() - 590, **fixed, **values})
    ledger = open_ledger(prepared)
    ledger.write(lambda session: session.add(row))
    ledger.close()
    verdicts = examine(prepared, "work")
    assert verdicts[name].status == Status.WARNING
    assert found in verdicts[name].found and to_do in verdicts[name].to_do
    # Reasons may hold what a header holds.
    assert "DOE" not in str(verdicts)


def test_a_study_that_waits_for_its_result_is_counted(prepared: Settings) -> None:
    late = now() - 7300
    study = Study(
        study_instance_uid="2.25.1", first_received_at=late, last_received_at=late, result_due_at=late, changed_at=late
    )
    result = Result(
        study=study, bundle_digest="b", bundle_name="b", version=1, state=WorkState.DONE, due_at=late, created_at=late
    )
    ledger = open_ledger(prepared)
    ledger.write(lambda session: session.add_all([study, result]))
    ledger.close()
    waiting = examine(prepared, "work.waiting")["work.waiting"]
    assert waiting.status == Status.WARNING and "1 study without a result, the oldest for 2 h" in waiting.found
