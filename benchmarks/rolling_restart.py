"""Rolling restarts under load: `python -m benchmarks.rolling_restart [--minutes 5] [--broker redis|rabbitmq]`.

Two receivers, three inference workers and a delivery worker on PostgreSQL, each with a home of its own and no disk in
common. Studies are sent all the time while every process is restarted in turn, by SIGTERM and every other round by
kill -9. Counts what was accepted, refused at first, lost, doubled and given up, and compares the time from the last
byte to the delivered report with that of the same cluster before the restarts.
"""

import argparse
import itertools
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from node.bundles.activation import activate, register
from node.ledger.ledger import Ledger
from schemas.errors import PeerError
from schemas.tables import Delivery, Inference, Instance, Reception, Result, Series, StoredObject, Study, WorkState
from tests.support.bundles import write_tiny_bundle
from tests.support.cluster import Cluster, Site
from tests.support.peers import Postgres, RabbitMq, Redis
from tests.support.phantoms import write_phantom
from tests.support.processes import wait_for


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="of restarts")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--per-second", type=float, default=1.0, help="studies sent")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        for each in ("postgres", "broker", "cluster", "files"):
            (folder / each).mkdir()
        postgres = Postgres(folder / "postgres")
        stack.callback(postgres.stop)
        broker = RabbitMq(folder / "broker") if arguments.broker == "rabbitmq" else Redis(folder / "broker")
        stack.callback(broker.stop)
        url = broker.url() if isinstance(broker, RabbitMq) else broker.database()
        cluster = Cluster(folder / "cluster", postgres.database(), url, nodes=2, workers=3)
        stack.callback(cluster.stop)
        digest = register(cluster.ledger, cluster.nodes[0].home, write_tiny_bundle(folder / "tiny", "tiny", "1"))
        cluster.ledger.write(lambda session: activate(session, digest))
        cluster.start()
        modality = _Modality(cluster.nodes, folder / "files", arguments.per_second)
        modality.start()
        time.sleep(30)
        quiet = _latencies(cluster.ledger)
        restarts = _restart(cluster, 60 * arguments.minutes)
        modality.stop()
        cluster.wait_present()
        wait_for("everything is delivered", lambda: _finished(cluster.ledger, len(modality.accepted)), 300, every=0.5)
        _print(cluster, modality, restarts, quiet)


class _Modality(threading.Thread):
    """Sends a study at a time; what one receiver does not take goes to the other."""

    def __init__(self, sites: list[Site], folder: Path, per_second: float) -> None:
        super().__init__()
        self._sites = itertools.cycle(sites)
        self._pause = 1 / per_second
        self._folder = folder
        self._stopped = threading.Event()
        self.accepted: set[str] = set()
        self.refused = 0

    def run(self) -> None:
        write_phantom(self._folder / "pattern.dcm", rows=300, columns=300)
        dataset = dcmread(self._folder / "pattern.dcm")
        for number in itertools.count():
            if self._stopped.wait(self._pause):
                return
            path = self._write(dataset, number)
            while not self._send(path):
                self.refused += 1
                time.sleep(0.2)
            self.accepted.add(dataset.SOPInstanceUID)
            path.unlink()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def _write(self, dataset: Dataset, number: int) -> Path:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(dataset, keyword, generate_uid(prefix=None))
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.PixelData = number.to_bytes(4, "little") + dataset.PixelData[4:]
        dataset.save_as(self._folder / f"{number}.dcm")
        return self._folder / f"{number}.dcm"

    def _send(self, path: Path) -> bool:
        try:
            (sent,) = next(self._sites).send(path)
        except PeerError:
            return False
        return sent.accepted


def _restart(cluster: Cluster, seconds: float) -> int:
    """Restart one host after the other for so long; returns how many processes."""
    until, restarts = time.monotonic() + seconds, 0
    for round_number in itertools.count():
        for site in cluster.sites:
            if time.monotonic() > until:
                return restarts
            if round_number % 2:
                for running in site.running:
                    running.kill()
            site.restart()
            restarts += len(site.running)
            cluster.wait_present()
    raise AssertionError("unreachable")


def _finished(ledger: Ledger, studies: int) -> bool:
    with ledger.read() as session:
        waiting = session.scalar(select(func.count()).select_from(Delivery).where(Delivery.state != WorkState.DONE))
        results = session.scalar(select(func.count(Delivery.result_id.distinct()))) or 0
    return not waiting and results >= studies


def _latencies(ledger: Ledger) -> list[float]:
    """From the last byte of an image to the delivery of its report, seconds."""
    query = (
        select(Delivery.finished_at - Instance.received_at)
        .join(StoredObject, Delivery.object_id == StoredObject.id)
        .join(Result, StoredObject.result_id == Result.id)
        .join(Study, Result.study_id == Study.id)
        .join(Series, Series.study_id == Study.id)
        .join(Instance, Instance.series_id == Series.id)
        .where(StoredObject.kind == "report", Delivery.state == WorkState.DONE)
        .order_by(Delivery.id)
    )
    with ledger.read() as session:
        return list(session.scalars(query))


def _print(cluster: Cluster, modality: _Modality, restarts: int, quiet: list[float]) -> None:
    with cluster.ledger.read() as session:
        received = set(session.scalars(select(Instance.sop_instance_uid)))
        receptions = session.scalar(select(func.count()).select_from(Reception)) or 0
        results = session.scalar(select(func.count()).select_from(Result)) or 0
        given_up = sum(
            session.scalar(select(func.count()).select_from(each).where(each.state == WorkState.FAILED)) or 0
            for each in (Inference, Result, Delivery)
        )
        objects = set(session.scalars(select(StoredObject.sop_instance_uid).where(StoredObject.sha256.is_not(None))))
    delivered = [dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in cluster.out.rglob("*.dcm")]
    latencies = _latencies(cluster.ledger)[len(quiet) :]
    table = Table("what", "number", title="two receivers, three workers, one delivery worker, no disk in common")
    table.add_row("processes restarted (every other round by kill -9)", str(restarts))
    table.add_row("studies accepted", str(len(modality.accepted)))
    table.add_row("attempts to send that were refused or found nobody", str(modality.refused))
    table.add_row("lost (accepted, not in the ledger)", str(len(modality.accepted - received)))
    table.add_row("doubled (receptions, results, objects delivered)", str(_beyond(len(received), receptions, results)))
    table.add_row("objects made and not delivered", str(len(objects - set(delivered))))
    table.add_row("given up", str(given_up))
    table.add_row("last byte to report, before, median s", f"{median(quiet):.2f}" if quiet else "-")
    table.add_row("during the restarts, median s", f"{median(latencies):.2f}")
    table.add_row("ratio", f"{median(latencies) / median(quiet):.2f}" if quiet else "-")
    table.add_row("longest, s", f"{max(latencies):.1f}")
    Console(width=110).print(table)


def _beyond(wanted: int, *counts: int) -> int:
    return sum(max(0, each - wanted) for each in counts)


if __name__ == "__main__":
    main()
