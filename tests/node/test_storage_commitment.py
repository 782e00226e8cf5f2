"""Storage commitment (PS3.4 annex J) with other people's software on the other side, in both roles."""

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)
from sqlalchemy import select, update

from node.commitment.due import give_up_commitment
from node.commitment.messages import FailureReason, NotCommitted, ReferencedInstance, Report
from node.commitment.report import record_report
from node.commitment.responder import CommitmentResponder
from node.commitment.service import offer_commitment
from node.delivery.worker import Deliverer
from node.intake.reception import ReceptionDesk
from node.ledger.database import upgrade
from node.ledger.ledger import Ledger
from node.network.dimse import DimseServer
from node.network.send import send_files
from node.queue import Publisher
from node.storage.object_store import FolderObjectStore
from schemas.destination_tables import CommitmentInquiry, CommitmentRequest
from schemas.settings import (
    Destination,
    DicomDestination,
    DicomSettings,
    ResultObject,
    Settings,
    WorkSettings,
)
from schemas.tables import Commitment, Delivery, DeliveryState, StoredObject, WorkState
from tests.doctor.examining import ConfiguredOrthanc
from tests.doctor.examining import orthanc as configured_orthanc
from tests.node.deliverables import add_result, deliveries
from tests.support.phantoms import write_phantom
from tests.support.processes import Running, free_port, wait_for
from tests.support.storage_scp import listens

HURRY = WorkSettings(backoff_seconds=0.01, backoff_maximum_seconds=0.02)
BOTH = [ResultObject.SEGMENTATION, ResultObject.REPORT]


class Node:
    """Receiver and delivery of one destination, in this process."""

    def __init__(self, ledger: Ledger, folder: Path, destinations: list[Destination], **dicom: Any) -> None:
        self.ledger = ledger
        self.store = FolderObjectStore(folder / "objects")
        self.settings = Settings(
            home=folder,
            dicom=DicomSettings(calling_ae_titles=["PACS", "MODALITY"], **{"port": free_port(), **dicom}),
            work=HURRY,
            destinations=destinations,
        )
        desk = ReceptionDesk(ledger, self.store, self.settings)
        self.server = DimseServer(self.settings, desk, self.store, Publisher(self.settings))
        offer_commitment(self.server, ledger, self.settings)
        self.server.start()
        self.deliverer = Deliverer(ledger, self.store, self.settings, self.settings.destinations[0])

    def deliver_until(self, what: str, condition: Callable[[], bool]) -> None:
        def done() -> bool:
            self.deliverer.deliver_due()
            return condition()

        wait_for(what, done)


@contextmanager
def node(ledger: Ledger, folder: Path, *destinations: Destination, **dicom: Any) -> Iterator[Node]:
    node = Node(ledger, folder, list(destinations), **dicom)
    try:
        yield node
    finally:
        node.server.stop()


def asked(port: int, **options: Any) -> DicomDestination:
    values = {"name": "pacs", "host": "127.0.0.1", "port": port, "ae_title": "PACS", "commitment": True}
    return DicomDestination.model_validate({**values, "timeout_seconds": 20, **options})


@dataclass(frozen=True)
class Archive:
    """An Orthanc that stores and commits. It reports on associations of its own, to where it knows the asker."""

    orthanc: ConfiguredOrthanc
    #: Where it reports to CHEXNODE. To SILENT it reports where nobody listens; STRANGER it does not know.
    node_port: int

    @property
    def dicom_port(self) -> int:
        return self.orthanc.dicom_port


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and not listening
        node_port = free_port()
        modalities = {
            "node": ["CHEXNODE", "127.0.0.1", node_port],
            "silent": ["SILENT", "127.0.0.1", nobody.getsockname()[1]],
            "sender": ["TESTSCU", "127.0.0.1", nobody.getsockname()[1]],
        }
        with configured_orthanc(tmp_path_factory.mktemp("archive"), DicomModalities=modalities) as pacs:
            yield Archive(pacs, node_port)


