"""The alerts: each state that somebody has to know of is told while it is there, and not after."""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from node.ledger.database import downgrade, upgrade
from node.ledger.ledger import now
from node.monitoring.alerts import AlertName, examine
from node.monitoring.health import health_command, readiness
from node.monitoring.presence import present
from schemas.change_tables import Contradiction, Quarantined
from schemas.destination_tables import Breaker, DestinationState
from schemas.settings import AlertSettings, Settings, StorageSettings, StoreSettings
from schemas.tables import (
    Commitment,
    Delivery,
    DeliveryState,
    Outcome,
    Process,
    Reception,
    Result,
    ServedBundle,
    StoredObject,
    Study,
    WorkState,
)
from tests.monitoring.conftest import Watched
from tests.node.bundles import activated
from tests.node.studies import add_study, bundle_digest, document
from tests.node.studies import commit_result as commit


def running(watched: Watched, *roles: str) -> ExitStack:
    """These parts show signs of life until the end of the block."""
    stack = ExitStack()
    for role in roles:
        stack.enter_context(present(watched.ledger, role))
    return stack


def add_delivery(watched: Watched, state: DeliveryState, commitment: Commitment = Commitment.NOT_WANTED) -> None:
    add_study(watched.ledger, "1.2.3")
    commit(watched.ledger, document("1.2.3", None, set()))

    def change(session: Session) -> None:
        result = session.scalars(select(Result)).one()
        stored = StoredObject(
            result_id=result.id, kind="report", sop_instance_uid="1.2.3.4", series_instance_uid="1.2.3.5"
        )
        session.add(stored)
        session.flush()
        session.add(
            Delivery(
                object_id=stored.id, result_id=result.id, destination="pacs", rank=0, state=state,
                commitment=commitment, due_at=now(), created_at=now(),
            )
        )  # fmt: skip

    watched.ledger.write(change)


def test_a_node_of_which_every_part_runs_is_ready_and_has_no_alert(watched: Watched) -> None:
    with running(watched, "node", "worker", "delivery"):
        activated(watched.ledger, "test")
        serve(watched)
        situation = examine(watched.settings)
    assert [each for each in situation.alerts if each.name != AlertName.DISK_LOW] == []
    assert readiness(situation).ready


def serve(watched: Watched) -> None:
    def change(session: Session) -> None:
        worker = session.scalars(select(Process.id).where(Process.role == "worker")).one()
        session.add(ServedBundle(process_id=worker, bundle_digest=bundle_digest("test"), engines="cpu", since=now()))

    watched.ledger.write(change)


def test_missing_parts_are_named_and_the_node_is_not_ready(watched: Watched) -> None:
    missing = {AlertName.RECEIVER_DOWN, AlertName.WORKER_DOWN, AlertName.DELIVERY_DOWN}
    situation = examine(watched.settings)
    assert missing <= {each.name for each in situation.alerts}
    assert readiness(situation).stopped_by == sorted([*missing, AlertName.BUNDLE_NOT_SERVED])
    with running(watched, "node", "worker", "delivery"):
        assert not missing & watched.names()
    # One that was killed says nothing any more: it is missed after a while.
    with running(watched, "node"):
        watched.ledger.write(lambda session: session.execute(update(Process).values(seen_at=now() - 60)))
        assert AlertName.RECEIVER_DOWN in watched.names()


def test_without_a_delivery_worker_all_is_well_where_there_is_nothing_to_deliver_to(watched: Watched) -> None:
    alone = watched.settings.model_copy(update={"destinations": []})
    assert AlertName.DELIVERY_DOWN not in {each.name for each in examine(alone).alerts}


def test_an_active_bundle_that_no_worker_serves_is_told(watched: Watched) -> None:
    with running(watched, "worker"):
        activated(watched.ledger, "test")
        (alert,) = (each for each in watched.alerts() if each.name == AlertName.BUNDLE_NOT_SERVED)
        assert alert.subject == "test"
        serve(watched)
        assert AlertName.BUNDLE_NOT_SERVED not in watched.names()


def test_a_ledger_that_does_not_answer_is_told_and_nothing_is_guessed(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, ledger_url="postgresql+psycopg2://chexnode@127.0.0.1:1/none")
    situation = examine(settings)
    assert situation.figures is None
    assert AlertName.LEDGER_DOWN in {each.name for each in situation.alerts}
    assert AlertName.RECEIVER_DOWN not in {each.name for each in situation.alerts}


def test_a_ledger_of_another_version_is_told(watched: Watched) -> None:
    downgrade(watched.ledger, "0007")
    try:
        assert AlertName.LEDGER_REVISION in watched.names()
    finally:
        upgrade(watched.ledger)


def test_a_broker_that_does_not_answer_is_told(watched: Watched) -> None:
    assert AlertName.BROKER_DOWN not in watched.names()
    without = watched.settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})
    assert AlertName.BROKER_DOWN in {each.name for each in examine(without).alerts}


def test_an_object_store_of_another_host_that_does_not_answer_is_told(watched: Watched) -> None:
    update = {"store_urls": ["http://127.0.0.1:1"], "store": StoreSettings(secret=SecretStr("s" * 32))}
    alerts = examine(watched.settings.model_copy(update=update)).alerts
    assert [each.subject for each in alerts if each.name == AlertName.STORE_DOWN] == ["127.0.0.1:1"]


