"""Migrations: up, down and up again, on both databases, and the result is what the tables say."""

import threading
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, select, text

import schemas.migrations
from node.ledger.database import current_revision, downgrade, head_revision, upgrade
from node.ledger.ledger import Ledger
from schemas.tables import Base, Inference, Instance, Reception, Result, Study, Tracking
from tests.support.ledger_rows import fill_empty_tables, row_counts


def test_the_migrated_ledger_has_exactly_the_tables_of_the_code(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    assert current_revision(ledger) == head_revision()


def test_down_and_up_again(ledger: Ledger) -> None:
    downgrade(ledger, "base")
    assert set(inspect(ledger.engine).get_table_names()) <= {"alembic_version"}
    upgrade(ledger)
    assert current_revision(ledger) == head_revision()


def test_rows_in_every_table_survive_each_migration_up_and_down(ledger: Ledger) -> None:
    versions = ScriptDirectory(str(Path(schemas.migrations.__file__).parent))
    revisions = [each.revision for each in reversed(list(versions.walk_revisions()))]
    downgrade(ledger, "base")
    for revision in revisions:
        upgrade(ledger, revision)
        fill_empty_tables(ledger)
    upgrade(ledger)
    full = row_counts(ledger)
    assert set(full.values()) == {1}
    for revision in reversed(revisions[:-1]):
        downgrade(ledger, revision)
        assert set(row_counts(ledger).values()) == {1}, f"down to {revision}"
    upgrade(ledger)
    after = row_counts(ledger)
    assert after.keys() == full.keys()
    first = {table for table, rows in after.items() if rows}
    assert {"study", "series", "instance", "reception", "inference", "result", "delivery"} <= first
    with ledger.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_several_processes_may_start_at_once(ledger: Ledger) -> None:
    downgrade(ledger, "base")
    errors: list[Exception] = []

    def start() -> None:
        try:
            upgrade(Ledger(ledger.url))
        except Exception as error:  # noqa: BLE001 - handed to the assertion
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert current_revision(ledger) == head_revision()


def test_what_was_received_before_the_worklist_gets_its_place_when_it_is_recent(ledger: Ledger) -> None:
    downgrade(ledger, "0001")
    at = time.time()
    with ledger.engine.begin() as connection:
        for key, (received, urgency, selected) in enumerate(
            [(at - 3600, "immediate", True), (at - 30 * 86400, "soon", True), (at - 60, None, False)], start=1
        ):
            connection.execute(
                text(
                    "INSERT INTO study (id, study_instance_uid, patient_id, accession_number, first_received_at, "
                    "last_received_at, urgency) VALUES (:id, :uid, 'PAT-7', 'ACC', :at, :at, :urgency)"
                ),
                {"id": key, "uid": f"1.{key}", "at": received, "urgency": urgency},
            )
            connection.execute(
                text("INSERT INTO series (id, study_id, series_instance_uid, modality) VALUES (:id, :id, :uid, 'DX')"),
                {"id": key, "uid": f"2.{key}"},
            )
            connection.execute(
                text(
                    "INSERT INTO instance (id, series_id, sop_instance_uid, sop_class_uid, transfer_syntax_uid, "
                    "file_sha256, dataset_digest, pixel_digest, header_digest, received_at, selected, route_reason, "
                    "route_explanation) VALUES (:id, :id, :uid, '1', '1', 'f', 'd', 'p', 'h', :at, :selected, "
                    ":reason, 'x')"
                ),
                {
                    "id": key,
                    "uid": f"3.{key}",
                    "at": received,
                    "selected": selected,
                    "reason": "selected" if selected else "other_body_part",
                },
            )
            connection.execute(
                text(
                    "INSERT INTO reception (id, sop_instance_uid, file_sha256, dataset_digest, calling_ae_title, "
                    "received_at, outcome, detail) VALUES (:id, :uid, 'f', 'd', 'A', :at, 'new', '')"
                ),
                {"id": key, "uid": f"3.{key}", "at": received},
            )
    upgrade(ledger)
    with ledger.read() as session:
        recent, old, hand = session.scalars(select(Study).order_by(Study.id)).all()
        receptions = session.scalars(select(Reception.study_instance_uid).order_by(Reception.id)).all()
    assert recent.due_at == pytest.approx(at - 3600 + 15 * 60)
    assert (old.due_at, old.waiting_since, hand.due_at, hand.urgency) == (None, None, None, "routine")
    assert recent.search_text == "pat-7 acc"
    assert receptions == ["1.1", "1.2", "1.3"]
    downgrade(ledger, "0001")
    with ledger.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM instance")).scalar() == 3
    upgrade(ledger)


def test_results_of_several_digests_become_versions_of_the_one_bundle_that_there_was(ledger: Ledger) -> None:
    downgrade(ledger, "0002")
    with ledger.engine.begin() as connection:
        for statement in (
            "INSERT INTO study (id, study_instance_uid, patient_id, accession_number, patient_name, "
            "patient_birth_date, patient_sex, study_description, study_date_time, search_text, "
            "first_received_at, last_received_at, order_priority, "
            "urgency, read_state, reopened_reason, opened_by, read_by, changed_at) VALUES "
            "(1, '1.1', '', '', '', '', '', '', '', '', 0, 0, 'routine', 'routine', 'new', '', '', '', 0)",
            "INSERT INTO series (id, study_id, series_instance_uid, modality) VALUES (1, 1, '2.1', 'DX')",
            "INSERT INTO instance (id, series_id, sop_instance_uid, sop_class_uid, transfer_syntax_uid, file_sha256, "
            "dataset_digest, pixel_digest, header_digest, received_at, selected, route_reason, route_explanation, "
            "order_priority) VALUES (1, 1, '3.1', '1', '1', 'f', 'd', 'p', 'h', 0, :yes, 'selected', '', 'routine')",
            "INSERT INTO inference (id, pixel_digest, bundle_digest, file_sha256, engine_device, state, due_at, "
            "priority, attempts, error, created_at) VALUES (1, 'p', 'old', 'f', 'cpu', 'done', 0, 1, 1, '', 0)",
            "INSERT INTO tracking (id, instance_id, key, tracking_uid) VALUES (1, 1, 'nodule', '4.1')",
        ):
            connection.execute(text(statement), {"yes": True} if ":yes" in statement else {})
        for key, (digest, version, current) in enumerate(
            [("old", 1, False), ("old", 2, True), ("new", 1, True), ("newest", 1, False)], start=1
        ):
            connection.execute(
                text(
                    "INSERT INTO result (id, study_id, bundle_digest, version, current, state, due_at, priority, "
                    "attempts, error, created_at) VALUES (:id, 1, :digest, :version, :current, 'done', 0, 1, 1, '', 0)"
                ),
                {"id": key, "digest": digest, "version": version, "current": current},
            )
    upgrade(ledger)
    with ledger.read() as session:
        results = session.scalars(select(Result).order_by(Result.id)).all()
        assert [(each.version, each.current) for each in results] == [(1, False), (2, False), (3, True), (4, False)]
        assert {each.bundle_name for each in results} == {"chexnode-phantom"}
        assert session.scalars(select(Instance.view)).one() == "frontal"
        assert session.scalars(select(Inference.engine_name)).one() == "torch"
        assert session.scalars(select(Tracking.bundle_name)).one() == "chexnode-phantom"
    _track_two_bundles(ledger)
    downgrade(ledger, "0002")
    with ledger.engine.connect() as connection:
        kept = connection.execute(text("SELECT key, tracking_uid FROM tracking ORDER BY key")).all()
    assert [tuple(each) for each in kept] == [("mass", "4.4"), ("nodule", "4.1")]
    upgrade(ledger)


def _track_two_bundles(ledger: Ledger) -> None:
    tracked = [("a", "nodule", "4.2"), ("b", "nodule", "4.3"), ("b", "mass", "4.4"), ("a", "mass", "4.5")]
    # From 2: number 1 was given to the row that was there.
    rows = [
        Tracking(id=number, instance_id=1, bundle_name=name, key=key, tracking_uid=uid)
        for number, (name, key, uid) in enumerate(tracked, start=2)
    ]
    ledger.write(lambda session: session.add_all(rows))