@pytest.fixture
def sqlite_ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Where it does not matter which database it is."""
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    upgrade(ledger)
    yield ledger
    ledger.close()


def states(ledger: Ledger) -> list[str]:
    return [each.commitment for each in deliveries(ledger, "pacs")]


def test_orthanc_commits_to_results_by_a_report_to_our_own_port(
    ledger: Ledger, tmp_path: Path, archive: Archive
) -> None:
    with node(ledger, tmp_path, asked(archive.dicom_port), port=archive.node_port) as node_:
        add_result(ledger, node_.store, ["pacs"], BOTH)
        node_.deliver_until("both are committed to", lambda: states(ledger) == [Commitment.COMMITTED] * 2)
    assert all(each.state == DeliveryState.DONE for each in deliveries(ledger, "pacs"))
    with ledger.read() as session:
        requests = session.scalars(select(CommitmentRequest)).all()
    assert all(each.reported_at for each in requests)


def test_what_the_destination_does_not_hold_is_sent_again_until_it_commits(ledger: Ledger, tmp_path: Path) -> None:
    port = free_port()
    with node(ledger, tmp_path, asked(port)) as node_:
        add_result(ledger, node_.store, ["pacs"], BOTH)
        with ledger.read() as session:
            lost = session.scalars(select(StoredObject.sop_instance_uid).order_by(StoredObject.id)).all()[0]
        command = [sys.executable, "-m", "tests.support.committing_scp", str(port), lost]
        pacs = Running(command, tmp_path / "pacs.log")
        try:
            wait_for("it listens", lambda: listens(port))
            node_.deliver_until("both are committed to", lambda: states(ledger) == [Commitment.COMMITTED] * 2)
        finally:
            pacs.stop()
    sent_again, once = deliveries(ledger, "pacs")
    assert sent_again.attempts >= 2 and sent_again.error == "" and sent_again.commitment_error == ""
    assert once.attempts < sent_again.attempts


def test_a_request_without_a_report_is_repeated_and_given_up_in_the_end(
    sqlite_ledger: Ledger, tmp_path: Path, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.commitment.request._REPORT_SECONDS", 0.2)
    ledger = sqlite_ledger
    destination = asked(archive.dicom_port, calling_ae_title="SILENT", commitment_repeat_seconds=0.01)
    with node(ledger, tmp_path, destination) as node_:
        add_result(ledger, node_.store, ["pacs"])
        node_.deliver_until("it was asked twice", lambda: deliveries(ledger, "pacs")[0].commitment_attempts >= 2)
    assert states(ledger) == [Commitment.REQUESTED]
    long_ago = update(Delivery).values(finished_at=Delivery.finished_at - 10 * 86400)
    ledger.write(lambda session: session.execute(long_ago))
    assert ledger.write(lambda session: give_up_commitment(session, destination)) == 1
    (delivery,) = deliveries(ledger, "pacs")
    assert (delivery.state, delivery.commitment) == (DeliveryState.DONE, Commitment.FAILED)
    assert "168 hours" in delivery.commitment_error


def test_a_destination_that_does_not_take_the_request_is_asked_again_and_has_the_result_all_the_same(
    sqlite_ledger: Ledger, tmp_path: Path, archive: Archive
) -> None:
    ledger = sqlite_ledger
    with node(ledger, tmp_path, asked(archive.dicom_port, calling_ae_title="STRANGER")) as node_:
        add_result(ledger, node_.store, ["pacs"])
        node_.deliver_until("the refusal is noted", lambda: bool(deliveries(ledger, "pacs")[0].commitment_error))
    (delivery,) = deliveries(ledger, "pacs")
    assert (delivery.state, delivery.commitment) == (DeliveryState.DONE, Commitment.WANTED)


def requested(ledger: Ledger, store: FolderObjectStore, *transactions: str) -> ReferencedInstance:
    """An object that was delivered to `pacs`, and asked about in each of these transactions; the last one counts."""
    add_result(ledger, store, ["pacs"])

    def change(session: Any) -> ReferencedInstance:
        delivery, stored = session.execute(select(Delivery, StoredObject).join(StoredObject)).one()
        for uid in transactions:
            session.add(CommitmentRequest(transaction_uid=uid, destination="pacs", requested_at=0.0))
        delivery.state, delivery.commitment = DeliveryState.DONE, Commitment.REQUESTED
        delivery.commitment_transaction_uid = transactions[-1]
        return ReferencedInstance(stored.sop_class_uid, stored.sop_instance_uid)

    return ledger.write(change)


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjectStore:
    return FolderObjectStore(tmp_path / "objects")


def test_a_late_report_still_commits_and_a_late_failure_changes_nothing(
    ledger: Ledger, objects: FolderObjectStore
) -> None:
    instance = requested(ledger, objects, "2.25.1", "2.25.2")

    def report(uid: str, committed: list[ReferencedInstance], failed: list[NotCommitted], name: str = "pacs") -> bool:
        return ledger.write(lambda session: record_report(session, Report(uid, committed, failed), name, HURRY))

    assert report("2.25.1", [], [NotCommitted(instance, FailureReason.NO_SUCH_INSTANCE)])
    assert states(ledger) == [Commitment.REQUESTED]
    assert not report("2.25.9", [instance], [])
    assert not report("2.25.1", [instance], [], "other")
    assert report("2.25.1", [ReferencedInstance("1.2.3", instance.sop_instance_uid)], [])
    assert states(ledger) == [Commitment.REQUESTED]
    assert report("2.25.1", [instance], [])
    assert report("2.25.2", [], [NotCommitted(instance, FailureReason.NO_SUCH_INSTANCE)])
    (delivery,) = deliveries(ledger, "pacs")
    assert (delivery.state, delivery.commitment) == (DeliveryState.DONE, Commitment.COMMITTED)


def test_only_the_destination_that_was_asked_may_report(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    ledger = sqlite_ledger
    with node(ledger, tmp_path, asked(1)) as node_:
        instance = requested(ledger, node_.store, "2.25.1")
        assert event_report(node_.settings.dicom.port, "MODALITY", "2.25.1", instance) == 0x0115
        assert event_report(node_.settings.dicom.port, "PACS", "2.25.7", instance) == 0x0115
        assert states(ledger) == [Commitment.REQUESTED]
        assert event_report(node_.settings.dicom.port, "PACS", "2.25.1", instance) == 0x0000
        assert states(ledger) == [Commitment.COMMITTED]


def event_report(port: int, calling: str, transaction_uid: str, instance: ReferencedInstance) -> int:
    """Send an N-EVENT-REPORT as SCP on an association of our own; the status."""
    entity = AE(ae_title=calling)
    entity.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    association = entity.associate("127.0.0.1", port, ae_title="CHEXNODE", ext_neg=[role])
    assert association.is_established
    status, _ = association.send_n_event_report(
        message(transaction_uid, instance), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    association.release()
    return int(status.Status)


def message(transaction_uid: str, *instances: ReferencedInstance) -> Dataset:
    """Action Information of a request, and Event Information of a report that commits to all."""
    dataset = Dataset()
    dataset.TransactionUID = transaction_uid
    dataset.ReferencedSOPSequence = []
    for each in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = each.sop_class_uid, each.sop_instance_uid
        dataset.ReferencedSOPSequence.append(item)
    return dataset


class Modality:
    """Asks the node for storage commitment, and takes the report at a port of its own."""

    def __init__(self, node_port: int, port: int) -> None:
        self._node_port = node_port
        self.reports: list[Dataset] = []
        entity = AE(ae_title="MODALITY")
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        self._server: Any = entity.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._on_report)]
        )

    def _on_report(self, event: Any) -> tuple[int, None]:
        self.reports.append(event.event_information)
        return 0, None

    def ask(self, transaction_uid: str, *instances: ReferencedInstance, calling: str = "MODALITY") -> int:
        """The status of the N-ACTION; 0x0000 is taken, -1: the SOP class is not offered."""
        entity = AE(ae_title=calling)
        entity.add_requested_context(StorageCommitmentPushModel)
        association = entity.associate("127.0.0.1", self._node_port, ae_title="CHEXNODE")
        if not association.is_established:
            return -1
        status, _ = association.send_n_action(
            message(transaction_uid, *instances), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        association.release()
        return int(status.Status)

    def report(self) -> tuple[set[str], dict[str, int]]:
        """SOP Instance UIDs that were committed to, and failure reasons by UID, of the report that comes next."""
        report = wait_for("the report comes", lambda: self.reports.pop() if self.reports else None)
        committed = {str(item.ReferencedSOPInstanceUID) for item in report.get("ReferencedSOPSequence") or []}
        failed = {
            str(item.ReferencedSOPInstanceUID): int(item.FailureReason)
            for item in report.get("FailedSOPSequence") or []
        }
        return committed, failed

    def stop(self) -> None:
        self._server.shutdown()


@pytest.fixture
def modality_port() -> int:
    return free_port()


@contextmanager
def modality(node_: Node, port: int) -> Iterator[Modality]:
    modality = Modality(node_.settings.dicom.port, port)
    try:
        yield modality
    finally:
        modality.stop()


@pytest.mark.parametrize("kind", ["orthanc", "dicom"])
def test_a_sender_is_committed_to_what_the_pacs_proves_to_hold_and_nothing_else(
    kind: str, sqlite_ledger: Ledger, tmp_path: Path, modality_port: int, archive: Archive
) -> None:
    held = write_phantom(tmp_path / "held.dcm", rows=300, columns=300)
    not_held = write_phantom(tmp_path / "not_held.dcm", study=held, rows=300, columns=300)
    kinds: dict[str, Destination] = {
        "orthanc": archive.orthanc.destination(),
        "dicom": asked(archive.dicom_port, commitment=False),
    }
    send(archive.dicom_port, "PACS", "TESTSCU", tmp_path / "held.dcm")
    options = proven_by_pacs(modality_port)
    with node(sqlite_ledger, tmp_path, kinds[kind], **options) as node_, modality(node_, modality_port) as asking:
        port = node_.settings.dicom.port
        send(port, "CHEXNODE", "MODALITY", tmp_path / "held.dcm", tmp_path / "not_held.dcm")
        unknown = ReferencedInstance(held.SOPClassUID, str(generate_uid(prefix=None)))
        other_class = ReferencedInstance("1.2.840.10008.5.1.4.1.1.7", held.SOPInstanceUID)
        named = [ReferencedInstance(each.SOPClassUID, each.SOPInstanceUID) for each in (held, not_held)]
        assert asking.ask("2.25.1", *named, unknown) == 0x0000
        responder = CommitmentResponder(sqlite_ledger, node_.settings, patience_seconds=0.0)
        responder.respond()
        committed, failed = asking.report()
        assert committed == {held.SOPInstanceUID}
        assert failed == {not_held.SOPInstanceUID: 0x0112, unknown.sop_instance_uid: 0x0112}
        assert asking.ask("2.25.2", other_class) == 0x0000
        responder.respond()
        assert asking.report() == (set(), {held.SOPInstanceUID: 0x0119})
    with sqlite_ledger.read() as session:
        assert set(session.scalars(select(CommitmentInquiry.state))) == {WorkState.DONE}


def test_a_request_outlives_the_node_and_waits_for_the_pacs_and_for_the_sender(
    ledger: Ledger, tmp_path: Path, modality_port: int, archive: Archive
) -> None:
    image = write_phantom(tmp_path / "image.dcm", rows=300, columns=300)
    instance = ReferencedInstance(image.SOPClassUID, image.SOPInstanceUID)
    options = proven_by_pacs(modality_port)
    with node(ledger, tmp_path, archive.orthanc.destination(), **options) as node_:
        send(node_.settings.dicom.port, "CHEXNODE", "MODALITY", tmp_path / "image.dcm")
        with modality(node_, modality_port) as asking:
            assert asking.ask("2.25.1", instance) == 0x0000
            # The response was lost, and it asks again.
            assert asking.ask("2.25.1", instance) == 0x0000
            assert asking.ask("2.25.1", instance, calling="PACS") == 0x0124
    # Another process: what it knows it has from the ledger. The sender is away too.
    responder = CommitmentResponder(ledger, node_.settings)

    def noted(words: str) -> bool:
        responder.respond()
        with ledger.read() as session:
            return words in session.scalars(select(CommitmentInquiry.error)).one()

    wait_for("the PACS was asked in vain", lambda: noted("does not hold all of it yet"))
    send(archive.dicom_port, "PACS", "TESTSCU", tmp_path / "image.dcm")
    wait_for("nobody takes the report", lambda: noted("MODALITY"))
    with modality(node_, modality_port) as asking:
        responder.start()
        assert asking.report() == ({image.SOPInstanceUID}, {})
        responder.stop()


def proven_by_pacs(modality_port: int) -> dict[str, Any]:
    return {
        "storage_commitment": "pacs",
        "storage_commitment_requestors": [f"MODALITY@127.0.0.1:{modality_port}"],
    }


def send(port: int, called: str, calling: str, *paths: Path) -> None:
    sent = send_files(paths, "127.0.0.1", port, called, calling)
    assert all(each.accepted for each in sent)


def test_storage_commitment_is_off_until_it_is_switched_on(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    with (
        node(sqlite_ledger, tmp_path, asked(1, commitment=False)) as node_,
        modality(node_, free_port()) as asking,
    ):
        assert asking.ask("2.25.1", ReferencedInstance("1.2", "1.2.3")) == -1
