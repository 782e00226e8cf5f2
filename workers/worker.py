"""The inference worker: a Celery thread pool, engine processes for its bundles, processes for pixels and objects.

This process never imports torch; the engines' own do.
"""

import click
import structlog

from node.bundles.activation import provide_shipped
from node.ledger.database import ready_ledger
from node.monitoring.logs import configure_logs_of
from node.monitoring.metrics import watch_disk
from node.monitoring.presence import present
from node.queue import ANALYSIS, Publisher, make_celery, run_worker
from node.storage.stores import open_store
from schemas.settings import load_settings
from workers.processes import Processes
from workers.serving import Serving
from workers.tasks import Tasks

log = structlog.get_logger()


@click.command("worker")
def worker_command() -> None:
    """Run an inference worker: analyses images and builds Structured Reports and segmentations."""
    settings = load_settings()
    configure_logs_of(settings)
    watch_disk(settings.home)
    ledger = ready_ledger(settings)
    provide_shipped(ledger, settings)
    processes = Processes(settings.worker.processes, settings.worker.process_deadline_seconds)
    serving = Serving(ledger, settings)
    try:
        serving.start()
        processes.start()
        tasks = Tasks(settings, ledger, open_store(settings), Publisher(settings), processes, serving)
        app = make_celery(settings)
        app.task(tasks.work, name=ANALYSIS)
        with present(ledger, "worker") as process_id:
            serving.report_as(process_id)
            log.info("worker ready", bundles=len(serving.digests()))
            run_worker(app, [ANALYSIS], settings.worker.threads, name="worker")
    finally:
        serving.close()
        processes.close()
