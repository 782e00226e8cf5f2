"""`chexnode triage simulate`: a department sees what the order of the worklist gains and costs."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import update

import node.simulation.triage_plot
from node.ledger.ledger import Ledger
from node.simulation.day_profile import day_profile
from node.simulation.reading_history import HistoryError, PastStudy, timed_readings
from node.simulation.triage_command import OverloadError, triage_group
from node.simulation.triage_plot import PlotsMissingError
from schemas.command_line import main
from schemas.result import OrderPriority, Urgency
from schemas.tables import ReadState, Study

QUICK = ["--days", "2", "--replications", "3"]


def simulate(*options: str) -> Result:
    return CliRunner().invoke(triage_group, ["simulate", *options], terminal_width=100)


def document(*options: str) -> Any:
    result = simulate(*options, "--json", "-")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_it_prints_scenario_waiting_times_and_what_they_mean() -> None:
    result = simulate(*QUICK)
    assert result.exit_code == 0, result.output
    for words in (
        "Not for clinical use",
        "stated by chexnode-reference",
        "malpositioned, missed",
        "first come",
        "urgency, bounded",
        "a flagged study waits",
        "95 % confidence interval",
        "3 of 2 days, seed 1",
    ):
        assert words in " ".join(result.output.split())
    assert all(len(line) <= 80 for line in result.output.splitlines())


def test_the_table_fits_a_terminal_of_80_columns_with_days_of_waiting() -> None:
    result = simulate("--weekend-radiologists", "8-12=1,12-8=0", "--radiologists", "8-18=2,18-8=1", "--days", "14")
    assert result.exit_code == 0, result.output
    assert all(len(line) <= 80 for line in result.output.splitlines())
    assert "…" not in result.output
    assert "1440 min" in result.output


def test_a_flag_helps_those_it_finds_and_nobody_is_lost() -> None:
    groups = document("--days", "14", "--replications", "4")["groups"]
    flagged = groups["flagged"]
    assert flagged["urgency"]["mean"]["mean"] < 0.7 * flagged["first_come"]["mean"]["mean"]
    assert flagged["urgency_bounded"]["change"]["mean"] < 0
    for order in ("first_come", "urgency", "urgency_bounded"):
        count = {group: orders[order]["studies"] for group, orders in groups.items()}
        assert count["flagged"] + count["not_flagged"] == count["all"]
        assert (
            count["malpositioned_flagged"] + count["malpositioned_missed"] + count["not_malpositioned"] == count["all"]
        )


def test_the_sensitivity_and_specificity_are_the_bundles_unless_given() -> None:
    scenario = document(*QUICK)["scenario"]
    assert (round(scenario["sensitivity"], 2), round(scenario["specificity_among_tubes"], 2)) == (0.41, 0.95)
    assert "simulated radiographs" in scenario["source_of_the_flags_figures"]
    scenario = document(*QUICK, "--sensitivity", "0.8", "--specificity", "0.95", "--tubes", "1")["scenario"]
    assert scenario["sensitivity"] == 0.8
    assert scenario["specificity_among_all"] == pytest.approx(0.95)
    assert scenario["source_of_the_flags_figures"] == "as given"


def test_the_same_seed_gives_the_same_document() -> None:
    assert document(*QUICK) == document(*QUICK)
    assert document(*QUICK, "--seed", "2") != document(*QUICK)


def test_allowed_waits_are_those_of_the_settings_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHEXNODE_TRIAGE__ALLOWED_MINUTES__ROUTINE", "600")
    allowed = document(*QUICK, "--allowed", "soon=120")["allowed_minutes"]
    assert allowed == {"immediate": 15, "urgent": 60, "soon": 120, "routine": 600}


def test_json_and_plot_are_written(tmp_path: Path) -> None:
    picture, data = tmp_path / "waits.png", tmp_path / "waits.json"
    result = simulate(*QUICK, "--plot", str(picture), "--json", str(data))
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads(data.read_text())["replications"] == 3
    assert simulate(*QUICK, "--plot", str(tmp_path / "waits.svg")).exit_code == 0
    assert "still waiting" in (tmp_path / "waits.svg").read_text()


def test_a_plot_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(node.simulation.triage_plot, "find_spec", lambda name: None)
    error = simulate(*QUICK, "--plot", str(tmp_path / "waits.png")).exception
    assert isinstance(error, PlotsMissingError)
    assert 'pip install "chexnode[plots]"' in str(error)


def test_more_work_than_radiologists_is_refused_with_the_hours_of_both() -> None:
    error = simulate("--arrivals", "60", "--radiologists", "2").exception
    assert isinstance(error, OverloadError)
    assert "399 hours of reading come in a week, and radiologists are there for 336" in str(error)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--arrivals", "8-18=45"], "leaves out what is from 0, 1, 2"),
        (["--arrivals", "0-24=5,8-9=7"], "says twice what is from 8 o'clock on"),
        (["--arrivals", "8:00=45"], "'8:00=45' is not HOUR-HOUR=NUMBER"),
        (["--arrivals", "8-25=45"], "hours are 0 to 24"),
        (["--arrivals", "-1"], "not a number from 0 on"),
        (["--arrivals", "0"], "Something has to come"),
        (["--radiologists", "1.5"], "1.5 is not a whole number"),
        (["--radiologists", "0"], "Somebody has to read"),
        (["--prevalence", "0.2"], "0.2 of the studies cannot have a malpositioned tube where 0.1 have one"),
        (["--sensitivity", "92"], "--sensitivity"),
        (["--allowed", "routine"], "is not immediate, urgent, soon, routine=MINUTES"),
        (["--allowed", "routine=5"], "may not be allowed a longer wait"),
        (["--plot", "waits.gif"], "name a file that ends in .png"),
        (["--json", "no-such-folder/waits.json"], "There is no folder"),
        (["--history", "--prevalence", "0.01"], "--prevalence: with --history the ledger says what came"),
    ],
)
def test_an_option_that_makes_no_sense_is_explained(options: list[str], complaint: str) -> None:
    result = simulate(*options)
    assert result.exit_code == 2
    assert complaint in " ".join(result.output.replace("│", " ").split())


def test_hours_may_run_over_midnight() -> None:
    assert day_profile("22-8=1, 8-22=4") == (1.0,) * 8 + (4.0,) * 14 + (1.0,) * 2
    assert day_profile("2.5") == day_profile("0-24=2.5") == (2.5,) * 24


# The ledger's history.


@pytest.fixture
def history(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ledger:
    monkeypatch.setenv("CHEXNODE_LEDGER_URL", ledger.url)
    monkeypatch.setenv("CHEXNODE_HOME", str(tmp_path))
    return ledger


def list_studies(ledger: Ledger, count: int, read: bool = True) -> None:
    """One every 3 minutes up to now, each fifth flagged; read 40 minutes later, one every 3 minutes, by one reader."""
    begin = time.time() - 3 * 60 * count - 3600

    def add(session: Any) -> None:
        for number in range(count):
            came, flagged = begin + 180 * number, number % 5 == 0
            session.add(
                Study(
                    study_instance_uid=f"1.2.{number}",
                    first_received_at=came,
                    last_received_at=came,
                    changed_at=came,
                    waiting_since=came,
                    malpositioned_tube=None if number == 1 else flagged,
                    urgency=Urgency.IMMEDIATE if flagged else Urgency.ROUTINE,
                    order_priority=OrderPriority.ROUTINE,
                    read_state=ReadState.READ if read else ReadState.NEW,
                    read_at=came + 2400 if read else None,
                    read_by="reader" if read else "",
                )
            )

    ledger.write(add)


def test_the_history_is_replayed_with_the_readings_that_the_ledger_times(history: Ledger) -> None:
    list_studies(history, 50)
    told = document("--history", "--radiologists", "1", "--replications", "3")
    assert told["scenario"] is None
    assert told["history"]["without_result"] == 1
    assert told["history"]["timed_readings"] == 49
    assert told["reading_minutes_median"] == pytest.approx(3.0, abs=0.01)
    assert told["history"]["recorded_minutes"]["flagged"] == pytest.approx([40.0] * 10)
    groups = told["groups"]
    assert groups["flagged"]["first_come"]["studies"] == 10
    assert groups["not_flagged"]["first_come"]["studies"] == 40
    assert "malpositioned_missed" not in groups
    assert groups["flagged"]["urgency_bounded"]["mean"]["mean"] <= groups["flagged"]["first_come"]["mean"]["mean"]
    printed = simulate("--history", "--radiologists", "1", "--replications", "3").output
    assert "as recorded" in printed
    assert "1 without a result" in printed


def test_without_readings_in_the_ledger_the_options_distribution_is_drawn(history: Ledger) -> None:
    list_studies(history, 30, read=False)
    result = simulate("--history", "--radiologists", "1", "--reading-minutes", "4", "--replications", "3")
    assert result.exit_code == 0, result.output
    assert "median 4" in result.output
    assert "the ledger times too few" in result.output
    assert "state yours with --radiologists" not in result.output
    assert "state yours with --radiologists" in simulate("--history", "--replications", "2").output


def test_priors_and_studies_before_the_window_are_left_out(history: Ledger) -> None:
    list_studies(history, 30)

    def age(session: Any) -> None:
        session.execute(
            update(Study).where(Study.study_instance_uid == "1.2.3").values(waiting_since=Study.waiting_since - 9e6)
        )
        session.execute(update(Study).where(Study.study_instance_uid == "1.2.4").values(waiting_since=None))

    history.write(age)
    told = document("--history", "--radiologists", "1", "--replications", "3")
    assert told["groups"]["all"]["first_come"]["studies"] == 28


def test_too_little_history_says_what_is_missing_and_fails(
    history: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    list_studies(history, 3)
    monkeypatch.setattr(sys, "argv", ["chexnode", "triage", "simulate", "--history", "--days", "7"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    message = " ".join(capsys.readouterr().err.split())
    assert (
        "The ledger holds too little history to replay. 3 studies came onto the worklist in the last 7 days" in message
    )
    assert "20 are needed" in message


def test_without_a_ledger_history_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHEXNODE_HOME", str(tmp_path / "none"))
    error = simulate("--history").exception
    assert isinstance(error, HistoryError)
    assert "There is no ledger" in str(error)
    assert not (tmp_path / "none").exists()


def test_only_the_time_of_uninterrupted_work_is_a_reading() -> None:
    def read(waiting_since: float, read_at: float, read_by: str = "a") -> PastStudy:
        return PastStudy(waiting_since, Urgency.ROUTINE, Urgency.ROUTINE, False, read_at, read_at, read_by)

    past = [
        read(0, 600),
        read(0, 720),  # 2 minutes after the one before
        read(0, 720.5),  # marked in one go
        read(700, 900),  # 3 minutes
        read(1000, 1080),  # came when nothing was left to read
        read(0, 700, "b"),  # somebody else
        read(0, 9000),  # after a pause
    ]
    assert timed_readings(past) == pytest.approx([2.0, 179.5 / 60])
