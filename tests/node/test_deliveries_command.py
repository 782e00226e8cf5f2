"""`chexnode deliveries`: what an operator sees of what is not delivered, and can do about it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import update

from node.delivery.breaker import note_failure
from node.delivery.command import deliveries_group
from node.ledger.database import upgrade
from node.ledger.ledger import Ledger
from node.storage.object_store import FolderObjectStore
from schemas.errors import DestinationDownError
from schemas.settings import SETTINGS_VARIABLE, FolderDestination
from schemas.tables import Commitment, Delivery, DeliveryState
from tests.node.deliverables import add_result, deliveries


@pytest.fixture
def given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """Two deliveries to `out` of which the first was given up, one to `other`."""
    path = tmp_path / "chexnode.toml"
    path.write_text(f'home = "{tmp_path}"\n')
    monkeypatch.setenv(SETTINGS_VARIABLE, str(path))
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    upgrade(ledger)
    store = FolderObjectStore(tmp_path / "objects")
    for names in (["out"], ["out", "other"]):
        add_result(ledger, store, names)
    first = deliveries(ledger, "out")[0].id
    change(ledger, first, state=DeliveryState.FAILED, error="It refused [for good].", attempts=3)
    yield ledger
    ledger.close()


def change(ledger: Ledger, delivery: int, **values: Any) -> None:
    ledger.write(lambda session: session.execute(update(Delivery).where(Delivery.id == delivery).values(**values)))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(deliveries_group, arguments, catch_exceptions=False)


def listed(*arguments: str) -> dict[str, Any]:
    document = json.loads(run("list", "--json", *arguments).stdout)
    assert isinstance(document, dict)
    return document


def test_what_was_given_up_is_listed_first_with_its_reason(given_up: Ledger) -> None:
    lines = listed()["deliveries"]
    assert [each["state"] for each in lines] == ["failed", "due", "due"]
    assert lines[0]["words"] == "It refused [for good]."
    assert lines[0]["due_at"] is None
    assert "It refused" in run("list").stdout
    assert [each["destination"] for each in listed("--destination", "other")["deliveries"]] == ["other"]
    assert [each["state"] for each in listed("--state", "failed")["deliveries"]] == ["failed"]
    assert listed("--state", "done")["deliveries"] == []


def test_retry_takes_up_again_what_was_given_up_and_its_time_begins_anew(given_up: Ledger) -> None:
    assert "2 due again" in run("retry", "--destination", "out").stdout
    first, _ = deliveries(given_up, "out")
    assert first.state == DeliveryState.DUE and first.attempts == 0 and first.taken_up_at is not None
    (other,) = deliveries(given_up, "other")
    assert other.taken_up_at is None
    assert "3 due again" in run("retry", "--all").stdout


def test_drop_ends_a_delivery_with_the_reason_and_retry_by_id_brings_it_back(given_up: Ledger) -> None:
    first, second = (each.id for each in deliveries(given_up, "out"))
    assert run("drop", str(first), "--why", "patient moved").exit_code == 0
    dropped = deliveries(given_up, "out")[0]
    assert (dropped.state, dropped.error) == (DeliveryState.WITHDRAWN, "Dropped: patient moved")
    run("retry", "--all")
    assert deliveries(given_up, "out")[0].state == DeliveryState.WITHDRAWN
    run("retry", str(first))
    assert deliveries(given_up, "out")[0].state == DeliveryState.DUE
    change(given_up, second, state=DeliveryState.DONE)
    refused = run("drop", str(second), "--why", "too late")
    assert refused.exit_code == 1 and deliveries(given_up, "out")[1].state == DeliveryState.DONE


def test_a_destination_that_is_left_alone_is_named_and_retry_tries_it_at_once(given_up: Ledger, tmp_path: Path) -> None:
    destination = FolderDestination(name="out", path=tmp_path, failures_until_open=1, probe_seconds=3600)
    given_up.write(lambda session: note_failure(session, destination, 1, DestinationDownError("No route.")))
    (before,) = listed()["left_alone"]
    assert "No route." in before["error"]
    assert "left alone" in run("list").stdout
    run("retry", "--destination", "out")
    (after,) = listed()["left_alone"]
    assert after["probe_at"] < before["probe_at"] - 2000


def test_retry_asks_again_for_a_commitment_that_was_given_up(given_up: Ledger) -> None:
    (other,) = deliveries(given_up, "other")
    change(given_up, other.id, state=DeliveryState.DONE, commitment=Commitment.FAILED, commitment_error="It is silent.")
    assert listed("--state", "done")["deliveries"][0]["words"] == "It is silent."
    run("retry", "--destination", "other")
    (other,) = deliveries(given_up, "other")
    assert (other.state, other.commitment) == (DeliveryState.DONE, Commitment.WANTED)


@pytest.mark.parametrize("arguments", [[], ["--all", "7"], ["--all", "--destination", "out"]])
def test_retry_wants_to_know_exactly_what(given_up: Ledger, arguments: list[str]) -> None:
    assert run("retry", *arguments).exit_code == 2
