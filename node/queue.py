"""The queue: Celery messages that say "something is due" and nothing else. The ledger knows what.

A message may be lost, doubled or late without harm: the sweep publishes what is due. Queue names are task names.
"""

import shutil
import threading
from collections import Counter
from typing import Any

import structlog
from celery import Celery
from celery.signals import worker_shutting_down

from schemas.settings import Settings

log = structlog.get_logger()

#: An image is to be analysed, or a study result to be planned or built.
ANALYSIS = "chexnode.analysis"
#: A bundle is to be made.
TRAINING = "chexnode.training"
#: Messages that wait in a queue at most.
HINTS = 4

#: Set when this process has been told to stop: tasks end after the row that they are at.
stopping = threading.Event()


def delivery_queue(destination: str) -> str:
    """Queue of one destination, so that none waits behind another."""
    return f"chexnode.delivery.{destination}"


def make_celery(settings: Settings) -> Celery:
    """The Celery application of `settings`: without remote control, results, retries or redelivery."""
    app = Celery("chexnode", set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=False,  # a message is a hint: losing it with its worker costs one sweep
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A publisher that cannot reach the broker says so at once; the sweep comes again.
        task_publish_retry=False,
    )
    if settings.broker_url:
        app.conf.broker_url = settings.broker_url
        if settings.broker_url.startswith("redis"):
            app.conf.broker_transport_options = {"socket_connect_timeout": 2, "socket_timeout": 10}
    else:
        folder = settings.home.resolve() / "broker"
        (folder / "control").mkdir(parents=True, exist_ok=True)
        (folder / "messages").mkdir(parents=True, exist_ok=True)
        app.conf.update(
            broker_url="filesystem://localhost//",
            broker_transport="node.file_broker:Transport",
            broker_transport_options={
                "data_folder_in": str(folder / "messages"),
                "data_folder_out": str(folder / "messages"),
                "control_folder": str(folder / "control"),
                "polling_interval": 0.02,
            },
        )
    return app


def empty_file_broker(settings: Settings) -> None:
    """Remove the messages of a node that was killed: they are hints, and a torn table would stop the next start."""
    shutil.rmtree(settings.home / "broker", ignore_errors=True)


class Publisher:
    """Publishes hints from a thread of its own: whoever has something to say never waits for a broker.

    A broker that is down is logged, never raised: what was to be hinted at stands in the ledger, and the sweep comes
    again. At most HINTS wait per queue, since each wakes a worker that then works until nothing is due.
    """

    def __init__(self, settings: Settings) -> None:
        self._app = make_celery(settings)
        # Nobody answers heartbeats while there is nothing to say: RabbitMQ would hang up, and the next hint be lost.
        self._app.conf.broker_heartbeat = 0
        self._pending: Counter[str] = Counter()
        self._arrived = threading.Condition()
        threading.Thread(target=self._publish, name="publisher", daemon=True).start()

    def hint(self, queue: str) -> None:
        """Say that something is due in `queue`."""
        with self._arrived:
            if self._pending[queue] < HINTS:
                self._pending[queue] += 1
                self._arrived.notify()

    def _publish(self) -> None:
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._pending.total())
                queue = next(name for name, count in self._pending.items() if count)
                self._pending[queue] -= 1
            try:
                self._app.send_task(queue, queue=queue)
            except Exception as error:  # noqa: BLE001 - each broker has its own errors; this thread must outlive them
                log.warning("broker not reachable; the sweep will publish again", queue=queue, error=error)
                with self._arrived:
                    self._pending.clear()

    def waiting(self, queue: str) -> int:
        """Messages in `queue` that no worker has taken; 0 when the broker cannot be asked."""
        try:
            with self._app.connection_for_read() as connection:
                # As publishing declares it: RabbitMQ refuses anything else.
                declared: Any = self._app.amqp.queues[queue](connection.default_channel).queue_declare()
                return int(declared.message_count)
        except Exception as error:  # noqa: BLE001 - each broker has its own errors
            log.warning("broker not reachable", queue=queue, error=error)
            return 0


def run_worker(app: Celery, queues: list[str], threads: int, name: str) -> None:
    """Serve `queues` with a pool of threads until SIGTERM."""

    def stop(**_: object) -> None:
        stopping.set()

    worker_shutting_down.connect(stop)
    app.start(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            f"--concurrency={threads}",
            f"--queues={','.join(queues)}",
            f"--hostname={name}@%h",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel=WARNING",
        ]
    )
