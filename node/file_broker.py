"""Celery's file-system broker with whole messages: kombu's own shows a file before its content is written.

A worker that meets a half-written message dies of it. Used in the embedded mode only (no broker URL in the settings).
"""

import uuid
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
        draft.write_text(json.dumps(payload))  # type: ignore[no-untyped-call]
        draft.replace(folder / name)


class Transport(filesystem.Transport):
    """File-system transport with that channel."""

    Channel = Channel
