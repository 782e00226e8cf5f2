"""Last byte to SR in the PACS: `python -m benchmarks.latency [--studies 50] [--size 2048] [--production]`.

Starts an Orthanc and a node of its own, sends phantom studies one after the other and prints p50 and p95, the share of
each stage, and the overhead over the floor of the same run: reading the pixels and the bare forward pass.
"""

import argparse
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch
from pydicom.uid import generate_uid
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import select

from benchmarks.running_node import add_production, measured_node
from schemas.bundle import bundle_folder
from schemas.settings import ResultObject
from schemas.tables import Delivery, Inference, Instance, Result, Series, StoredObject, Study
from tests.support.live_node import LiveNode
from tests.support.phantoms import write_phantom
from workers.bundle import load_bundle

_STAGES = (
    "reception: digests, fsync, ledger",
    "queue to claim",
    "read pixels",
    "forward (with waiting)",
    "store output, commit",
    "plan and claim result",
    "build SR and SEG",
    "queue, deliver SEG",
    "deliver SR, annotate",
)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=50)
    parser.add_argument("--size", type=int, default=2048, help="rows; columns are 5/6 of it")
    add_production(parser)
    arguments = parser.parse_args()
    console = Console(width=110)
    with measured_node(production=arguments.production, orthanc=True) as measured:
        measured.node.start("node", "worker", "delivery")
        rows = _measure(measured.node, measured.folder, arguments.studies, arguments.size, console)
    _print(np.asarray(rows), _bare_forward_ms(), f"{measured.mode}, {arguments.size} rows", console)


def _measure(node: LiveNode, folder: Path, studies: int, size: int, console: Console) -> list[list[float]]:
    rows = []
    path = folder / "phantom.dcm"
    for number in track(range(studies + 3), "studies", console=console, transient=True):
        # A few anatomies, rendered once; every study is new to the node, pixels included.
        def stamp(dataset: object, number: int = number) -> None:
            dataset.PixelData = bytes([number % 256, number // 256]) + dataset.PixelData[2:]  # type: ignore[attr-defined]
            dataset.StudyInstanceUID = generate_uid(prefix=None)  # type: ignore[attr-defined]

        sent = write_phantom(path, seed=number % 5, rows=size, columns=size * 5 // 6, change=stamp)
        assert node.send(path)[0].status == 0
        node.wait_delivered(sent.StudyInstanceUID)
        time.sleep(0.05)
        if number >= 3:  # the first ones warm caches up
            rows.append(_stages(node, sent.StudyInstanceUID))
    return rows


def _stages(node: LiveNode, study_instance_uid: str) -> list[float]:
    """Duration of each stage in ms."""
    with node.ledger.read() as session:
        instance, inference, result = session.execute(
            select(Instance, Inference, Result)
            .join(Series, Instance.series_id == Series.id)
            .join(Study, Series.study_id == Study.id)
            .join(Inference, Inference.pixel_digest == Instance.pixel_digest)
            .join(Result, Result.study_id == Study.id)
            .where(Study.study_instance_uid == study_instance_uid)
        ).one()
        deliveries = session.execute(
            select(StoredObject.kind, Delivery.finished_at).join(Delivery).where(Delivery.result_id == result.id)
        ).all()
    finished = {kind: float(at or 0) for kind, at in deliveries}
    segmentation = finished.get(ResultObject.SEGMENTATION, result.finished_at or 0)
    read, forward = (inference.read_ms or 0) / 1000, (inference.forward_ms or 0) / 1000
    marks: list[float] = [
        instance.received_at,
        inference.created_at,
        inference.started_at or 0,
        (inference.started_at or 0) + read,
        (inference.started_at or 0) + read + forward,
        inference.finished_at or 0,
        result.started_at or 0,
        result.finished_at or 0,
        segmentation,
        finished[ResultObject.REPORT],
    ]
    return [(later - earlier) * 1000 for earlier, later in pairwise(marks)]


def _bare_forward_ms() -> float:
    loaded = load_bundle(bundle_folder(None))
    size = loaded.manifest.preprocessing.size
    batch = torch.zeros(1, 1, size, size)
    times = []
    with torch.inference_mode():
        for _ in range(15):
            started = time.perf_counter()
            loaded.network(batch)
            times.append((time.perf_counter() - started) * 1000)
    return median(times[5:])


def _print(
    rows: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", bare: float, title: str, console: Console
) -> None:
    total = rows.sum(axis=1)
    table = Table("stage", "p50 ms", "p95 ms", "share of the mean", title=f"{title}, {len(rows)} studies")
    for number, stage in enumerate(_STAGES):
        p50, p95 = np.percentile(rows[:, number], [50, 95])
        table.add_row(stage, f"{p50:.0f}", f"{p95:.0f}", f"{rows[:, number].mean() / total.mean():.0%}")
    table.add_section()
    floor = rows[:, 2] + bare
    lines = [
        ("last byte to SR in the PACS", total),
        ("read + bare forward (the floor)", floor),
        ("overhead", total - floor),
    ]
    for name, values in lines:
        p50, p95 = np.percentile(values, [50, 95])
        table.add_row(name, f"{p50:.0f}", f"{p95:.0f}", f"{values.mean() / total.mean():.0%}")
    console.print(table)
    console.print(
        f"ratio of the whole to the floor, median: {np.median(total / floor):.2f}; bare forward {bare:.0f} ms"
    )


if __name__ == "__main__":
    main()
