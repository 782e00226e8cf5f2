"""A campaign against a running receiver: many inputs from several threads, a bystander in between, and the slow ones.

Used by tests/fuzz/test_fuzz.py with some hundred inputs and by benchmarks/fuzz.py with a hundred thousand.
"""

import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from pydicom.uid import generate_uid

from tests.fuzz import wire
from tests.fuzz.connection import HangError, Reached, throw
from tests.fuzz.inputs import CLASSES, Input, make
from tests.support.live_node import LiveNode
from tests.support.phantoms import write_phantom
from tests.support.processes import Running

#: Hostile connections at a time.
_THREADS = 4
#: One good object after so many bad ones.
_BYSTANDER_EVERY = 100
#: What a good sender can bear at most while others misbehave, and how often it tries: on a busy host it may be silent
#: itself for longer than the receiver under test allows.
BYSTANDER_SECONDS = 30.0
_BYSTANDER_TRIES = 5
#: Settings of the receiver under test: senders that say nothing are cut off soon, and objects are small.
SETTINGS = """
[storage]
minimum_free_bytes = 1000000
"""
DICOM_SETTINGS = "network_timeout_seconds = 1.5\nmessage_timeout_seconds = 3.0\nmaximum_object_bytes = 16000000\n"


@dataclass
class Findings:
    """What a campaign counted."""

    inputs: Counter[str] = field(default_factory=Counter)
    reached: dict[str, Counter[Reached]] = field(default_factory=lambda: defaultdict(Counter))
    statuses: Counter[int] = field(default_factory=Counter)
    hangs: list[str] = field(default_factory=list)
    #: Longest time that a good object took, seconds.
    slowest_bystander: float = 0.0
    #: Of the receiver, bytes.
    memory_before: int = 0
    memory_peak: int = 0

    def add(self, other: "Findings") -> None:
        """Take in what a later part of the same campaign found."""
        self.inputs.update(other.inputs)
        for kind, found in other.reached.items():
            self.reached[kind].update(found)
        self.statuses.update(other.statuses)
        self.hangs += other.hangs
        self.slowest_bystander = max(self.slowest_bystander, other.slowest_bystander)
        self.memory_before = self.memory_before or other.memory_before
        self.memory_peak = max(self.memory_peak, other.memory_peak)


class Receiver:
    """A node's receiver alone, which is to be attacked."""

    def __init__(self, folder: Path) -> None:
        self.node = LiveNode(folder / "home", "", "", "", SETTINGS)
        text = self.node.settings.read_text()
        self.node.settings.write_text(text.replace("[dicom]\n", f"[dicom]\n{DICOM_SETTINGS}"))
        self._good = folder / "good.dcm"
        (self.process,) = self.node.start("node")

    @property
    def port(self) -> int:
        return self.node.port

    def serve_bystander(self) -> float:
        """Send a good object and return how long it took. Raises AssertionError when it was not stored."""
        write_phantom(self._good, rows=16, columns=16)
        started = time.monotonic()
        for _ in range(_BYSTANDER_TRIES):
            assert self.process.alive, f"the receiver died:\n{self.process.output[-4000:]}"
            (sent,) = self.node.send(self._good)
            if sent.status is not None:
                break
        assert sent.status == 0, f"a good object was refused: {sent}"
        return time.monotonic() - started

    def memory(self, what: str) -> int:
        """VmRSS (now) or VmHWM (peak), bytes."""
        return memory_of(self.process, what)

    def stop(self) -> None:
        self.node.stop()


def memory_of(running: Running, what: str) -> int:
    """A line of /proc/PID/status, bytes."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith(f"{what}:")]
    return int(line.split()[1]) << 10


def attack(receiver: Receiver, inputs: Sequence[Input]) -> Findings:
    """Throw all of them. Raises AssertionError when the receiver dies or a bystander is not served."""
    findings = Findings()
    receiver.serve_bystander()
    findings.memory_before = receiver.memory("VmRSS")
    lock = threading.Lock()

    def one(each: Input) -> None:
        try:
            thrown = throw(each, receiver.port)
        except HangError as error:
            with lock:
                findings.hangs.append(str(error))
            return
        with lock:
            findings.inputs[each.kind] += 1
            findings.reached[each.kind][thrown.reached] += 1
            findings.statuses.update(thrown.statuses)

    waiting = iter(inputs)
    with ThreadPoolExecutor(_THREADS) as pool:
        while some := list(islice(waiting, _BYSTANDER_EVERY)):
            futures = [pool.submit(one, each) for each in some]
            findings.slowest_bystander = max(findings.slowest_bystander, receiver.serve_bystander())
            for future in futures:
                future.result()
    receiver.serve_bystander()
    findings.memory_peak = receiver.memory("VmHWM")
    return findings


def spread(count: int, seed: int = 0, start: int = 0) -> list[Input]:
    """`count` inputs over all classes in turn, from this seed on, leaving out the first `start`."""
    kinds = list(CLASSES)
    return [make(kinds[number % len(kinds)], seed + number // len(kinds)) for number in range(start, start + count)]


@dataclass(frozen=True)
class Loris:
    """A sender that is slow on purpose."""

    name: str
    #: What it sends at once, before it becomes slow.
    at_once: bytes
    #: What it sends byte by byte; empty: nothing.
    drop_by_drop: bytes


def lorises() -> list[Loris]:
    """One of each kind. Those without an association are cut off by the ARTIM timer, after 30 s."""
    request = wire.associate()
    command = wire.data(3, wire.LAST_COMMAND, wire.command(wire.store_request(generate_uid(prefix=None))))
    return [
        Loris("silent after the association", request, b""),
        Loris("silent after a command", request + command, b""),
        Loris("silent within a PDU", request + wire.pdu(wire.P_DATA_TF, bytes(100), 16000), b""),
        Loris("a PDU drop by drop", request + wire.pdu(wire.P_DATA_TF, b"", 16000), bytes(16000)),
        Loris("a message fragment by fragment", request + command, wire.data(3, wire.DATA, b"") * 1000),
    ]


def cut_off_after(loris: Loris, port: int, seconds: float) -> float:
    """How long the node bears it, seconds. Raises HangError when it is longer than `seconds`."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as peer:
        peer.sendall(loris.at_once)
        peer.settimeout(0.2)
        drops = iter(loris.drop_by_drop)
        while time.monotonic() - started < seconds:
            try:
                if not peer.recv(4096):
                    return time.monotonic() - started
            except TimeoutError:
                pass
            except OSError:
                return time.monotonic() - started
            try:
                if (drop := next(drops, None)) is not None:
                    peer.sendall(bytes([drop]))
            except OSError:
                return time.monotonic() - started
    raise HangError(f"{loris.name}: still connected after {seconds:g} s")
