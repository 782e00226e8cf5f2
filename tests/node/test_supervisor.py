"""A part that the node does not need is tried again and takes nothing down; one that it needs ends it with its log."""

import sys
import time
from pathlib import Path

import pytest

from node.supervisor import Part, PartFailedError, Supervisor
from tests.support.processes import wait_for

LASTING = [sys.executable, "-c", "import time; time.sleep(600)"]


def failing(folder: Path, *, needed: bool) -> Part:
    """Each start leaves a line."""
    return Part("failing", ["sh", "-c", f"echo started >> {folder}/starts; echo no luck; exit 3"], needed)


def test_a_part_that_is_not_needed_takes_nothing_down(tmp_path: Path) -> None:
    part, lasting = failing(tmp_path, needed=False), Part("lasting", LASTING)
    supervisor = Supervisor([lasting, part], tmp_path)
    supervisor.start()
    try:

        def started_often() -> bool:
            supervisor.check()
            # Each wait is twice as long as the one before.
            part.not_before = min(part.not_before, time.monotonic())
            return (tmp_path / "starts").exists() and len((tmp_path / "starts").read_text().split()) >= 6

        wait_for("it is tried again", started_often)
        assert lasting.process is not None and lasting.process.poll() is None
    finally:
        supervisor.stop()


def test_a_part_that_is_needed_ends_the_node_with_the_reason(tmp_path: Path) -> None:
    part = failing(tmp_path, needed=True)
    supervisor = Supervisor([part], tmp_path)
    supervisor.start()

    def check() -> None:
        supervisor.check()
        part.not_before = min(part.not_before, time.monotonic())

    with pytest.raises(PartFailedError, match="no luck"):
        wait_for("it is given up", check)
    supervisor.stop()
