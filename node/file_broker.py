"""Celery's file-system broker with whole messages: kombu's own shows a file before its content is written.

A worker that meets a half-written message dies of it. Used in the embedded mode only (no broker URL in the settings).
"""

import uuid
from json import JSONDecodeError
from pathlib import Path
from time import monotonic_ns
from typing import Any

from kombu.transport import filesystem
from kombu.utils import json


class Channel(filesystem.Channel):
    """File-system channel that publishes by rename."""

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        folder = Path(self.data_folder_out)
        name = f"{monotonic_ns():020d}_{uuid.uuid4()}.{queue}.msg"
        draft = folder / f".{name}.draft"
        draft.write_text(json.dumps(payload))
        draft.replace(folder / name)

    def get_table(self, exchange: str) -> list[Any]:
        try:
            table: list[Any] = super().get_table(exchange)
        except JSONDecodeError:
            return []  # torn by a kill -9 while it was written; the next binding writes it anew
        return table

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)
        except JSONDecodeError:
            self._exchange_file(exchange).unlink(missing_ok=True)
            super()._queue_bind(exchange, routing_key, pattern, queue)


class Transport(filesystem.Transport):
    """File-system transport with that channel."""

    Channel = Channel
