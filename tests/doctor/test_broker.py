"""The broker is tried on a queue of the doctor's own, of which nothing is left."""

import time
from pathlib import Path

import redis

from node.doctor.verdict import Status
from node.queue import ANALYSIS, make_celery
from schemas.settings import Settings
from tests.conftest import Mode
from tests.doctor.examining import examine, silent_port
from tests.support.processes import free_port


def traces(settings: Settings) -> set[str]:
    """Everything that the broker holds."""
    if settings.broker_url:
        return {key.decode() for key in redis.Redis.from_url(settings.broker_url).scan_iter()}
    return {path.name for path in (settings.home / "broker").rglob("*") if path.is_file()}


def test_a_message_comes_back_and_the_real_queues_are_only_counted(prepared: Settings, mode: Mode) -> None:
    make_celery(prepared).send_task(ANALYSIS, queue=ANALYSIS)
    before = traces(prepared)
    verdict = examine(prepared, "broker")["broker.round-trip"]
    assert verdict.status == Status.OK
    assert "gave a message back" in verdict.found and "1 message waits" in verdict.found
    assert traces(prepared) == before


def test_a_broker_that_is_down_or_hangs_is_named_without_its_password(bare: Settings) -> None:
    with silent_port() as silent:
        for port in (free_port(), silent):
            bare.broker_url = f"redis://:geheim@127.0.0.1:{port}/0"
            started = time.monotonic()
            verdict = examine(bare, "broker")["broker.round-trip"]
            assert time.monotonic() - started < 20
            assert verdict.status == Status.FAILED
            assert "the broker does not answer" in verdict.found and "broker_url" in verdict.to_do
            assert "geheim" not in str(verdict)


def test_a_file_broker_that_cannot_be_written_is_named(bare: Settings) -> None:
    bare.home.mkdir()
    Path(bare.home / "broker").touch()
    verdict = examine(bare, "broker")["broker.round-trip"]
    assert verdict.status == Status.FAILED
    assert "the file-system broker does not answer" in verdict.found
    assert str(bare.home / "broker") in verdict.to_do
