"""The inference worker: a Celery thread pool, an engine process for its device, processes for pixels and objects.

This process never imports torch; the engine's own does.
"""

import subprocess
from pathlib import Path

import click
import structlog

from node.database import upgrade
from node.ledger import open_ledger
from node.logs import configure_logs
from node.object_store import FolderObjectStore
from node.presence import present
from node.queue import ANALYSIS, Publisher, make_celery, run_worker
from schemas.bundle import bundle_digest, bundle_folder, read_manifest
from schemas.errors import BundleError
from schemas.settings import load_settings
from workers.engine import Engine
from workers.processes import Processes
from workers.tasks import Tasks

log = structlog.get_logger()


@click.command("worker")
def worker_command() -> None:
    """Run an inference worker: analyses images and builds Structured Reports and segmentations."""
    configure_logs()
    settings = load_settings()
    folder = bundle_folder(settings.worker.bundle)
    manifest, digest = read_manifest(folder), bundle_digest(folder)
    ledger = open_ledger(settings)
    upgrade(ledger)
    processes = Processes(settings.worker.processes, settings.worker.process_deadline_seconds)
    engine = Engine(folder, manifest, choose_device(settings.worker.device), settings.worker)
    try:
        if engine.start().bundle_digest != digest:
            raise BundleError(f"{folder} changed while it was loaded.")
        processes.start()
        tasks = Tasks(
            settings,
            ledger,
            FolderObjectStore(Path(settings.home) / "objects"),
            Publisher(settings),
            processes,
            engine,
            manifest,
            digest,
        )
        app = make_celery(settings)
        app.task(tasks.work, name=ANALYSIS)
        log.info("worker ready", bundle=manifest.name, version=manifest.version, digest=digest[:12])
        with present(ledger, "worker"):
            run_worker(app, [ANALYSIS], settings.worker.threads, name="worker")
    finally:
        engine.close()
        processes.close()


def choose_device(wanted: str) -> str:
    """The device of the settings; for "auto" the first CUDA device when the driver lists one, else the CPU."""
    if wanted != "auto":
        return wanted
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "cpu"
    return "cuda:0" if listed.returncode == 0 and listed.stdout.startswith("GPU ") else "cpu"
