"""The metrics: what each process counts and what the ledger says arrive at one address, and nowhere else."""

import json
import re
from pathlib import Path

import yaml
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update
from starlette.testclient import TestClient

from node.ledger.leases import Attempt, claim, perform
from node.monitoring.alerts import AlertName, examine
from node.monitoring.exposition import exposition
from node.monitoring.metrics import STORE_ANSWERS, local_figures, watch_disk
from node.monitoring.presence import present
from node.page.app import create_page
from node.storage.object_store import FolderObjectStore
from schemas.errors import PixelDataError
from schemas.settings import MetricsSettings
from schemas.tables import Inference, Process, WorkState
from tests.monitoring.conftest import Watched
from tests.node.studies import add_study, commit_result, document

_DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"
#: What a metric's name becomes in its samples.
_ENDINGS = ("_bucket", "_count", "_sum", "_total", "_info")


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(watched: Watched, metric: str, /, **labels: str) -> float:
    """The one sample of this metric with (at least) these labels."""
    found = [
        number
        for (sample, its), number in samples(exposition(examine(watched.settings)).decode()).items()
        if sample == metric and frozenset(labels.items()) <= its
    ]
    assert len(found) == 1, (metric, labels, found)
    return found[0]


def test_what_a_process_counted_is_shown_with_its_role_and_host(watched: Watched) -> None:
    STORE_ANSWERS.labels("0xA700").inc(3)
    watch_disk(watched.settings.home)
    with present(watched.ledger, "node"):
        assert value(watched, "chexnode_store_answers_total", status="0xA700", role="node") >= 3
        assert value(watched, "chexnode_disk_free_bytes", role="node") > 0
        assert value(watched, "chexnode_processes", role="node") == 1
    # What is gone is shown no more.
    assert "chexnode_store_answers_total" not in exposition(examine(watched.settings)).decode()


def test_figures_of_another_version_of_the_software_are_left_out_and_hide_nothing(watched: Watched) -> None:
    with present(watched.ledger, "worker"):
        watched.ledger.write(lambda session: session.execute(update(Process).values(figures="{no figures")))
        assert value(watched, "chexnode_ledger_up") == 1


def test_queues_worklist_and_latency_are_read_from_the_ledger(watched: Watched) -> None:
    add_study(watched.ledger, "1.2.3")
    commit_result(watched.ledger, document("1.2.3", None, set()))
    add_study(watched.ledger, "1.2.4", listed=False)
    for state in (WorkState.DUE, WorkState.DUE, WorkState.FAILED):
        watched.add_inference(state, due_seconds_ago=60)
    assert value(watched, "chexnode_work_rows", stage="inference", state="due") == 2
    assert value(watched, "chexnode_work_rows", stage="inference", state="failed") == 1
    assert value(watched, "chexnode_work_rows", stage="delivery", destination="pacs", state="due") == 0
    assert 60 <= value(watched, "chexnode_work_overdue_seconds", stage="inference") < 600
    assert value(watched, "chexnode_worklist_studies", urgency="routine") == 1
    assert 0 <= value(watched, "chexnode_latency_seconds", until="result", quantile="0.95") < 60
    assert value(watched, "chexnode_alert", name="given_up", subject="inference") == 1
    assert value(watched, "chexnode_alert", name="ledger_down") == 0


def test_attempts_at_work_are_counted_by_how_they_ended(watched: Watched) -> None:
    def attempt(works: bool) -> Attempt:
        watched.add_inference(WorkState.DUE)
        lease = claim(watched.ledger, Inference, watched.settings.work, 1)
        assert lease is not None

        def job() -> object:
            raise PixelDataError("Cut off.")

        done = lambda: lambda session: None  # noqa: E731
        return perform(watched.ledger, lease, watched.settings.work, 1, done if works else job)  # type: ignore[arg-type]

    def counted(outcome: str) -> float:
        key = ("chexnode_work_seconds_count", frozenset({("stage", "inference"), ("outcome", outcome)}))
        return samples(local_figures()).get(key, 0.0)

    before = counted("done"), counted("given_up")
    assert (attempt(True), attempt(False)) == (Attempt.DONE, Attempt.GIVEN_UP)
    assert (counted("done"), counted("given_up")) == (before[0] + 1, before[1] + 1)


