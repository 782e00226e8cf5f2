"""`chexnode doctor` as an administrator and a script run it, on a node in order and on a broken one."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.doctor import checks
from node.doctor.verdict import Judge, Status, Subject, Verdict, failed, ok, things_to_do
from schemas.settings import Settings
from tests.conftest import Mode
from tests.doctor.examining import ConfiguredOrthanc, examine, orthanc, states
from tests.end_to_end.test_commands import run_chexnode
from tests.support.live_node import LiveNode, orthanc_destination
from tests.support.processes import free_port

#: The shipped model is made from simulated radiographs.
_ALWAYS_WARNED = "bundle.clearance"
#: How fast this host is while other tests run, and how full its disk, is nobody's fault.
_HOST = ("disk.space", "disk.store", "ledger.answers")


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredOrthanc]:
    with orthanc(tmp_path_factory.mktemp("doctor-orthanc")) as server:
        yield server


@pytest.fixture(scope="module")
def whole(mode: Mode, peer: ConfiguredOrthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    """Every part of a node, with an Orthanc and a folder as destinations."""
    home = tmp_path_factory.mktemp(f"doctor-{mode.name}")
    destinations = orthanc_destination(peer.url) + f'[[destinations]]\nname = "out"\nkind = "folder"\npath = "{home}"\n'
    node = LiveNode(home, mode.ledger_url(), mode.broker_url(), destinations)
    try:
        node.start("node", "worker", "delivery", "page")
        yield node
    finally:
        node.stop()


def doctor(settings: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit status and verdicts by name."""
    run = run_chexnode("--settings", settings, "doctor", "--json", *arguments)
    assert run.stderr == ""
    document = json.loads(run.stdout)
    assert document["status"] == ("failed" if run.returncode else "ok")
    return run.returncode, {verdict["name"]: verdict for verdict in document["verdicts"]}


def test_a_whole_node_is_well_and_nothing_is_left_behind(whole: LiveNode, peer: ConfiguredOrthanc) -> None:
    status, verdicts = doctor(whole.settings)
    assert status == 0, verdicts
    not_ok = {
        name: verdict["found"]
        for name, verdict in verdicts.items()
        if verdict["status"] != "ok" and not (name in _HOST and verdict["status"] == "warning")
    }
    assert not_ok == {_ALWAYS_WARNED: "not for clinical use"}
    # Every subject gave a verdict on every check.
    assert len(verdicts) == 41
    assert "CHEXNODE_" in verdicts["receiver.echo"]["found"]
    assert "the DICOM receiver listens" in verdicts["ports.dicom"]["found"]
    assert "the worklist page listens" in verdicts["ports.page"]["found"]
    assert "self-test" not in verdicts["bundle.self-test"]["found"]  # "passed, greatest difference ..."
    assert peer.objects() == []


def test_a_part_that_dies_is_missed_at_once(whole: LiveNode) -> None:
    (page,) = [each for each in whole.running if each.log.name == "page.log"]
    page.kill()
    status, verdicts = doctor(whole.settings, "--only", "parts.page", "--only", "ports.page")
    assert status == 0
    assert verdicts["parts.page"]["status"] == "warning" and "chexnode page" in verdicts["parts.page"]["to_do"]
    assert verdicts["ports.page"]["status"] == "ok" and "is free" in verdicts["ports.page"]["found"]


def test_a_broken_node_gives_lines_and_then_what_to_do(tmp_path: Path) -> None:
    settings = tmp_path / "chexnode.toml"
    settings.write_text(
        f'home = "{tmp_path / "home"}"\n[worker]\nengine_start_seconds = 0.01\n'
        f'[[destinations]]\nname = "pacs"\nkind = "orthanc"\nurl = "http://127.0.0.1:{free_port()}"\n'
        'username = "chexnode"\npassword = "geheim"\n'
    )
    run = run_chexnode("--settings", settings, "doctor", environment={"CHEXNODE_DICOM__PORT": str(free_port())})
    assert run.returncode == 1
    lines, _, to_do = run.stdout.partition("What to do")
    assert "failed   ledger.answers" in lines and "failed   destination.pacs.rest" in lines
    assert "failed   bundle.self-test" in lines and "worker.engine_start_seconds" in lines
    assert "Run chexnode up, or chexnode db upgrade." in to_do
    # What is wrong comes before what is only worth knowing.
    assert to_do.index("ledger.answers") < to_do.index("settings.senders")
    assert " failed" in run.stdout.splitlines()[-1] and run.stdout.splitlines()[-1].endswith(" s")
    assert "geheim" not in run.stdout and "Traceback" not in run.stderr


def test_a_check_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    run = run_chexnode("doctor", "--only", "legder", environment={"CHEXNODE_HOME": str(tmp_path / "home")})
    assert run.returncode == 2
    assert "legder" in run.stderr and "ledger.migrations" in run.stderr


def test_what_was_asked_for_builds_on_what_failed(bare: Settings) -> None:
    assert states(examine(bare, "ledger.clock")) == {"ledger.answers": Status.FAILED}


def _subject(name: str, *findings: Any) -> Subject:
    def examine_it(judge: Judge) -> Iterator[Verdict]:
        for number, finding in enumerate(findings):
            yield judge(f"{name}.{number}", finding)

    return Subject(name, tuple(str(number) for number in range(len(findings))), examine_it, 0.3)


def test_a_check_that_breaks_or_hangs_stops_no_other(bare: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise KeyError("geheim is not there")

    hanging = threading.Event()
    three = [
        _subject("first", broken, lambda: ok("goes on")),
        _subject("second", hanging.wait, lambda: ok("never comes")),
        _subject("third", lambda: failed("bad", "mend it"), lambda: failed("bad too", "mend it")),
    ]
    monkeypatch.setattr(checks, "subjects", lambda settings, store=True: three)
    monkeypatch.setattr(checks, "passwords", lambda settings: ["geheim"])
    verdicts = examine(bare)
    hanging.set()
    assert verdicts["first.0"].status == Status.FAILED
    assert "the check itself failed: KeyError: '*** is not there'" in verdicts["first.0"].found
    assert verdicts["first.1"].status == Status.OK
    assert verdicts["second"].status == Status.FAILED and "not done within 0.3 s" in verdicts["second"].found
    assert (Status.FAILED, "mend it", ["third.0", "third.1"]) in things_to_do(list(verdicts.values()))


def test_the_reference_explains_every_check() -> None:
    reference = (Path(checks.__file__).resolve().parents[2] / "docs" / "doctor.md").read_text()
    settings = Settings.model_validate(
        {
            "destinations": [
                {"name": "x", "kind": "orthanc", "url": "http://x"},
                {"name": "y", "kind": "folder", "path": "/y"},
            ]
        }
    )
    for subject in checks.subjects(settings):
        for check in subject.checks:
            name = f"{subject.name}.{check}".replace("destination.x", "destination.NAME")
            assert f"`{name.replace('destination.y', 'destination.NAME')}`" in reference
