"""The real peers that tests run against, each a process with its own folder and port on this host."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg2
import pytest
import redis

from node.delivery.orthanc import TimedOrthanc
from node.local_orthanc import find_orthanc, orthanc_part, wait_alive
from tests.support.processes import Running, free_port, wait_for


def require(program: str) -> str:
    """Path of a Debian program that `make test` installs; skips the test with the reason where it is absent."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed (make test installs it)")
    return found


class Orthanc:
    """A fresh Orthanc."""

    def __init__(self, folder: Path) -> None:
        executable = find_orthanc()
        if executable is None:
            pytest.skip("Orthanc is not installed (make test installs it)")
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._part = orthanc_part(executable, folder, self.port)
        self.client = TimedOrthanc(self.url, None, None, 10.0)
        self.start()

    def start(self) -> None:
        self._running = Running(self._part.command, self.folder / "orthanc.log")
        assert wait_alive(self.url, 20), self._running.output

    def stop(self) -> None:
        self._running.stop()


class Postgres:
    """A private PostgreSQL cluster; one database per `database()`."""

    def __init__(self, folder: Path) -> None:
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not binaries:
            pytest.skip("PostgreSQL is not installed (make test installs it)")
        binary = binaries[-1].parent
        # The server runs as a user of its own, and every pytest that starts closes the folder of temporary folders to
        # all others: the data lie elsewhere.
        self._data = data = Path(tempfile.mkdtemp(prefix="chexnode-postgres-", dir=os.environ.get("TMPDIR", "/tmp")))
        shutil.chown(data, "postgres", "postgres")
        self.port = free_port()
        # The server refuses to run as root.
        as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        subprocess.run(
            [*as_postgres, binary / "initdb", "-D", data, "-A", "trust", "-U", "chexnode", "--no-sync"],
            check=True,
            capture_output=True,
            cwd="/",
        )
        server: list[str | Path] = [*as_postgres, binary / "postgres", "-D", data]
        self._command = [*server, "-p", str(self.port), "-k", "", "-h", "127.0.0.1"]
        self._log = folder / "postgres.log"
        self.start()
        self._databases = 0

    def start(self) -> None:
        self._running = Running(self._command, self._log)
        wait_for("PostgreSQL answers", self._answers)

    def halt(self) -> None:
        """Stop the server and keep its data; `start` goes on."""
        # SIGINT is its fast shutdown; SIGTERM would wait for every connection to be closed.
        self._running.process.send_signal(signal.SIGINT)
        # It writes down every database of the run first: a busy disk takes its time.
        self._running.process.wait(120)
        self._running.stop()

    def _answers(self) -> bool:
        try:
            psycopg2.connect(host="127.0.0.1", port=self.port, user="chexnode", dbname="postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    def database(self, template: str = "template1") -> str:
        """SQLAlchemy URL of a new database, empty or a copy of the one with the URL `template`."""
        self._databases += 1
        name = f"ledger{self._databases}"
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user="chexnode", dbname="postgres")
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name} TEMPLATE {template.rpartition('/')[2]}")
        connection.close()
        return f"postgresql+psycopg2://chexnode@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        self.halt()
        shutil.rmtree(self._data)


class Redis:
    """A Redis server without persistence; one database number per `database()`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        command = [require("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._command = [*command, "--dir", str(folder)]
        self._log = folder / "redis.log"
        self.start()
        self._databases = 0

    def start(self) -> None:
        """Start it, empty."""
        self._running = Running(self._command, self._log)
        wait_for("Redis answers", self._answers)

    def _answers(self) -> bool:
        try:
            return bool(redis.Redis(port=self.port).ping())
        except redis.ConnectionError:
            return False

    def database(self) -> str:
        """Broker URL of a new, empty database."""
        number = self._databases
        self._databases += 1
        return f"redis://127.0.0.1:{self.port}/{number % 16}"

    def stop(self) -> None:
        self._running.stop()


class RabbitMq:
    """A RabbitMQ server with a name service (epmd) of its own."""

    def __init__(self, folder: Path) -> None:
        programs = sorted(Path("/usr/lib/rabbitmq/bin").glob("rabbitmq-server"))
        if not programs:
            pytest.skip("RabbitMQ is not installed (make test installs it)")
        self.port, distribution, self._name_port = free_port(), free_port(), free_port()
        configuration = folder / "rabbitmq.conf"
        configuration.write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "disk_free_limit.absolute = 1MB\n"  # how full the host's disk is shall fail no test
        )
        environment = {
            "HOME": str(folder),  # of the cookie
            "ERL_EPMD_PORT": str(self._name_port),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            # Schedulers that wait in a loop would take the cores from the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +S 1:1",
        }
        self._running = Running(programs, folder / "rabbitmq.log", environment)
        wait_for("RabbitMQ answers", self._answers, 120)

    def _answers(self) -> bool:
        assert self._running.alive, self._running.output
        return "Starting broker... completed" in self._running.output

    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def stop(self) -> None:
        self._running.stop()
        environment = {**os.environ, "ERL_EPMD_PORT": str(self._name_port)}
        subprocess.run(["epmd", "-kill"], env=environment, check=False, capture_output=True)
