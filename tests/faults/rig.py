"""A node to be broken: its parts run under the launcher, its PACS behind the misbehaving one, its home may be full."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import requests
from pydicom import Dataset
from sqlalchemy.exc import SQLAlchemyError

from node.bundles.activation import activate, register
from node.monitoring.presence import present_processes
from tests.doctor.examining import ConfiguredOrthanc
from tests.faults.disk import Disk
from tests.faults.launcher import FOLDER, MUTANT, Orders
from tests.faults.pacs import MisbehavingPacs
from tests.faults.states import Part
from tests.support.bundles import write_tiny_bundle
from tests.support.live_node import LiveNode, orthanc_destination
from tests.support.peers import Postgres, Redis
from tests.support.phantoms import write_phantom
from tests.support.processes import Running, free_port

_ROOT = Path(__file__).resolve().parents[2]
#: The home's file system, where this user may mount one: small, so that it can be filled at once.
_HOME_BYTES = 192 << 20
#: Of a part's log, where something is broken.
_LAST_CHARACTERS = 3000
_SETTINGS = """
[study]
quiet_seconds = 0.3
[storage]
minimum_free_bytes = 1000000
[worker]
device = "cpu"
processes = 1
threads = 2
"""
_WORK = "backoff_seconds = 0.2\nbackoff_maximum_seconds = 0.5\n"
#: Limits of a destination: a breaker that is tried again soon.
_SOON = "probe_seconds = 0.3\ntimeout_seconds = 5\n"
_COMMITS = """
[[destinations]]
name = "commits"
kind = "dicom"
host = "127.0.0.1"
port = {port}
ae_title = "PACS"
commitment = true
commitment_repeat_seconds = 1
"""


@dataclass(frozen=True)
class Servers:
    """What a node of one mode stands on; without PostgreSQL and Redis it is the embedded one."""

    mode: str
    orthanc: ConfiguredOrthanc
    postgres: Postgres | None = None
    redis: Redis | None = None


class _Node(LiveNode):
    """A live node whose parts are started by the launcher."""

    def __init__(self, home: Path, servers: Servers, destinations: str, faults: Path) -> None:
        super().__init__(
            home,
            servers.postgres.database() if servers.postgres else "",
            servers.redis.database() if servers.redis else "",
            destinations,
            _SETTINGS,
        )
        text = self.settings.read_text().replace("[work]\n", f"[work]\n{_WORK}")
        # The PACS reports on storage commitment to our own port.
        self.settings.write_text(text.replace('["TESTSCU"]', '["TESTSCU", "PACS"]'))
        requests.put(f"{servers.orthanc.url}/modalities/node", json=["CHEXNODE", "127.0.0.1", self.port], timeout=10)
        #: The protection that a part lacks, by its name in tests/faults/mutants.py.
        self.mutants: dict[str, str] = {}
        self._faults = faults

    def launch(self, command: Sequence[str | Path], name: str) -> Running:
        environment = {
            "CHEXNODE_SETTINGS": str(self.settings),
            "PYTHONPATH": str(_ROOT),
            "OMP_NUM_THREADS": "1",
            FOLDER: str(self._faults),
            MUTANT: self.mutants.get(name, ""),
        }
        running = Running(command, self.home / f"{name}.log", environment)
        self.running.append(running)
        return running


class Rig:
    """One node, its parts each running once; `close` it.

    Its destinations: "pacs", an Orthanc by STOW-RS behind `self.pacs`; "commits", the same one by C-STORE with storage
    commitment; and "archive", a folder that never fails.
    """

    def __init__(self, folder: Path, servers: Servers) -> None:
        self.servers = servers
        self._stack = ExitStack()
        self.folder = folder
        home = folder / "home"
        home.mkdir(parents=True)
        #: Whether the home is a file system of its own, which can be full.
        self.can_be_full = self._mount(home)
        self.pacs = MisbehavingPacs(servers.orthanc.url, free_port())
        self._stack.callback(self.pacs.close)
        archive = f'[[destinations]]\nname = "archive"\nkind = "folder"\npath = "{folder / "archive"}"\n'
        commits = _COMMITS.format(port=servers.orthanc.dicom_port) + _SOON
        destinations = orthanc_destination(self.pacs.url) + _SOON + commits + archive
        self.node = _Node(home, servers, destinations, folder)
        self._stack.callback(self.node.stop)
        bundle = register(self.node.ledger, home, write_tiny_bundle(folder / "tiny", "tiny", "1"))
        self.node.ledger.write(lambda session: activate(session, bundle))
        self.orders = Orders(folder / "orders")
        self.disk = Disk(home / "objects", folder / "journal")
        self.parts: dict[Part, Running] = {}
        self._files = 0

    def start(self, *parts: Part) -> None:
        """Start parts, at once, and wait until they are there; as their supervisor, again when one does not come up."""
        deadline = time.monotonic() + 300
        started = {part: self._launch(part) for part in parts}
        while started:
            for part, running in list(started.items()):
                if not running.alive:
                    assert time.monotonic() < deadline, running.output[-4000:]
                    started[part] = self._launch(part)
            missing = [part for part, running in started.items() if not self._is_present(part, running)]
            if not missing:
                break
            assert time.monotonic() < deadline, "\n".join(started[part].output[-2000:] for part in missing)
            time.sleep(0.05)
        self.parts |= started

    def mend(self) -> None:
        """Start what is dead."""
        self.start(*(part for part, running in self.parts.items() if not running.alive))

    def replace(self, part: Part, mutant: str = "") -> None:
        """Kill a part and start it without one of its protections, or with all of them again."""
        self.node.mutants[part] = mutant
        self.kill(part)
        self.start(part)

    def frozen(self, part: Part) -> bool:
        """Whether the part has been stopped (SIGSTOP) and is there."""
        status = Path(f"/proc/{self.parts[part].process.pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] == "T"

    def kill(self, *parts: Part) -> None:
        """What a power loss does to processes."""
        for part in parts:
            running = self.parts[part]
            if running.alive:
                os.killpg(running.process.pid, signal.SIGKILL)
            running.process.wait()

    def radiograph(self, study: Dataset | None = None) -> tuple[Path, Dataset]:
        """A new chest radiograph, of which no pixels are known, as a file; of an earlier one's study where given."""
        self._files += 1
        path = self.folder / f"radiograph-{self._files}.dcm"

        def stamp(dataset: Dataset) -> None:
            dataset.PixelData = os.urandom(8) + dataset.PixelData[8:]

        return path, write_phantom(path, seed=1, study=study, change=stamp, rows=300, columns=300)

    def fill(self) -> None:
        """Use every byte of the home's file system."""
        with (self.node.home / "ballast").open("wb", buffering=0) as stream, suppress(OSError):
            while True:
                stream.write(bytes(1 << 16))

    def empty(self) -> None:
        (self.node.home / "ballast").unlink(missing_ok=True)

    def last_words(self) -> str:
        """The end of what each part has logged."""
        return "\n".join(f"{part}: {running.output[-_LAST_CHARACTERS:]}" for part, running in self.parts.items())

    def close(self) -> None:
        self.orders.withdraw()
        self.empty()
        for running in self.parts.values():
            if running.alive:
                running.process.send_signal(signal.SIGCONT)
        self._stack.close()

    def _launch(self, part: Part) -> Running:
        return self.node.launch([sys.executable, "-m", "tests.faults.launcher", part], part)

    def _is_present(self, part: Part, running: Running) -> bool:
        try:
            with self.node.ledger.read() as session:
                there = {(each.role, each.process_id) for each in present_processes(session)}
        except SQLAlchemyError:
            return False
        return (part, running.process.pid) in there

    def _mount(self, home: Path) -> bool:
        mount = shutil.which("mount")
        if mount is None or os.geteuid() != 0:
            return False
        command = [mount, "-t", "tmpfs", "-o", f"size={_HOME_BYTES}", "tmpfs", str(home)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return False
        # Lazily: a process that outlives its parent may still have a file there.
        self._stack.callback(lambda: subprocess.run(["umount", "-l", str(home)], capture_output=True, check=True))
        return True
