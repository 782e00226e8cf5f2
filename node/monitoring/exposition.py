"""The figures of a whole node in Prometheus's text format: what the ledger says, and what each process has counted.

Shown by the page at /metrics. One page of a ledger shows all hosts: scrape one, or take the maximum over several.
"""

from collections.abc import Iterable, Iterator

from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from node.ledger.figures import LedgerFigures
from node.monitoring.alerts import AlertName, Situation
from node.monitoring.metrics import parse_figures
from schemas.identity import software_version
from schemas.tables import Process


def exposition(situation: Situation) -> bytes:
    """All figures of the node in this situation."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(situation))
    return generate_latest(registry)


class _Figures(Collector):
    def __init__(self, situation: Situation) -> None:
        self._situation = situation

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily("chexnode_build", "Version of the software", value={"version": software_version()})
        yield from _alerts(self._situation)
        figures = self._situation.figures
        yield GaugeMetricFamily(
            "chexnode_ledger_up",
            "Whether the ledger answers, with the tables of this version",
            value=figures is not None,
        )
        if figures is not None:
            yield from _queues(figures)
            yield from _destinations(figures)
            yield from _studies(figures)
            yield from _parts(figures)
            yield from _processes(figures.processes)


def _alerts(situation: Situation) -> Iterator[Metric]:
    alert = GaugeMetricFamily(
        "chexnode_alert", "1 while the state is there (docs/monitoring.md)", labels=["name", "subject"]
    )
    for each in situation.alerts:
        alert.add_metric([each.name, each.subject], 1)
    # So that nobody takes a name that was misspelt for all being well.
    for name in set(AlertName) - {each.name for each in situation.alerts}:
        alert.add_metric([name, ""], 0)
    yield alert


def _queues(figures: LedgerFigures) -> Iterator[Metric]:
    labels = ["stage", "destination"]
    rows = GaugeMetricFamily("chexnode_work_rows", "Rows of work that are not done", labels=[*labels, "state"])
    overdue = GaugeMetricFamily(
        "chexnode_work_overdue_seconds", "For how long the oldest due row has not been claimed", labels=labels
    )
    oldest = GaugeMetricFamily(
        "chexnode_work_oldest_seconds", "Age of the oldest row that is due or being worked on", labels=labels
    )
    for each in figures.stages:
        where = [each.stage, each.destination]
        for state, count in (("due", each.due), ("leased", each.leased), ("failed", each.failed)):
            rows.add_metric([*where, state], count)
        overdue.add_metric(where, each.overdue_seconds)
        oldest.add_metric(where, each.oldest_seconds)
    yield from (rows, overdue, oldest)
    yield GaugeMetricFamily("chexnode_studies_due", "Complete studies without a result", value=figures.studies_due)
    yield GaugeMetricFamily(
        "chexnode_studies_overdue_seconds",
        "For how long the first of them has waited",
        value=figures.studies_overdue_seconds,
    )


def _destinations(figures: LedgerFigures) -> Iterator[Metric]:
    breaker = GaugeMetricFamily(
        "chexnode_destination_breaker_open", "1 while a destination does not take results", labels=["destination"]
    )
    commitments = GaugeMetricFamily(
        "chexnode_commitments", "Delivered objects that are not committed yet", labels=["destination", "state"]
    )
    for each in figures.destinations:
        breaker.add_metric([each.name], each.breaker_open)
        commitments.add_metric([each.name, "wanted"], each.commitments_wanted)
        commitments.add_metric([each.name, "requested"], each.commitments_requested)
        commitments.add_metric([each.name, "failed"], each.commitments_failed)
    yield from (breaker, commitments)


def _studies(figures: LedgerFigures) -> Iterator[Metric]:
    yield GaugeMetricFamily("chexnode_quarantined_objects", "Objects in quarantine", value=figures.quarantined)
    worklist = GaugeMetricFamily("chexnode_worklist_studies", "Studies that wait for a reader", labels=["urgency"])
    for each in figures.worklist:
        worklist.add_metric([each.urgency], each.studies)
    latency = GaugeMetricFamily(
        "chexnode_latency_seconds",
        "From a study's last byte to its result or delivery, the latest 200 of the last hour",
        labels=["until", "quantile"],
    )
    for latest in figures.latencies:
        latency.add_metric([latest.until, "0.5"], latest.p50)
        latency.add_metric([latest.until, "0.95"], latest.p95)
    yield from (worklist, latency)


def _parts(figures: LedgerFigures) -> Iterator[Metric]:
    bundles = GaugeMetricFamily(
        "chexnode_bundle_workers", "Workers that serve an active bundle", labels=["bundle", "version"]
    )
    for each in figures.bundles:
        bundles.add_metric([each.name, each.version], each.served_by)
    processes = GaugeMetricFamily("chexnode_processes", "Processes that show signs of life", labels=["role", "host"])
    present = [(each.role, each.host) for each in figures.processes]
    for role, host in sorted(set(present)):
        processes.add_metric([role, host], present.count((role, host)))
    yield from (bundles, processes)


def _processes(processes: list[Process]) -> Iterator[Metric]:
    """What the processes have counted, each under its own labels."""
    families: dict[str, Metric] = {}
    for process in processes:
        labels = {"role": process.role, "host": process.host, "process": str(process.process_id)}
        for metric in parse_figures(process.figures):
            family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            for sample in metric.samples:
                family.add_sample(sample.name, {**sample.labels, **labels}, sample.value)
    yield from families.values()