def test_a_disk_is_full_below_the_watermark(watched: Watched) -> None:
    def with_least(least: int) -> set[AlertName]:
        storage = StorageSettings(minimum_free_bytes=least)
        alerts = examine(watched.settings.model_copy(update={"storage": storage})).alerts
        return {each.name for each in alerts} & {AlertName.DISK_FULL, AlertName.DISK_LOW}

    assert with_least(1 << 60) == {AlertName.DISK_FULL}
    assert AlertName.DISK_FULL not in with_least(0)


def test_the_disk_of_another_hosts_receiver_is_told_by_what_it_has_measured(watched: Watched) -> None:
    figures = "chexnode_disk_free_bytes 1000.0\nchexnode_disk_size_bytes 1e+12\n"
    watched.ledger.write(
        lambda session: session.add(
            Process(role="node", host="elsewhere", process_id=1, started_at=now(), seen_at=now(), figures=figures)
        )
    )
    settings = watched.settings.model_copy(update={"storage": StorageSettings(minimum_free_bytes=2000)})
    assert "elsewhere" in [each.subject for each in examine(settings).alerts if each.name == AlertName.DISK_FULL]


def test_a_destination_whose_breaker_is_open_is_told_until_it_closes(watched: Watched) -> None:
    def set_breaker(breaker: Breaker) -> None:
        watched.ledger.write(
            lambda session: session.merge(DestinationState(destination="pacs", breaker=breaker, failures=9, error=""))
        )

    set_breaker(Breaker.OPEN)
    (alert,) = (each for each in watched.alerts() if each.name == AlertName.DESTINATION_DOWN)
    assert (alert.subject, alert.stops) == ("pacs", False)
    set_breaker(Breaker.CLOSED)
    assert AlertName.DESTINATION_DOWN not in watched.names()


@pytest.mark.parametrize(
    ("state", "commitment", "told"),
    [
        (DeliveryState.FAILED, Commitment.NOT_WANTED, {AlertName.DEAD_LETTERS}),
        (DeliveryState.DONE, Commitment.FAILED, {AlertName.NOT_COMMITTED}),
        (DeliveryState.DONE, Commitment.COMMITTED, set()),
    ],
)
def test_dead_letters_and_objects_that_are_not_committed_are_told(
    watched: Watched, state: DeliveryState, commitment: Commitment, told: set[AlertName]
) -> None:
    add_delivery(watched, state, commitment)
    assert watched.names() & {AlertName.DEAD_LETTERS, AlertName.NOT_COMMITTED, AlertName.GIVEN_UP} == told


def test_work_that_was_given_up_is_told_by_its_stage(watched: Watched) -> None:
    watched.add_inference(WorkState.FAILED)
    (alert,) = (each for each in watched.alerts() if each.name == AlertName.GIVEN_UP)
    assert alert.subject == "inference"


def test_objects_in_quarantine_are_told(watched: Watched) -> None:
    def change(session: Session) -> None:
        reception = Reception(
            study_instance_uid="1.2", sop_instance_uid="1.3", file_sha256="f", dataset_digest="d",
            calling_ae_title="A", received_at=now(), outcome=Outcome.QUARANTINED,
        )  # fmt: skip
        session.add(
            Quarantined(
                reception=reception, contradiction=Contradiction.OTHER_PATIENT, patient_id="7", pixel_digest="p"
            )
        )

    assert AlertName.QUARANTINE not in watched.names()
    watched.ledger.write(change)
    assert AlertName.QUARANTINE in watched.names()


def test_a_backlog_is_what_has_been_due_for_longer_than_the_settings_say(watched: Watched) -> None:
    watched.add_inference(WorkState.DUE, due_seconds_ago=120)
    assert AlertName.BACKLOG not in watched.names()
    sooner = watched.settings.model_copy(update={"alerts": AlertSettings(backlog_minutes=1)})
    assert [each.subject for each in examine(sooner).alerts if each.name == AlertName.BACKLOG] == ["inference"]
    # A study whose images are computed and whose result nobody plans is one too.
    add_study(watched.ledger, "1.2.3")
    watched.ledger.write(lambda session: session.execute(update(Study).values(result_due_at=now() - 120)))
    subjects = {each.subject for each in examine(sooner).alerts if each.name == AlertName.BACKLOG}
    assert subjects == {"inference", "study"}


def test_clocks_that_differ_are_told(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    assert AlertName.CLOCK not in watched.names()
    true_time = time.time
    monkeypatch.setattr("node.monitoring.alerts.time.time", lambda: true_time() + 60)
    (alert,) = (each for each in watched.alerts() if each.name == AlertName.CLOCK)
    assert "behind" in alert.found


def test_chexnode_health_says_by_its_status_whether_the_node_is_ready(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHEXNODE_HOME", str(watched.settings.home))
    monkeypatch.setenv("CHEXNODE_LEDGER_URL", watched.settings.ledger_url)
    monkeypatch.setenv("CHEXNODE_STORAGE__MINIMUM_FREE_BYTES", "0")
    monkeypatch.delenv("CHEXNODE_SETTINGS", raising=False)
    monkeypatch.chdir(watched.settings.home)
    runner = CliRunner()
    before = runner.invoke(health_command, [])
    assert before.exit_code == 1
    assert "receiver_down" in before.output
    assert runner.invoke(health_command, ["--part", "worker"]).exit_code == 1
    with running(watched, "node", "worker"):
        activated(watched.ledger, "test")
        serve(watched)
        assert runner.invoke(health_command, ["--part", "worker"]).exit_code == 0
        after = runner.invoke(health_command, [])
        assert (after.exit_code, after.output) == (0, "ready\n")
