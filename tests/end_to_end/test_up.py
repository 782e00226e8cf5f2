"""`chexnode up` as its users run it: parts that die come back, and after a kill -9 of everything it starts again."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.monitoring.presence import present_processes
from tests.support.live_node import LiveNode
from tests.support.phantoms import write_phantom
from tests.support.processes import Running, wait_for

_ROLES = {"node", "page", "worker", "delivery"}


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveNode]:
    destination = f'[[destinations]]\nname = "out"\nkind = "folder"\npath = "{tmp_path / "out"}"\n'
    node = LiveNode(tmp_path / "home", "", "", destination)
    yield node
    node.stop()


def up(live: LiveNode) -> Running:
    return live.launch([sys.executable, "-m", "schemas.command_line", "up"], "up")


def process_ids(live: LiveNode) -> dict[str, int]:
    """Process of each role that is present."""
    with live.ledger.read() as session:
        return {each.role: each.process_id for each in present_processes(session)}


def test_it_heals_and_starts_again_after_kill_9_of_everything(live: LiveNode, tmp_path: Path) -> None:
    first = up(live)
    wait_for("all parts are there", lambda: set(process_ids(live)) == _ROLES, 60)
    before = process_ids(live)

    os.kill(before["worker"], signal.SIGKILL)
    sent = write_phantom(tmp_path / "a.dcm", seed=51)
    assert live.send(tmp_path / "a.dcm")[0].status == 0
    live.wait_delivered(sent.StudyInstanceUID)
    after = process_ids(live)
    assert after["worker"] != before["worker"]
    assert after["node"] == before["node"]

    first.kill()
    wait_for("its parts go with it", lambda: not process_ids(live), 30)
    second = up(live)
    wait_for("all parts are there again", lambda: set(process_ids(live)) == _ROLES, 60)
    sent = write_phantom(tmp_path / "b.dcm", seed=52)
    assert live.send(tmp_path / "b.dcm")[0].status == 0
    live.wait_delivered(sent.StudyInstanceUID)

    third = up(live)
    assert third.process.wait(30) == 1
    assert "in use" in third.output or "Another CheXNode" in third.output
    assert second.alive
    assert second.stop() == 0
    assert not process_ids(live)
