"""An answer of success is a promise: strace shows that file, folder and ledger are on the disk before it is given."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.launcher import FOLDER, MUTANT
from tests.support.live_node import LiveNode
from tests.support.peers import require
from tests.support.phantoms import write_phantom
from tests.support.processes import Running, wait_for

_CALLS = "trace=fsync,fdatasync,rename,renameat,renameat2,sendto"
#: In this order, each after the one before.
_ORDER = {
    "the file is synced": r"f(data)?sync\(\d+<.*/objects/incoming/",
    "it gets its name": r"rename.*/objects/incoming/.*/objects/../../[0-9a-f]{64}",
    "its folder is synced": r"fsync\(\d+<.*/objects/../..>",
    "the ledger is synced": r"f(data)?sync\(\d+<.*/ledger\.db(-wal)?>",
    # PDU type 04, P-DATA-TF: the first data that this node sends is the C-STORE response.
    "the answer goes out": r"sendto\(\d+<.*>, \"\x04",
}


class BrokenPromise(AssertionError):  # noqa: N818 - reads as what it says
    """The answer came before it could be relied on."""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LiveNode]:
    node = LiveNode(tmp_path / "home", "", "", "")
    yield node
    node.stop()


def check_order(node: LiveNode, folder: Path, mutant: str) -> None:
    """Send an object to a receiver under strace. Raises BrokenPromise."""
    trace = folder / "trace"
    command: list[str | Path] = [require("strace"), "-f", "-y", "-xx", "-s", "8", "-e", _CALLS, "-o", trace]
    environment = {
        "CHEXNODE_SETTINGS": str(node.settings),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        FOLDER: str(folder / "faults"),
        MUTANT: mutant,
    }
    traced = Running([*command, sys.executable, "-m", "tests.faults.launcher", "node"], folder / "log", environment)
    try:

        def listening() -> bool:
            assert traced.alive, traced.output
            return "listening" in traced.output

        wait_for("the traced node listens", listening)
        write_phantom(folder / "a.dcm", seed=31, rows=256, columns=256)
        (sent,) = node.send(folder / "a.dcm")
        assert sent.status == 0
    finally:
        traced.stop()
    text = re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), trace.read_text())
    lines, at = text.split("\n"), -1
    for what, pattern in _ORDER.items():
        at = next((number for number in range(at + 1, len(lines)) if re.search(pattern, lines[number])), len(lines))
        if at == len(lines):
            raise BrokenPromise(f"not in this order: {what}")


def test_the_order_is_file_rename_folder_ledger_and_only_then_the_answer(node: LiveNode, tmp_path: Path) -> None:
    check_order(node, tmp_path, "")


def test_a_ledger_that_does_not_sync_is_found_out(node: LiveNode, tmp_path: Path) -> None:
    with pytest.raises(BrokenPromise):
        check_order(node, tmp_path, "no sync of the ledger")
