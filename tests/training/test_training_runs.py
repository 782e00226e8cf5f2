"""Training runs: planned by the schedule once, made by a worker of their own, taken up again after a kill -9."""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select, update

from node.ledger.ledger import Ledger
from node.up import node_parts
from schemas.errors import SettingsError
from schemas.settings import SETTINGS_VARIABLE, Settings, TrainingSettings
from schemas.tables import Bundle, BundleState, TrainingRun, WorkState
from tests.conftest import Mode
from tests.support.live_node import LiveNode
from tests.support.processes import Running, wait_for
from tests.training.tiny_recipe import TINY_TOML
from training.runs.commands import status_command, submit_command
from training.runs.ledger import plan_scheduled, submit
from training.runs.schedule import latest_moment


@pytest.fixture
def ledger(mode: Mode, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(mode.migrated(tmp_path))
    yield ledger
    ledger.close()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_TOML, encoding="utf-8")
    return path


def run_of(ledger: Ledger) -> TrainingRun:
    with ledger.read() as session:
        return session.scalars(select(TrainingRun)).one()


def test_the_latest_of_several_missed_moments_counts() -> None:
    zone = datetime.now().astimezone().tzinfo
    monday = datetime(2026, 11, 16, 12, 0, tzinfo=zone)
    weekly = "0 2 * * sat"
    assert latest_moment(weekly, monday, monday + timedelta(days=4)) is None
    saturday = datetime(2026, 11, 21, 2, 0, tzinfo=zone)
    assert latest_moment(weekly, monday, saturday) == saturday
    assert latest_moment(weekly, monday, saturday + timedelta(days=20)) == saturday + timedelta(days=14)
    assert latest_moment(weekly, saturday, saturday + timedelta(days=6)) is None


def test_a_moment_of_the_schedule_makes_one_run_and_none_while_it_is_under_way(ledger: Ledger, recipe: Path) -> None:
    settings = TrainingSettings(schedule="* * * * *", recipe=recipe)
    since = datetime.now(UTC).timestamp() - 3600
    planned = [ledger.write(lambda session: plan_scheduled(session, settings, since)) for _ in range(3)]
    assert [each is not None for each in planned] == [True, False, False]
    assert run_of(ledger).title == "tiny 0.0.1"
    ledger.write(lambda session: session.execute(update(TrainingRun).values(state=WorkState.DONE, scheduled_for=since)))
    assert ledger.write(lambda session: plan_scheduled(session, settings, since)) is not None


def test_without_a_schedule_nothing_is_planned(ledger: Ledger) -> None:
    assert ledger.write(lambda session: plan_scheduled(session, TrainingSettings(), 0.0)) is None


def test_a_schedule_that_is_none_is_an_error_of_the_settings(tmp_path: Path) -> None:
    for wrong in ("sometimes", "0 2 * *", "0 25 * * *"):
        with pytest.raises(ValueError, match="five fields of cron"):
            Settings(home=tmp_path, training=TrainingSettings(schedule=wrong))


def test_what_is_no_recipe_is_not_submitted(ledger: Ledger) -> None:
    with pytest.raises(SettingsError, match="steps"):
        ledger.write(lambda session: submit(session, TINY_TOML.replace("steps = 20", "steps = 0"), "mine.toml"))
    with ledger.read() as session:
        assert session.scalar(select(func.count()).select_from(TrainingRun)) == 0


def test_a_run_whose_worker_is_killed_goes_on_and_its_bundle_becomes_a_candidate(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = LiveNode(tmp_path / "home", "", "", "")
    monkeypatch.setenv(SETTINGS_VARIABLE, str(node.settings))
    try:
        node.start("node")
        submitted = CliRunner().invoke(submit_command, [str(recipe)], catch_exceptions=False)
        assert "run 1 (tiny 0.0.1) is due" in submitted.output and "No training worker runs" in submitted.output
        first = _start_worker(node)
        wait_for("the heads are trained", lambda: run_of(node.ledger).stage == "first-look" or None, 120)
        first.kill()
        (examples,) = (node.home / "training" / "stages").glob("examples-*/stage.json")
        made_at = examples.stat().st_mtime_ns
        _start_worker(node)
        wait_for("the run is done", lambda: run_of(node.ledger).state == WorkState.DONE or None, 180)
    finally:
        node.stop()
    run = run_of(node.ledger)
    assert (run.attempts, run.gate_passed, run.error) == (2, True, "")
    assert examples.stat().st_mtime_ns == made_at
    with node.ledger.read() as session:
        bundle = session.scalars(select(Bundle).where(Bundle.name == "tiny")).one()
    assert (bundle.digest, bundle.state) == (run.bundle_digest, BundleState.CANDIDATE)
    assert Path(run.report).is_file()
    shown = CliRunner().invoke(status_command, ["--json"], catch_exceptions=False)
    (listed,) = json.loads(shown.output)
    assert (listed["state"], listed["gate_passed"], listed["bundle_digest"]) == ("done", True, bundle.digest)
    assert "passed" in CliRunner().invoke(status_command, [], catch_exceptions=False).output


def _start_worker(node: LiveNode) -> Running:
    worker = node.launch([sys.executable, "-m", "schemas.command_line", "train", "worker"], "training")
    node.wait_present([worker], ["training"])
    return worker


def test_up_runs_a_training_worker_only_where_the_settings_say_so_and_goes_on_without_it(tmp_path: Path) -> None:
    parts = [
        {
            part.name: part.needed
            for part in node_parts(Settings(home=tmp_path, training=TrainingSettings(enabled=each)))
        }
        for each in (False, True)
    ]
    assert "training" not in parts[0]
    assert parts[1] == {**parts[0], "training": False}
