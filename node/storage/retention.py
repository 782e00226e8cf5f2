"""Retention: images of studies that are done leave the object store by age, and when the disk runs out of space.

What goes: the received files, the networks' outputs, the pictures of the page. What stays: every row, the result
objects with their bytes (they can be delivered again), and everything that is not done: not analysed, not delivered,
not committed, in quarantine. Run by the sweep; shown by `chexnode storage status`.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from node.ledger.ledger import Ledger, now
from node.reading import lock_study
from node.storage.object_store import FolderObjectStore
from node.storage.removal import REMOVED, note_removals, remove_noted
from schemas.change_tables import Quarantined, Withdrawal
from schemas.settings import StorageSettings
from schemas.tables import (
    Commitment,
    Delivery,
    DeliveryState,
    Inference,
    Instance,
    Picture,
    Reception,
    Result,
    ResultImage,
    Series,
    Study,
    WorkState,
)

log = structlog.get_logger()

#: Between two looks; and how many studies go at a time, so that the sweep is not held up.
_LOOK_SECONDS = 30.0
_BATCH = 20
_DAY_SECONDS = 86400.0


@dataclass(frozen=True)
class Space:
    """Of the file system of the object store, bytes."""

    free: int
    total: int


def space(store: FolderObjectStore) -> Space:
    """What this user can still write there. Raises OSError."""
    disk = os.statvfs(store.root)
    return Space(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)


class Retention:
    """Removes what the settings allow to go, some studies at a time."""

    def __init__(self, ledger: Ledger, store: FolderObjectStore, settings: StorageSettings) -> None:
        self._ledger = ledger
        self._store = store
        self._settings = settings
        self._next_look = 0.0

    def look(self) -> int:
        """Remove the next studies when it is time to look; returns how many. Called by every sweep."""
        if time.monotonic() < self._next_look:
            return 0
        removed = self.once()
        if not removed:
            # With more to come the next sweep goes on.
            self._next_look = time.monotonic() + _LOOK_SECONDS
        return removed

    def once(self) -> int:
        """Remove the next studies that are too old, or the oldest while space is short; returns how many."""
        too_old = self._remove_old()
        # One by one: the next may not be needed any more.
        short = 0
        while too_old + short < _BATCH and self._is_short() and (oldest := self._oldest_here()):
            short += self._ledger.write(lambda session, uid=oldest: _remove_study(session, uid))  # type: ignore[misc]
            remove_noted(self._ledger, self._store)
        remove_noted(self._ledger, self._store)
        return too_old + short

    def _is_short(self) -> bool:
        wanted = self._settings.keep_free_bytes
        return wanted > 0 and space(self._store).free < wanted

    def _oldest_here(self) -> str | None:
        """The oldest study that may go and has a file in this store: what lies on another host frees nothing here."""
        with self._ledger.read() as session:
            files = (
                select(Study.study_instance_uid, Instance.file_sha256)
                .join(Series, Series.study_id == Study.id)
                .join(Instance)
                .where(*removable())
                .order_by(Study.last_received_at, Study.id)
            )
            found = session.execute(files.execution_options(yield_per=_BATCH))
            return next((uid for uid, sha256 in found if self._store.path(sha256).exists()), None)

    def _remove_old(self) -> int:
        if self._settings.retention_days is None:
            return 0
        with self._ledger.read() as session:
            candidates = session.scalars(
                select(Study.study_instance_uid)
                .where(Study.last_received_at < now() - self._settings.retention_days * _DAY_SECONDS, *removable())
                .order_by(Study.last_received_at, Study.id)
                .limit(_BATCH)
            ).all()
        return sum(self._ledger.write(lambda session, uid=uid: _remove_study(session, uid)) for uid in candidates)  # type: ignore[misc]


def removable() -> Sequence[ColumnElement[bool]]:
    """Conditions on `Study`: it has files, it is done, and everybody has what they are to have of it."""
    of_study = Series.study_id == Study.id
    analysed = (
        select(Inference.id)
        .join(Instance, Instance.pixel_digest == Inference.pixel_digest)
        .join(Series)
        .where(of_study, Inference.state != WorkState.DONE, Inference.error != REMOVED)
    )
    later = aliased(Result)
    made = (
        select(Result.id)
        .where(Result.study_id == Study.id, Result.state != WorkState.DONE)
        # One that was given up, and that a later version has replaced, is over.
        .where(
            or_(
                Result.state != WorkState.FAILED,
                ~exists().where(
                    later.study_id == Result.study_id,
                    later.bundle_name == Result.bundle_name,
                    later.version > Result.version,
                ),
            )
        )
    )
    of_result = Result.study_id == Study.id
    drawn = (
        select(Picture.id)
        .join(ResultImage)
        .join(Result, ResultImage.result_id == Result.id)
        .where(of_result, Picture.state.in_([WorkState.DUE, WorkState.LEASED]))
    )
    sent = (
        select(Delivery.id)
        .join(Result, Delivery.result_id == Result.id)
        .where(of_result)
        .where(
            or_(
                Delivery.state.not_in([DeliveryState.DONE, DeliveryState.WITHDRAWN]),
                Delivery.commitment.in_([Commitment.WANTED, Commitment.REQUESTED, Commitment.FAILED]),
            )
        )
    )
    withdrawn = select(Withdrawal.id).join(Result).where(of_result, Withdrawal.state != WorkState.DONE)
    quarantined = select(Quarantined.id).join(Reception).where(Reception.study_instance_uid == Study.study_instance_uid)
    unfinished = (analysed, made, drawn, sent, withdrawn, quarantined)
    return (
        Study.removed_at.is_(None),
        Study.result_due_at.is_(None),
        *(~each.correlate(Study).exists() for each in unfinished),
    )


def _remove_study(session: Session, study_instance_uid: str) -> bool:
    """Note that the study's files may go. Whether it could: something may have come meanwhile."""
    study = lock_study(session, study_instance_uid)
    if study is None or session.scalar(select(Study.id).where(Study.id == study.id, *removable())) is None:
        return False
    instances = session.scalars(select(Instance).join(Series).where(Series.study_id == study.id)).all()
    keys = {each.file_sha256 for each in instances}
    # Also of versions that were replaced.
    keys.update(
        session.scalars(select(Reception.file_sha256).where(Reception.study_instance_uid == study_instance_uid))
    )
    for instance in instances:
        instance.removed_at = session.scalar(select(now()))
    session.flush()
    keys.update(_outputs(session, {each.pixel_digest for each in instances}))
    pictures = session.scalars(
        select(Picture)
        .join(ResultImage)
        .join(Result, ResultImage.result_id == Result.id)
        .where(Result.study_id == study.id, Picture.sha256.is_not(None))
    )
    for picture in pictures:
        assert picture.sha256
        keys.add(picture.sha256)
        picture.sha256 = None
    note_removals(session, study.id, keys)
    study.changed_at = study.removed_at = now()
    log.info("files removed by retention", study=study_instance_uid, files=len(keys))
    return True


def _outputs(session: Session, pixel_digests: set[str]) -> set[str]:
    """Keys of outputs that no image needs any more; their inferences have none from now on."""
    still = aliased(Instance)
    superfluous = session.scalars(
        select(Inference).where(
            Inference.pixel_digest.in_(pixel_digests),
            Inference.output_sha256.is_not(None),
            # The same pixels may be an image of another study too.
            ~exists().where(still.pixel_digest == Inference.pixel_digest, still.removed_at.is_(None)),
        )
    ).all()
    keys = set()
    for inference in superfluous:
        assert inference.output_sha256
        keys.add(inference.output_sha256)
        inference.output_sha256, inference.error = None, REMOVED
    return keys


def count_removable(session: Session) -> int:
    """Studies whose files could go now."""
    return session.scalar(select(func.count()).select_from(Study).where(*removable())) or 0


def oldest_kept(session: Session) -> float | None:
    """When the oldest study that still has its files came last, seconds since 1970 UTC; None without any."""
    return session.scalar(select(func.min(Study.last_received_at)).where(Study.removed_at.is_(None)))
