"""Three receivers side by side for the measurements of reception: CheXNode, Orthanc and DCMTK's storescp."""

import json
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from node.local_orthanc import find_orthanc
from tests.support.live_node import LiveNode
from tests.support.peers import require
from tests.support.processes import Running, free_port, wait_for

CALLED = "CHEXNODE"
CALLING = "TESTSCU"
NAMES = ("CheXNode", "Orthanc", "storescp")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Receiver:
    """A receiver that listens, and its process."""

    name: str
    port: int
    process_id: int

    def cpu_seconds(self) -> float:
        """Of its processes, those that have ended included."""
        return sum(_cpu_seconds(each) for each in _family(self.process_id))

    def peak_bytes(self) -> int:
        """Largest resident sizes of its processes, summed."""
        return sum(_peak_bytes(each) for each in _family(self.process_id))


@contextmanager
def receiving(name: str, pdu: int, *, no_delay: bool) -> Iterator[Receiver]:
    """A fresh receiver with an empty store, that takes PDUs of `pdu` bytes.

    `no_delay` sets DCMTK's variable TCP_NODELAY for it, which Orthanc heeds too.
    """
    environment = {"TCP_NODELAY": "1"} if no_delay else {}
    with tempfile.TemporaryDirectory(prefix="chexnode-benchmark-") as folder:
        start = {"CheXNode": _chexnode, "Orthanc": _orthanc, "storescp": _storescp}[name]
        with start(Path(folder), pdu, environment) as receiver:
            wait_for(f"{name} listens", lambda: _listens(receiver.port))
            yield receiver


@contextmanager
def _chexnode(folder: Path, pdu: int, environment: dict[str, str]) -> Iterator[Receiver]:
    before = dict(os.environ)
    # The sweep as often as a node has it: for tests it is made to come more often.
    os.environ |= {"CHEXNODE_DICOM__MAXIMUM_PDU_BYTES": str(pdu), "CHEXNODE_WORK__SWEEP_SECONDS": "0.5"}
    node = LiveNode(folder / "home", "", "", "")
    try:
        (running,) = node.start("node")
        yield Receiver("CheXNode", node.port, running.process.pid)
    finally:
        node.stop()
        os.environ.clear()
        os.environ |= before


@contextmanager
def _orthanc(folder: Path, pdu: int, environment: dict[str, str]) -> Iterator[Receiver]:
    """Orthanc with its defaults: what it stores is synced."""
    executable = find_orthanc()
    assert executable is not None, "Orthanc is not installed (make test installs it)"
    port = free_port()
    configuration = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "Plugins": [],
        "HttpPort": free_port(),
        "DicomPort": port,
        "DicomAet": CALLED,
        "MaximumPduLength": pdu,
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with _run([executable, folder / "orthanc.json"], folder, environment) as running:
        yield Receiver("Orthanc", port, running.process.pid)


@contextmanager
def _storescp(folder: Path, pdu: int, environment: dict[str, str]) -> Iterator[Receiver]:
    """storescp with a process per association; it syncs nothing."""
    port = free_port()
    (folder / "out").mkdir()
    options = ["--fork", "-aet", CALLED, "-pdu", str(pdu), "-od", str(folder / "out")]
    command = [require("storescp"), *options, str(port)]
    with _run(command, folder, environment) as running:
        yield Receiver("storescp", port, running.process.pid)


@contextmanager
def _run(command: Sequence[str | Path], folder: Path, environment: dict[str, str]) -> Iterator[Running]:
    running = Running(command, folder / "log", environment)
    try:
        yield running
    finally:
        running.stop()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def _family(process_id: int) -> list[int]:
    """The process and all below it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
    family = [process_id]
    for each in family:
        family += [child for child, parent in parents.items() if parent == each]
    return family


def _cpu_seconds(process_id: int) -> float:
    """User and system time, of the process and of its children that were waited for (proc(5))."""
    try:
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS


def _peak_bytes(process_id: int) -> int:
    try:
        lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
