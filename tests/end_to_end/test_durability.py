"""An answer of success is a promise: strace shows that file, folder and ledger are on the disk before it is given."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_node import LiveNode
from tests.support.peers import require
from tests.support.phantoms import write_phantom
from tests.support.processes import wait_for


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LiveNode]:
    node = LiveNode(tmp_path / "home", "", "", "")
    yield node
    node.stop()


def test_the_order_is_file_rename_folder_ledger_and_only_then_the_answer(node: LiveNode, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2,sendto"
    command: list[str | Path] = [require("strace"), "-f", "-y", "-xx", "-s", "8", "-e", calls, "-o", trace]
    traced = node.launch([*command, sys.executable, "-m", "schemas.command_line", "node"], "node")

    def listening() -> bool:
        assert traced.alive, traced.output
        return "listening" in traced.output

    wait_for("the traced node listens", listening)
    write_phantom(tmp_path / "a.dcm", seed=31)
    (status,) = node.send(tmp_path / "a.dcm")
    assert status.status == 0
    traced.stop()

    lines = [re.sub(r"\\x([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), line) for line in trace.read_text().splitlines()]

    def first(pattern: str, after: int = -1) -> int:
        for number, line in enumerate(lines):
            if number > after and re.search(pattern, line):
                return number
        raise AssertionError(f"no {pattern!r} after line {after} of the trace")

    file_synced = first(r"f(data)?sync\(\d+<.*/objects/incoming/.*\.dcm>")
    renamed = first(r"rename.*/objects/incoming/.*/objects/../../[0-9a-f]{64}", file_synced)
    folder_synced = first(r"fsync\(\d+<.*/objects/../..>", renamed)
    ledger_synced = first(r"f(data)?sync\(\d+<.*/ledger\.db(-wal)?>", folder_synced)
    # PDU type 04, P-DATA-TF: the first data that this node sends is the C-STORE response.
    answered = first(r"sendto\(\d+<.*>, \"\x04")
    assert file_synced < renamed < folder_synced < ledger_synced < answered
