"""What must hold after whatever happened, seen from outside: the store's files, the PACS, the ledger's last word."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from dicomweb_client import DICOMwebClient
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.ledger.ledger import Ledger
from schemas.tables import (
    Commitment,
    Delivery,
    DeliveryState,
    Inference,
    Instance,
    Reception,
    Result,
    ResultImage,
    Series,
    StoredObject,
    Study,
    WorkState,
)


class InvariantBroken(AssertionError):  # noqa: N818 - reads as what it says
    """Something that was acknowledged is lost or doubled, or waits for ever."""


@dataclass(frozen=True)
class Expected:
    """One study that was sent and acknowledged."""

    study_instance_uid: str
    #: Its files, each sent at least once and answered with success.
    files: list[Path]


def dataset_sha256(path: Path) -> str:
    """SHA-256 of a Part 10 file after its file meta information (PS3.10 section 7.1), which each receiver writes."""
    content = path.read_bytes()
    if content[128:132] != b"DICM":
        return ""
    # Group Length (0002,0000): tag, VR, length of 12 bytes, and a value that counts what follows of the group.
    return hashlib.sha256(content[144 + int.from_bytes(content[140:144], "little") :]).hexdigest()


def check_store(root: Path, studies: Iterable[Expected], since: float) -> None:
    """Every acknowledged instance is in the store, byte for byte, under its own SHA-256.

    Parameters
    ----------
    since
        Only files that were written after this time, seconds since 1970.
    """
    there = set()
    for path in root.glob("??/??/*"):
        if path.stat().st_mtime < since:
            continue
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
            raise InvariantBroken(f"lost: {path.name} in the store has another content than its name says")
        there.add(dataset_sha256(path))
    for study in studies:
        for each in study.files:
            if dataset_sha256(each) not in there:
                raise InvariantBroken(f"lost: {each.name} was acknowledged and is not in the store")


def check_ledger(ledger: Ledger, studies: Iterable[Expected]) -> None:
    """Nothing is given up or forgotten, each instance was taken in once, and one result of each study is current."""
    with ledger.read() as session:
        for study in studies:
            _check_study(session, study)


def _check_study(session: Session, expected: Expected) -> None:
    name = expected.study_instance_uid
    row = session.scalar(select(Study).where(Study.study_instance_uid == name))
    if row is None:
        raise InvariantBroken(f"lost: the ledger does not know study {name}")
    received = Counter(session.scalars(select(Reception.sop_instance_uid).where(Reception.study_instance_uid == name)))
    for path in expected.files:
        times = received[dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID]
        if times != 1:
            raise InvariantBroken(f"{'doubled' if times else 'lost'}: {path.name} was taken in {times} times")
    results = session.scalars(select(Result).where(Result.study_id == row.id)).all()
    current = [each for each in results if each.current]
    if len(current) != 1:
        raise InvariantBroken(f"{'doubled' if current else 'lost'}: {len(current)} current results of study {name}")
    if current[0].version > len(expected.files):
        raise InvariantBroken(
            f"doubled: version {current[0].version} of study {name}, which never had more than "
            f"{len(expected.files)} images"
        )
    inferences = select(Inference).join(ResultImage, ResultImage.inference_id == Inference.id)
    works: list[Inference | Result | Delivery] = [
        *session.scalars(inferences.where(ResultImage.result_id == current[0].id)),
        *session.scalars(select(Delivery).where(Delivery.result_id == current[0].id)),
        *results,
    ]
    for work in works:
        # Both enumerations call it "done".
        if work.state != WorkState.DONE:
            raise InvariantBroken(f"not done: {work.__tablename__} of study {name} is {work.state}: {work.error}")


def settled(ledger: Ledger, studies: Iterable[Expected], destination: str | None = None) -> Callable[[], bool]:
    """Whether every image of every study is in a current result that is delivered, and safe there."""

    def condition() -> bool:
        with ledger.read() as session:
            return all(_is_settled(session, study, destination) for study in studies)

    return condition


def account(ledger: Ledger, studies: Iterable[Expected]) -> str:
    """How far the work on the studies is, a line for each row: what a trial that waited in vain leaves to look at."""
    lines = []
    with ledger.read() as session:
        for expected in studies:
            study = session.scalar(select(Study).where(Study.study_instance_uid == expected.study_instance_uid))
            if study is None:
                lines.append(f"{expected.study_instance_uid}: unknown")
                continue
            pixels = select(Instance.pixel_digest).join(Series).where(Series.study_id == study.id)
            results = session.scalars(select(Result).where(Result.study_id == study.id)).all()
            rows: list[Inference | Result | Delivery] = [
                *session.scalars(select(Inference).where(Inference.pixel_digest.in_(pixels))),
                *results,
                *session.scalars(select(Delivery).where(Delivery.result_id.in_([each.id for each in results]))),
            ]
            lines.append(
                f"{expected.study_instance_uid}: {len(expected.files)} files, result due {study.result_due_at}"
            )
            lines += [_row(each) for each in rows]
    return "\n".join(lines)


def _row(row: Inference | Result | Delivery) -> str:
    columns = (
        "state",
        "destination",
        "current",
        "version",
        "attempts",
        "due_at",
        "lease_expires_at",
        "commitment",
        "error",
    )
    shown = [f"{name} {getattr(row, name)}" for name in columns if getattr(row, name, None) not in (None, "")]
    return f"  {row.__tablename__} {row.id}: {', '.join(shown)}"


def _is_settled(session: Session, expected: Expected, destination: str | None) -> bool:
    study = session.scalar(select(Study).where(Study.study_instance_uid == expected.study_instance_uid))
    if study is None or study.result_due_at is not None:
        return False
    known = select(Instance.id).join(Series).where(Series.study_id == study.id)
    if len(session.scalars(known).all()) < len(expected.files):
        return False
    current = select(Result).where(Result.study_id == study.id, Result.current)
    result = session.scalars(current).one_or_none()
    if result is None or len(result.images) < len(expected.files):
        return False
    query = select(Delivery).where(Delivery.result_id == result.id)
    if destination is not None:
        query = query.where(Delivery.destination == destination)
    deliveries = session.scalars(query).all()
    safe = {Commitment.NOT_WANTED, Commitment.COMMITTED}
    return bool(deliveries) and all(each.state == DeliveryState.DONE and each.commitment in safe for each in deliveries)


def check_pacs(url: str, ledger: Ledger, studies: Iterable[Expected]) -> None:
    """The PACS holds each object of the current result once, nothing that the ledger does not know, one last report."""
    client = DICOMwebClient(f"{url}/dicom-web")
    for study in studies:
        found = client.search_for_instances(study.study_instance_uid)
        there = Counter(each["00080018"]["Value"][0] for each in found)
        with ledger.read() as session:
            rows = session.execute(
                select(StoredObject.sop_instance_uid, Result.current)
                .join(Result, StoredObject.result_id == Result.id)
                .join(Study, Result.study_id == Study.id)
                .where(Study.study_instance_uid == study.study_instance_uid, StoredObject.sha256.is_not(None))
            ).all()
        for uid, current in rows:
            if current and there[uid] != 1:
                raise InvariantBroken(f"{'doubled' if there[uid] else 'lost'}: the PACS holds {uid} {there[uid]} times")
        if unknown := set(there) - {uid for uid, _ in rows}:
            raise InvariantBroken(f"doubled: the PACS holds {len(unknown)} objects that the ledger does not know")
        reports = [
            client.retrieve_instance(*(each[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")))
            for each in found
            if each["00080016"]["Value"][0] == Comprehensive3DSRStorage
        ]
        _check_reports(reports, study)


def _check_reports(reports: list[Dataset], study: Expected) -> None:
    """Each report but the last is the predecessor of another, and the last one is about every image."""
    replaced = {
        item.ReferencedSOPInstanceUID
        for report in reports
        for before in report.get("PredecessorDocumentsSequence", [])
        for series in before.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    last = [report for report in reports if report.SOPInstanceUID not in replaced]
    if len(last) != 1:
        raise InvariantBroken(
            f"{'doubled' if last else 'lost'}: {len(last)} reports of study {study.study_instance_uid} that no other "
            "replaces"
        )
    about = {
        item.ReferencedSOPInstanceUID
        for evidence in last[0].CurrentRequestedProcedureEvidenceSequence
        for series in evidence.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    for path in study.files:
        if dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID not in about:
            raise InvariantBroken(f"lost: the report is not about {path.name}")
