"""A stream whose disk may be full: what cannot be written is lost, and whoever wrote it goes on. Used by the logs.

Without it a full disk would end the very threads that wait for space: they say so, and fail in saying it.
"""

from contextlib import suppress
from typing import TextIO


class UnfailingStream:
    """Writes to `stream` what can be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()