def test_without_a_ledger_the_metrics_say_so_and_still_come(watched: Watched) -> None:
    dead = watched.settings.model_copy(update={"ledger_url": "postgresql+psycopg2://chexnode@127.0.0.1:1/none"})
    shown = samples(exposition(examine(dead)).decode())
    assert shown["chexnode_ledger_up", frozenset()] == 0
    assert shown["chexnode_alert", frozenset({("name", "ledger_down"), ("subject", "")})] == 1


# -- the address ------------------------------------------------------------------------------------------------------


def page(watched: Watched, *networks: str) -> FastAPI:
    metrics = MetricsSettings.model_validate({"allowed_networks": networks})
    settings = watched.settings.model_copy(update={"metrics": metrics})
    return create_page(settings, watched.ledger, FolderObjectStore(settings.home / "objects"))


def browser(app: FastAPI, address: str, host: str) -> TestClient:
    return TestClient(app, base_url=f"http://{host}", client=(address, 50000))


def test_metrics_are_for_this_host_and_the_networks_of_the_settings(watched: Watched) -> None:
    closed, opened = page(watched), page(watched, "10.20.0.0/16", "fd00::/8")
    behind = {"X-Forwarded-For": "10.20.0.9"}
    for app, address, host, headers, status in (
        (closed, "127.0.0.1", "localhost:8080", {}, 200),
        # A page of another site that leads its own name to this host.
        (closed, "127.0.0.1", "evil.example", {}, 403),
        # A proxy that the settings do not name: anybody may stand behind it.
        (closed, "127.0.0.1", "localhost:8080", behind, 403),
        (opened, "10.20.1.7", "node.example", behind, 403),
        (closed, "10.20.1.7", "node.example", {}, 403),
        (opened, "10.20.1.7", "node.example", {}, 200),
        (opened, "10.30.1.7", "node.example", {}, 403),
        (opened, "fd00::7", "node.example", {}, 200),
    ):
        answer = browser(app, address, host).get("/metrics", headers=headers)
        assert answer.status_code == status, (address, host, headers)
        assert ("chexnode_ledger_up 1.0" in answer.text) == (status == 200)


def test_liveness_and_readiness_are_answered_to_anybody_and_say_which_part_is_missing(watched: Watched) -> None:
    probe = browser(page(watched), "10.0.0.7", "node.example")
    assert probe.get("/health/live").json() == {"status": "alive"}
    answer = probe.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    assert "receiver_down" in answer.json()["stopped_by"]


def test_the_page_shows_operators_the_alerts_and_what_to_do(watched: Watched) -> None:
    here = browser(page(watched), "127.0.0.1", "localhost:8080")
    checks = here.get("/checks").text
    assert "no receiver runs: nothing is received" in checks
    assert "Run chexnode up, or chexnode node" in checks
    # On every page, how many there are.
    assert re.search(r'class="alerts"[^>]*>\d+<span class="sr-only"> alerts', here.get("/").text)


# -- rules and dashboard ----------------------------------------------------------------------------------------------


def shown_names(watched: Watched) -> set[str]:
    """Every metric that a node shows."""
    with present(watched.ledger, "node"):
        text = exposition(examine(watched.settings)).decode()
    families = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    return families | {f"{family}{ending}" for family in families for ending in _ENDINGS}


def named(expression: str) -> set[str]:
    return set(re.findall(r"\bchexnode_\w+", expression))


def test_every_alert_has_a_rule_and_every_rule_looks_at_what_is_there(watched: Watched) -> None:
    groups = yaml.safe_load((_DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    expressions = " ".join(rule["expr"] for rule in rules)
    assert set(re.findall(r'chexnode_alert\{name="(\w+)"\}', expressions)) == {name.value for name in AlertName}
    assert named(expressions) - shown_names(watched) == set()
    assert all(
        rule["labels"]["severity"] in ("critical", "warning") and rule["annotations"]["summary"] for rule in rules
    )


def test_every_metric_of_the_dashboard_exists_and_every_metric_is_explained(watched: Watched) -> None:
    dashboard = json.loads((_DEPLOY / "grafana" / "chexnode.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    names = set().union(*(named(target["expr"]) for target in targets))
    shown = shown_names(watched)
    assert names
    assert names - shown == set()
    explained = named((_DEPLOY.parent / "docs" / "monitoring.md").read_text())
    assert explained - shown == set()
    families = {name for name in shown if not name.endswith(_ENDINGS)}
    assert families - {re.sub("_(total|info)$", "", name) for name in explained} == set()


def test_every_alert_is_explained() -> None:
    text = (_DEPLOY.parent / "docs" / "monitoring.md").read_text()
    assert [name for name in AlertName if f"`{name}`" not in text] == []
