"""Does the broker answer, within a time limit? Asked by the alerts and by `chexnode doctor`."""

from typing import Any

from celery import Celery

from node.queue import ANALYSIS, delivery_queue, make_celery
from schemas.settings import Settings

#: For a connection, and for an answer.
BROKER_SECONDS = 3.0


def broker_answers(settings: Settings) -> str:
    """ "" when the broker answers, else what it said."""
    if not settings.broker_url and not (settings.home / "broker").exists():
        return ""  # the file-system broker is made when the node starts for the first time
    try:
        with limited(make_celery(settings)).connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=BROKER_SECONDS)
            waiting(connection, ANALYSIS)
    except Exception as error:  # noqa: BLE001 - each broker has its own errors
        return type(error).__name__
    return ""


def limited(app: Celery) -> Celery:
    """The application with short time limits: its own are those of a worker that waits for a broker to come back."""
    app.conf.broker_connection_timeout = BROKER_SECONDS
    if app.conf.broker_url.startswith("redis"):
        app.conf.broker_transport_options = {"socket_connect_timeout": BROKER_SECONDS, "socket_timeout": BROKER_SECONDS}
    return app


def waiting(connection: Any, queue: str) -> int:
    """Messages in `queue`; 0 when it does not exist, since it is not declared here."""
    channel = connection.channel()
    try:
        return int(channel.queue_declare(queue=queue, passive=True).message_count)
    except connection.channel_errors:
        return 0
    finally:
        channel.close()


def queues(settings: Settings) -> list[str]:
    """The queues of the node's work."""
    return [ANALYSIS, *(delivery_queue(each.name) for each in settings.destinations)]
