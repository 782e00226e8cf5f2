"""Change of bundle under load: `python -m benchmarks.bundle_change [--changes 20] [--production]`.

A stream of phantom studies goes into a running node while two versions of the shipped bundle are activated in turns.
Prints how long it takes until the first image is computed under the new version (activation committed to claim, the
ledger's clock), whether any study was lost or failed, and the wait for results with and without changes.
"""

import argparse
import shutil
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from pydicom import dcmread
from pydicom.uid import generate_uid
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import func, select

from benchmarks.running_node import add_production, measured_node
from node.bundles.activation import activate, register
from schemas.bundle import MANIFEST_FILE, bundle_folder, read_manifest
from schemas.result import StudyResult
from schemas.tables import Bundle, Inference, Instance, Result, Series, Study, WorkState
from tests.support.live_node import LiveNode
from tests.support.phantoms import write_phantom
from tests.support.processes import wait_for

#: Seconds between two studies: about half of what two cores compute.
_INTERVAL = 0.5
#: Studies before the first change, of which the wait without changes is taken.
_QUIET_STUDIES = 20


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=20)
    add_production(parser)
    arguments = parser.parse_args()
    console = Console(width=110)
    with measured_node(production=arguments.production) as measured:
        node, folder = measured.node, measured.folder
        versions = [register(node.ledger, node.home, _version(folder, each)) for each in ("a", "b")]
        node.ledger.write(lambda session: activate(session, versions[0]))
        node.start("node", "worker")
        _measure(node, folder, versions, arguments.changes, console)


@dataclass
class _Stream:
    """Sends studies at a steady rate until it is stopped."""

    node: LiveNode
    folder: Path
    sent: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        path = self.folder / "phantom.dcm"
        write_phantom(path, rows=1024, columns=854)
        dataset = dcmread(path)
        pixels = dataset.pixel_array.copy()
        while not self.stopped.wait(_INTERVAL):
            number = len(self.sent)
            pixels[0, :2] = number % 256, number // 256
            dataset.PixelData = pixels.tobytes()
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                setattr(dataset, keyword, generate_uid(prefix=None))
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(path)
            assert self.node.send(path)[0].status == 0
            self.sent.append(dataset.StudyInstanceUID)


def _version(folder: Path, version: str) -> Path:
    target = folder / version
    shutil.copytree(bundle_folder(None), target)
    manifest = read_manifest(target).model_copy(update={"version": version})
    (target / MANIFEST_FILE).write_text(manifest.model_dump_json())
    return target


def _measure(node: LiveNode, folder: Path, versions: list[str], changes: int, console: Console) -> None:
    stream = _Stream(node, folder)
    sender = threading.Thread(target=stream.run)
    sender.start()
    times = []
    try:
        wait_for("the stream runs", lambda: len(stream.sent) >= _QUIET_STUDIES, 600)
        for change in track(range(1, changes + 1), "changes", console=console, transient=True):
            digest = versions[change % 2]
            node.ledger.write(lambda session, digest=digest: activate(session, digest))  # type: ignore[misc]
            times.append(wait_for("an image under the new version", lambda d=digest: _until_first(node, d), 120))  # type: ignore[misc]
            time.sleep(2 * _INTERVAL)
    finally:
        stream.stopped.set()
        sender.join()
    wait_for("every study has its result", lambda: _results(node) >= len(stream.sent), 300)
    _print(node, stream.sent, times, console)


def _until_first(node: LiveNode, digest: str) -> float | None:
    """Seconds from the activation to the claim of the first image that was computed under it; None: not yet."""
    with node.ledger.read() as session:
        activated_at = session.scalar(select(Bundle.activated_at).where(Bundle.digest == digest))
        first = session.scalar(
            select(func.min(Inference.started_at)).where(
                Inference.bundle_digest == digest,
                Inference.state == WorkState.DONE,
                Inference.started_at > activated_at,
            )
        )
    return None if first is None or activated_at is None else float(first - activated_at)


def _results(node: LiveNode) -> int:
    with node.ledger.read() as session:
        return session.scalar(select(func.count()).select_from(Result).where(Result.current)) or 0


def _print(node: LiveNode, sent: list[str], times: list[float], console: Console) -> None:
    with node.ledger.read() as session:
        made = session.execute(
            select(Study.study_instance_uid, Result, Instance.received_at)
            .join(Result, Result.study_id == Study.id)
            .join(Series, Series.study_id == Study.id)
            .join(Instance, Instance.series_id == Series.id)
            .where(Result.current)
        ).all()
        failed = session.scalar(select(func.count()).select_from(Inference).where(Inference.state == WorkState.FAILED))
    waits = {uid: (result.finished_at or 0.0) - received_at for uid, result, received_at in made}
    documents = [(StudyResult.model_validate_json(result.document or ""), result) for _, result, _ in made]
    by_version = Counter(document.bundle.version for document, _ in documents)
    wrong = sum(document.bundle.digest != result.bundle_digest for document, result in documents)
    quiet = [waits[uid] for uid in sent[3:_QUIET_STUDIES] if uid in waits]
    loaded = [waits[uid] for uid in sent[_QUIET_STUDIES:] if uid in waits]
    again = (node.home / "worker.log").read_text().count("will be tried again")
    table = Table("", "value", title=f"{len(times)} changes of bundle, a study every {_INTERVAL:g} s")
    table.add_row("activation to the first image under it, median / max s", f"{median(times):.2f} / {max(times):.2f}")
    table.add_row("studies sent, with a result", f"{len(sent)}, {len(waits)}")
    table.add_row("lost, failed, tried again", f"{len(set(sent) - set(waits))}, {failed}, {again}")
    table.add_row("results that name another bundle than computed them", str(wrong))
    table.add_row("results by version", ", ".join(f"{name}: {count}" for name, count in sorted(by_version.items())))
    for name, values in (("without changes", quiet), ("while bundles change", loaded)):
        p50, p95 = np.percentile(values, [50, 95])
        table.add_row(f"last byte to result {name}, p50 / p95 s", f"{p50:.2f} / {p95:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
