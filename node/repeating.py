"""Something that is to be done again and again while a block runs: renewing a lease, being present."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError

log = structlog.get_logger()


@contextmanager
def repeating(name: str, seconds: float, action: Callable[[], object]) -> Iterator[None]:
    """Call `action` every `seconds` in a thread until the block ends or it raises StopIteration.

    A ledger that does not answer is logged and asked again.
    """
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(seconds):
            try:
                action()
            except StopIteration:
                return
            except SQLAlchemyError as error:
                log.warning("ledger does not answer, trying again", task=name, error=error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
