"""The inference worker: a Celery thread pool, engine processes for its bundles, processes for pixels and objects.

This process never imports torch; the engines' own do.
"""

from pathlib import Path

import click
import structlog

from node.activation import provide_shipped
from node.database import upgrade
from node.ledger import open_ledger
from node.logs import configure_logs
from node.object_store import FolderObjectStore
from node.presence import present
from node.queue import ANALYSIS, Publisher, make_celery, run_worker
from schemas.settings import load_settings
from workers.processes import Processes
from workers.serving import Serving
from workers.tasks import Tasks

log = structlog.get_logger()


@click.command("worker")
def worker_command() -> None:
    """Run an inference worker: analyses images and builds Structured Reports and segmentations."""
    configure_logs()
    settings = load_settings()
    ledger = open_ledger(settings)
    upgrade(ledger)
    provide_shipped(ledger, settings)
    processes = Processes(settings.worker.processes, settings.worker.process_deadline_seconds)
    serving = Serving(ledger, settings)
    try:
        serving.start()
        processes.start()
        store = FolderObjectStore(Path(settings.home) / "objects")
        tasks = Tasks(settings, ledger, store, Publisher(settings), processes, serving)
        app = make_celery(settings)
        app.task(tasks.work, name=ANALYSIS)
        with present(ledger, "worker") as process_id:
            serving.report_as(process_id)
            log.info("worker ready", bundles=len(serving.digests()))
            run_worker(app, [ANALYSIS], settings.worker.threads, name="worker")
    finally:
        serving.close()
        processes.close()
