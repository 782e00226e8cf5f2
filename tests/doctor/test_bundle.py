"""What the doctor says of the active model bundles, without importing anything of a worker."""

import importlib.util
import subprocess
import sys

import pytest
from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from node.bundles.activation import provide_shipped
from node.bundles.files import bundle_path
from node.bundles.registry import active_bundles
from node.doctor.verdict import Status
from node.ledger.database import upgrade
from node.ledger.ledger import now, open_ledger
from schemas.settings import Settings
from schemas.tables import Bundle, Process, ServedBundle
from tests.doctor.examining import examine, states
from tests.node.bundles import activated, retired


def test_before_the_first_start_the_shipped_bundle_is_examined(bare: Settings) -> None:
    verdicts = examine(bare, "bundle")
    assert "the shipped one" in verdicts["bundle.active"].found
    assert states(verdicts) == {
        "bundle.active": Status.OK,
        "bundle.files": Status.OK,
        "bundle.self-test": Status.OK,
        "bundle.clearance": Status.WARNING,
    }
    assert "not for clinical use" in verdicts["bundle.clearance"].found


def test_a_registered_bundle_with_a_damaged_weight_does_not_pass(bare: Settings) -> None:
    ledger = open_ledger(bare)
    upgrade(ledger)
    provide_shipped(ledger, bare)
    with ledger.read() as session:
        (active,) = active_bundles(session)
    ledger.close()
    weights = bundle_path(bare.home, active.digest) / "backbone.safetensors"
    whole = weights.read_bytes()
    weights.unlink()  # not the file that the registry may share with the package
    weights.write_bytes(whole[:-1000])
    verdicts = examine(bare, "bundle")
    assert f"{active.manifest.name} {active.manifest.version}" in verdicts["bundle.active"].found
    assert verdicts["bundle.files"].status == Status.FAILED
    assert "chexnode bundle activate FOLDER" in verdicts["bundle.files"].to_do
    assert verdicts["bundle.self-test"].status == Status.FAILED
    assert "backbone.safetensors cannot be read" in verdicts["bundle.self-test"].found
    assert "Fetch the bundle again" in verdicts["bundle.self-test"].to_do
    assert verdicts["bundle.served"].status == Status.SKIPPED  # no worker runs


def test_of_several_bundles_each_is_named_with_who_serves_it_and_why_not(prepared: Settings) -> None:
    ledger = open_ledger(prepared)
    tubes, findings = activated(ledger, "tubes"), activated(ledger, "findings")

    def arrange(session: Session) -> None:
        for host in ("one", "two"):
            worker = Process(role="worker", host=host, process_id=7, started_at=now(), seen_at=now())
            session.add(worker)
            session.flush()
            why = "The self-test differs." if host == "two" else ""
            for digest, error in ((tubes, ""), (findings, why)):
                engines = "" if error else "torch float32 on cpu"
                row = {"bundle_digest": digest, "engines": engines, "error": error, "since": now()}
                session.add(ServedBundle(process_id=worker.id, **row))

    ledger.write(arrange)
    verdicts = examine(prepared, "bundle")
    assert "findings 1" in verdicts["bundle.active"].found and "tubes 1" in verdicts["bundle.active"].found
    assert verdicts["bundle.files"].status == Status.FAILED  # these two have none
    served = verdicts["bundle.served"]
    assert served.status == Status.WARNING
    assert "tubes 1: served by process 7 on one (torch float32 on cpu), process 7 on two" in served.found
    assert "not by every worker" in served.found and "process 7 on two: The self-test differs." in served.found
    assert "chexnode bundle rollback" in served.to_do
    ledger.write(lambda session: session.execute(update(ServedBundle).values(engines="", error="It does not load.")))
    assert examine(prepared, "bundle")["bundle.served"].status == Status.FAILED
    ledger.write(lambda session: session.execute(delete(ServedBundle)))
    assert "activated just now" in examine(prepared, "bundle")["bundle.served"].found
    ledger.write(lambda session: session.execute(update(Bundle).values(activated_at=now() - 3600)))
    assert "no worker serves it" in examine(prepared, "bundle")["bundle.served"].found
    for name in ("tubes", "findings"):
        retired(ledger, name)
    verdicts = examine(prepared, "bundle")
    assert states(verdicts) == {"bundle.active": Status.FAILED}
    assert "nothing is analysed" in verdicts["bundle.active"].found
    ledger.close()


def test_a_receiver_host_without_torch_leaves_the_self_test_out(
    bare: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    verdict = examine(bare, "bundle.self-test")["bundle.self-test"]
    assert verdict.status == Status.SKIPPED
    assert "not installed on this host (torch)" in verdict.found


def test_a_self_test_that_hangs_is_given_up(bare: Settings) -> None:
    bare.worker.engine_start_seconds = 0.01
    verdict = examine(bare, "bundle.self-test")["bundle.self-test"]
    assert verdict.status == Status.FAILED and "worker.engine_start_seconds" in verdict.found


def test_the_doctor_itself_needs_no_torch() -> None:
    code = "import sys, node.doctor.command, node.page.checks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
