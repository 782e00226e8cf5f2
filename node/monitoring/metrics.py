"""What a process of the node counts and measures, for Prometheus; no label and no value names a patient.

Each process writes its figures into its row of the ledger with every sign of life (node/monitoring/presence.py); the
page shows those of all processes on all hosts at one address (node/monitoring/exposition.py). docs/monitoring.md
explains each.
"""

import os
from math import nan
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

# When a counter began is known from the process's start; they would double the text.
disable_created_metrics()  # type: ignore[no-untyped-call]

#: Of this process alone.
LOCAL = CollectorRegistry()

_FAST = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SLOW = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)

STORE_ANSWERS = Counter("chexnode_store_answers", "C-STORE requests answered", ["status"], registry=LOCAL)
RECEIVED_BYTES = Counter("chexnode_received_bytes", "Bytes of the objects that came by C-STORE", registry=LOCAL)
STORE_SECONDS = Histogram(
    "chexnode_store_seconds",
    "From the last byte of an object to its answer: digests, fsync, ledger",
    registry=LOCAL,
    buckets=_FAST,
)
ASSOCIATIONS = Counter("chexnode_associations", "Associations that ended or were rejected", ["end"], registry=LOCAL)
OPEN_ASSOCIATIONS = Gauge("chexnode_associations_open", "Associations that are open", registry=LOCAL)

LEDGER_SECONDS = Histogram(
    "chexnode_ledger_write_seconds",
    "Transactions that change the ledger, with their wait for others and their commit",
    registry=LOCAL,
    buckets=_FAST,
)
WORK_SECONDS = Histogram(
    "chexnode_work_seconds", "Attempts at due work", ["stage", "outcome"], registry=LOCAL, buckets=_SLOW
)
READ_SECONDS = Histogram(
    "chexnode_inference_read_seconds", "Reading and preparing an image", registry=LOCAL, buckets=_SLOW
)
FORWARD_SECONDS = Histogram(
    "chexnode_inference_forward_seconds",
    "Waiting for and running an image's forward pass",
    registry=LOCAL,
    buckets=_SLOW,
)
DELIVERIES = Counter("chexnode_deliveries", "Attempts to deliver an object", ["destination", "outcome"], registry=LOCAL)

_DISK_FREE = Gauge("chexnode_disk_free_bytes", "Free space of the disk that holds home", registry=LOCAL)
_DISK_SIZE = Gauge("chexnode_disk_size_bytes", "Size of the disk that holds home", registry=LOCAL)


def watch_disk(home: Path) -> None:
    """Measure the disk that holds `home` from now on. Called once by each part that writes there."""
    _DISK_FREE.set_function(lambda: _space(home)[0])
    _DISK_SIZE.set_function(lambda: _space(home)[1])


def local_figures() -> str:
    """The figures of this process in Prometheus's text format."""
    return generate_latest(LOCAL).decode()


def parse_figures(figures: str) -> list[Metric]:
    """What a process wrote with `local_figures`; nothing where another version of the software wrote something else."""
    try:
        return list(text_string_to_metric_families(figures))
    except ValueError:
        return []


def _space(home: Path) -> tuple[float, float]:
    try:
        disk = os.statvfs(home)
    except OSError:
        return nan, nan
    return float(disk.f_bavail * disk.f_frsize), float(disk.f_blocks * disk.f_frsize)
