"""Production mode: two nodes and several workers on one ledger, no disk shared, each process restarted under load.

PostgreSQL and RabbitMQ here; PostgreSQL and Redis in the mode "production" of every test of the chain.
"""

import itertools
import threading
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from sqlalchemy import func, select

from node.bundles.activation import activate, register
from node.storage.object_store import FolderObjectStore
from schemas.errors import PeerError
from schemas.tables import Delivery, Inference, Instance, Picture, Reception, Result, StoredObject, WorkState
from tests.support.bundles import write_tiny_bundle
from tests.support.cluster import Cluster, Site
from tests.support.peers import Postgres, RabbitMq
from tests.support.phantoms import write_phantom
from tests.support.processes import wait_for

STUDIES = 12


@pytest.fixture
def cluster(postgres: Postgres, rabbitmq: RabbitMq, tmp_path: Path) -> Iterator[Cluster]:
    """Two receivers, two inference workers, a delivery worker; hosts with homes of their own."""
    cluster = Cluster(tmp_path, postgres.database(), rabbitmq.url(), nodes=2, workers=2)
    try:
        yield cluster
    finally:
        cluster.stop()


def write_studies(folder: Path, count: int) -> list[Path]:
    """Studies of one small image each, no two with the same pixels."""
    write_phantom(folder / "0.dcm", rows=300, columns=300)
    dataset = dcmread(folder / "0.dcm")
    pixels = dataset.pixel_array.copy()
    files = []
    for number in range(count):
        pixels[0, 0] = number
        dataset.PixelData = pixels.tobytes()
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(dataset, keyword, generate_uid(prefix=None))
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        files.append(folder / f"{number}.dcm")
        dataset.save_as(files[-1])
    return files


class Sender(threading.Thread):
    """A modality with two destinations to choose from: what one does not take goes to the other, until it is taken."""

    def __init__(self, sites: list[Site], files: list[Path]) -> None:
        super().__init__()
        self._sites, self._files = sites, files
        self.accepted: list[Path] = []

    def run(self) -> None:
        turns = itertools.cycle(self._sites)
        for file in self._files:
            wait_for("somebody takes the study", partial(self._send, turns, file), 240, every=0.1)
            self.accepted.append(file)

    def _send(self, turns: Iterator[Site], file: Path) -> bool:
        try:
            (sent,) = next(turns).send(file)
        except PeerError:
            return False  # nobody listens there at the moment
        return sent.status == 0


def test_a_rolling_restart_under_load_loses_and_doubles_nothing_and_no_disk_is_shared(
    cluster: Cluster, tmp_path: Path
) -> None:
    node, other = cluster.nodes
    # On the first node alone: workers and everybody else get its files from there.
    digest = register(cluster.ledger, node.home, write_tiny_bundle(tmp_path / "tiny", "tiny", "1"))
    cluster.ledger.write(lambda session: activate(session, digest))
    cluster.start()
    files = write_studies(tmp_path, STUDIES)
    sender = Sender(cluster.nodes, files)
    sender.start()
    for number, site in enumerate(cluster.sites):
        wait_for("the work goes on", lambda n=number: len(sender.accepted) >= n or not sender.is_alive())  # type: ignore[misc]
        site.restart()
    cluster.wait_present()
    sender.join()
    assert len(sender.accepted) == STUDIES

    def finished() -> bool:
        with cluster.ledger.read() as session:
            drawn = session.scalar(select(func.count()).select_from(Picture).where(Picture.state == WorkState.DONE))
            deliveries = session.scalars(select(Delivery)).all()
        results = {each.result_id for each in deliveries if each.state == WorkState.DONE}
        return drawn == len(results) == STUDIES and all(each.state == WorkState.DONE for each in deliveries)

    wait_for("every study is analysed, drawn and delivered", finished, 240)
    sent = {dcmread(file).SOPInstanceUID: file for file in files}
    with cluster.ledger.read() as session:
        received = {each.sop_instance_uid: each.file_sha256 for each in session.scalars(select(Instance))}
        assert received.keys() == sent.keys()
        assert session.scalar(select(func.count()).select_from(Reception)) == STUDIES
        assert session.scalar(select(func.count()).select_from(Inference)) == STUDIES
        assert [each.current for each in session.scalars(select(Result))] == [True] * STUDIES
        objects = session.scalars(select(StoredObject.sop_instance_uid).where(StoredObject.sha256.is_not(None))).all()
    folders = [FolderObjectStore(site.home / "objects") for site in (node, other)]
    for uid, sha256 in received.items():
        held = [folder.get(sha256) for folder in folders if folder.holds(sha256)]
        assert held and all(_dataset(each) == _dataset(sent[uid].read_bytes()) for each in held)
    assert all(any(folder.holds(sha256) for sha256 in received.values()) for folder in folders), "both received"
    for site in (*cluster.workers, cluster.delivery):
        assert not list((site.home / "objects").glob("??/??/*")), "a worker kept what others need"
    delivered = {dcmread(path).SOPInstanceUID for path in cluster.out.rglob("*.dcm")}
    assert delivered == set(objects)


def _dataset(content: bytes) -> Dataset:
    return dcmread(BytesIO(content))
