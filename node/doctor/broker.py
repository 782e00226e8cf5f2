"""Does the broker take and give messages? Tried on a queue of the doctor's own; the real ones are only counted."""

import secrets
import time
from collections.abc import Iterator
from queue import Empty
from typing import Any

from node.broker import BROKER_SECONDS, limited, queues, waiting
from node.doctor.verdict import Finding, Judge, Subject, Verdict, failed, ok, warning
from node.queue import make_celery
from schemas.settings import Settings

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
        app = limited(make_celery(settings))
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=BROKER_SECONDS)
            seconds = _exchange(connection)
            messages = sum(waiting(connection, queue) for queue in queues(settings))
    except Exception as error:  # noqa: BLE001 - each broker has its own errors
        to_do = (
            "Check that it runs, and host, port and password of broker_url. Until then work waits in the ledger."
            if settings.broker_url
            else f"Check the folder {settings.home / 'broker'} and its owner; it may be removed while no node runs."
        )
        return failed(f"{where} does not answer", to_do, error)
    words = "1 message waits" if messages == 1 else f"{messages} messages wait"
    found = f"{where} gave a message back in {seconds * 1e3:.0f} ms; {words}"
    if messages > _MANY:
        return warning(found, "Nobody takes them: check the workers (parts.worker, parts.delivery).")
    return ok(found)


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
            if time.monotonic() - started > BROKER_SECONDS:
                raise Empty(f"no message within {BROKER_SECONDS:g} s")
            time.sleep(0.01)
        return time.monotonic() - started
    finally:
        channel.queue_purge(name)
        channel.queue_delete(name)
        channel.close()
