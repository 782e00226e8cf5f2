"""Ports and disks as they go wrong: taken, full, read-only."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from node.doctor.verdict import Status
from node.ledger.ledger import now, open_ledger
from node.monitoring.presence import present
from node.storage.object_store import FolderObjectStore
from schemas.settings import Settings
from schemas.tables import Instance, Series, Study
from tests.doctor.examining import examine


def test_a_port_that_somebody_else_has_is_named_with_who_has_it(prepared: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", prepared.dicom.port))
        other.listen()
        verdicts = examine(prepared, "ports")
    dicom = verdicts["ports.dicom"]
    assert dicom.status == Status.FAILED
    assert f"127.0.0.1:{prepared.dicom.port} is taken by process {os.getpid()}" in dicom.found
    assert "CHEXNODE_DICOM__PORT" in dicom.to_do
    assert verdicts["ports.page"].status == Status.OK and "is free" in verdicts["ports.page"].found


def test_without_a_ledger_nobody_can_say_whose_the_port_is(bare: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", bare.page.port))
        other.listen()
        verdict = examine(bare, "ports.page")["ports.page"]
    assert verdict.status == Status.WARNING
    assert f"process {os.getpid()}" in verdict.found and "without the ledger" in verdict.found


def test_our_own_part_may_have_its_port_and_should_not_leave_it_free(prepared: Settings) -> None:
    ledger = open_ledger(prepared)
    with present(ledger, "page"), socket.socket() as own:
        idle = examine(prepared, "ports.page")["ports.page"]
        own.bind(("127.0.0.1", prepared.page.port))
        own.listen()
        serving = examine(prepared, "ports.page")["ports.page"]
    ledger.close()
    assert idle.status == Status.FAILED and "is free although" in idle.found and "restart chexnode page" in idle.to_do
    assert serving.status == Status.OK and f"process {os.getpid()}" in serving.found


def test_an_address_that_this_host_does_not_have_is_named(bare: Settings) -> None:
    bare.dicom.host = "192.0.2.1"  # RFC 5737: nobody's
    verdict = examine(bare, "ports.dicom")["ports.dicom"]
    assert verdict.status == Status.FAILED
    assert "192.0.2.1" in verdict.found and "dicom.port" in verdict.to_do


def test_a_full_and_a_read_only_disk_are_told_apart(bare: Settings, small_disk: Callable[..., Path]) -> None:
    bare.home = small_disk() / "home"
    verdicts = examine(bare, "disk")
    assert verdicts["disk.store"].status == Status.OK and "can be made" in verdicts["disk.store"].found
    assert verdicts["disk.space"].status == Status.FAILED
    assert "0.0 GB free" in verdicts["disk.space"].found and "0xA700" in verdicts["disk.space"].to_do

    store = FolderObjectStore(bare.home / "objects")
    filled = store.incoming / "filled"
    with filled.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space left"):
        while True:
            stream.write(bytes(1 << 20))
    full = examine(bare, "disk")["disk.store"]
    assert full.status == Status.FAILED
    assert "No space left on device" in full.found and "Free space" in full.to_do
    assert list(store.incoming.iterdir()) == [filled]

    filled.unlink()
    small_disk("ro")
    read_only = examine(bare, "disk")["disk.store"]
    assert read_only.status == Status.FAILED
    assert "Read-only file system" in read_only.found and "mounted read-only" in read_only.to_do


def test_the_space_is_given_in_studies_like_those_that_came(prepared: Settings) -> None:
    store = FolderObjectStore(prepared.home / "objects")
    sha256 = store.put(bytes(2_000_000))
    ledger = open_ledger(prepared)

    def add(number: int) -> None:
        study = Study(
            study_instance_uid=f"2.25.{number}", first_received_at=now(), last_received_at=now(), changed_at=now()
        )
        series = Series(study=study, series_instance_uid=f"2.25.1{number}")
        instance = Instance(
            series=series,
            sop_instance_uid=f"2.25.2{number}",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            file_sha256=sha256,
            dataset_digest="-",
            pixel_digest="-",
            header_digest="-",
            received_at=now(),
            selected=True,
            route_reason="-",
            route_explanation="-",
        )
        ledger.write(lambda session: session.add(instance))

    add(1)
    found = examine(prepared, "disk.space")["disk.space"].found
    ledger.close()
    assert "enough for about" in found and "studies of 2.0 MB" in found
