"""Does the broker take and give messages? Tried on a queue of the doctor's own; the real ones are only counted."""

import secrets
import time
from collections.abc import Iterator
from queue import Empty
from typing import Any

from celery import Celery

from node.doctor.verdict import Finding, Judge, Subject, Verdict, failed, ok, warning
from node.queue import ANALYSIS, delivery_queue, make_celery
from schemas.settings import Settings

_SECONDS = 3.0
#: A working node keeps a handful (node/queue.py HINTS); this many have not been taken for long.
_MANY = 1000


def broker_subject(settings: Settings) -> Subject:
    """Checks of the broker."""

    def examine(judge: Judge) -> Iterator[Verdict]:
        yield judge("broker.round-trip", lambda: _round_trip(settings))

    return Subject("broker", ("round-trip",), examine)


def _round_trip(settings: Settings) -> Finding:
    if not settings.broker_url and not (settings.home / "broker").exists():
        # Not made here: it would belong to whoever runs the doctor.
        return ok("the file-system broker is made when the node starts for the first time")
    where = "the file-system broker" if not settings.broker_url else "the broker"
    try:
        app = _limited(make_celery(settings))
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=_SECONDS)
            seconds = _exchange(connection)
            waiting = sum(_waiting(connection, queue) for queue in _queues(settings))
    except Exception as error:  # noqa: BLE001 - each broker has its own errors
        to_do = (
            "Check that it runs, and host, port and password of broker_url. Until then work waits in the ledger."
            if settings.broker_url
            else f"Check the folder {settings.home / 'broker'} and its owner; it may be removed while no node runs."
        )
        return failed(f"{where} does not answer", to_do, error)
    words = "1 message waits" if waiting == 1 else f"{waiting} messages wait"
    found = f"{where} gave a message back in {seconds * 1e3:.0f} ms; {words}"
    if waiting > _MANY:
        return warning(found, "Nobody takes them: check the workers (parts.worker, parts.delivery).")
    return ok(found)


def _limited(app: Celery) -> Celery:
    """The application with short time limits: its own are those of a worker that waits for a broker to come back."""
    app.conf.broker_connection_timeout = _SECONDS
    if app.conf.broker_url.startswith("redis"):
        app.conf.broker_transport_options = {"socket_connect_timeout": _SECONDS, "socket_timeout": _SECONDS}
    return app


def _exchange(connection: Any) -> float:
    """Publish a message to a queue of our own and take it back; seconds. Nothing of the queue is left behind."""
    name = f"chexnode.doctor.{secrets.token_hex(8)}"
    channel = connection.channel()
    started = time.monotonic()
    try:
        channel.queue_declare(queue=name, exclusive=True)
        # Through the default exchange, so that no binding is made.
        connection.Producer(channel).publish("doctor", exchange="", routing_key=name, retry=False)
        while channel.basic_get(name, no_ack=True) is None:
            if time.monotonic() - started > _SECONDS:
                raise Empty(f"no message within {_SECONDS:g} s")
            time.sleep(0.01)
        return time.monotonic() - started
    finally:
        channel.queue_purge(name)
        channel.queue_delete(name)
        channel.close()


def _waiting(connection: Any, queue: str) -> int:
    """Messages in `queue`; 0 when it does not exist, since it is not declared here."""
    channel = connection.channel()
    try:
        return int(channel.queue_declare(queue=queue, passive=True).message_count)
    except connection.channel_errors:
        return 0
    finally:
        channel.close()


def _queues(settings: Settings) -> list[str]:
    return [ANALYSIS, *(delivery_queue(each.name) for each in settings.destinations)]
