"""A node for a measurement, with peers of its own: used by every benchmark that measures the whole."""

import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.live_node import LiveNode, orthanc_destination
from tests.support.peers import Orthanc, Postgres, Redis


@dataclass(frozen=True)
class Measured:
    """What a benchmark works with."""

    node: LiveNode
    #: Empty, for whatever the benchmark writes.
    folder: Path
    #: Where ledger and queue are, in words.
    mode: str


def add_production(parser: ArgumentParser) -> None:
    """The option that every such benchmark has."""
    parser.add_argument("--production", action="store_true", help="PostgreSQL and Redis instead of SQLite and files")


@contextmanager
def measured_node(*, production: bool, orthanc: bool = False) -> Iterator[Measured]:
    """A node whose parts the block starts; with an Orthanc as its destination, or none."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        ledger_url = broker_url = ""
        if production:
            for each in ("postgres", "redis"):
                (folder / each).mkdir()
            postgres, redis_server = Postgres(folder / "postgres"), Redis(folder / "redis")
            for server in (postgres, redis_server):
                stack.callback(server.stop)
            ledger_url, broker_url = postgres.database(), redis_server.database()
        destination = ""
        if orthanc:
            pacs = Orthanc(folder / "orthanc")
            stack.callback(pacs.stop)
            destination = orthanc_destination(pacs.url)
        node = LiveNode(folder / "home", ledger_url, broker_url, destination)
        stack.callback(node.stop)
        (folder / "work").mkdir()
        yield Measured(node, folder / "work", "PostgreSQL + Redis" if production else "SQLite + file-system broker")
