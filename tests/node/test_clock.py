"""The clock is set while work is due: nothing is done twice, and nothing waits for as long as it was set back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.ledger.clock import ClockWatch, pull_back
from node.ledger.ledger import Ledger, now
from schemas.settings import Settings
from schemas.tables import Inference, Process, Study, WorkState

HOURS = 10 * 3600.0

#: A sweep and two workers, with a clock that the test sets in the file that libfaketime reads.
_DAY = """
import json, sys, time
from pathlib import Path
from node.ledger.clock import ClockWatch
from node.ledger.database import upgrade
from node.ledger.leases import claim, complete, fail
from node.ledger.ledger import Ledger, now
from schemas.errors import LeaseLostError
from schemas.settings import Settings
from schemas.tables import Inference
from sqlalchemy import select

clock = Path(sys.argv[1])
ledger = Ledger(sys.argv[2])
settings = Settings(work={"lease_seconds": 1, "backoff_maximum_seconds": 5, "backoff_seconds": 5})
work = settings.work
upgrade(ledger)
watch = ClockWatch(ledger, settings)

def set_clock(text):
    clock.write_text(text)

def take():
    return claim(ledger, Inference, work, 9)

def add(name):
    row = Inference(pixel_digest=name, bundle_digest="b", file_sha256="f", due_at=now(), created_at=now())
    ledger.write(lambda s: s.add(row))

said = {}
watch.look()
add("a")
sleeper = take()
set_clock("+10h")
said["set forward"] = watch.look()
second = take()
said["passed on"] = second is not None and second.row_id == sleeper.row_id
try:
    ledger.write(lambda s: complete(s, sleeper))
    said["sleeper"] = "committed"
except LeaseLostError:
    said["sleeper"] = "thrown away"
fail(ledger, second, work, 9, "try later", retryable=True)
add("b")
dead = None
while dead is None:
    dead = take()
set_clock("+0h")
said["waits"] = take() is None
said["pulled back"] = watch.look()
said["nothing more"] = watch.look()
first = take()
said["due at once"] = first is not None
deadline = time.monotonic() + 30
while (other := take()) is None and time.monotonic() < deadline:
    pass  # libfaketime makes time.sleep fail
said["dead holder's"] = other is not None
print(json.dumps(said))
"""


@pytest.fixture
def faketime() -> str:
    """libfaketime, with which a process sees another time than its host."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed (make test installs it)")
    return str(found[0])


def test_a_clock_that_is_set_forward_and_back_neither_doubles_nor_stops_work(faketime: str, tmp_path: Path) -> None:
    (tmp_path / "clock").write_text("+0h")
    environment = {
        **os.environ,
        "LD_PRELOAD": faketime,
        "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    run = subprocess.run(
        [sys.executable, "-c", _DAY, tmp_path / "clock", f"sqlite:///{tmp_path}/ledger.db"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == {
        "set forward": 0,
        "passed on": True,
        "sleeper": "thrown away",
        "waits": True,
        "pulled back": 2,
        "nothing more": 0,
        "due at once": True,
        "dead holder's": True,
    }


def test_what_a_clock_that_ran_ahead_has_left_is_pulled_back(ledger: Ledger) -> None:
    """As when the node was down when the clock was set: the first look pulls back."""

    def change(session: Session) -> None:
        for name, state, ahead in (("due", WorkState.DUE, HOURS), ("held", WorkState.LEASED, 0), ("soon", "due", 100)):
            row = Inference(pixel_digest=name, bundle_digest="b", file_sha256="f", created_at=now(), state=state)
            row.due_at = now() + ahead
            row.lease_expires_at = now() + HOURS if state == WorkState.LEASED else None
            session.add(row)
        late = now() + HOURS
        session.add(Study(study_instance_uid="1.2", first_received_at=late, last_received_at=late, changed_at=late))
        session.add(Process(role="worker", host="h", process_id=1, started_at=late, seen_at=late))

    ledger.write(change)
    ledger.write(_list_ahead)
    settings = Settings()
    assert ClockWatch(ledger, settings).look() == 5
    with ledger.read() as session:
        at = session.scalar(select(now())) or 0.0
        rows = {row.pixel_digest: row for row in session.scalars(select(Inference))}
        study = session.scalars(select(Study)).one()
        process = session.scalars(select(Process)).one()
    assert rows["due"].due_at <= at
    assert rows["soon"].due_at > at + 90
    assert rows["held"].lease_expires_at is not None
    assert rows["held"].lease_expires_at <= at + settings.work.lease_seconds
    assert study.result_due_at is not None and study.result_due_at <= at
    assert study.waiting_since is not None and study.due_at is not None
    assert study.waiting_since <= at
    assert study.due_at - study.waiting_since == pytest.approx(600, abs=1)
    assert process.seen_at <= at
    assert ledger.write(lambda session: pull_back(session, settings)) == 0


def _list_ahead(session: Session) -> None:
    study = session.scalars(select(Study)).one()
    study.result_due_at = now() + HOURS
    study.waiting_since = now() + HOURS
    study.due_at = now() + HOURS + 600
