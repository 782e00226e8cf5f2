"""Files that are not needed any more: how they leave the object store, and when one that left is wanted again.

A key is noted in the transaction that makes it superfluous, and its file goes afterwards: a process that dies between
leaves a file too many and never one too few. Called by retention (node/storage/retention.py), reception and
reconciliation.
"""

from collections.abc import Iterable
from functools import partial

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from node.ledger.ledger import Ledger, now
from node.storage.object_store import FolderObjectStore
from schemas.change_tables import Quarantined, Removal
from schemas.tables import Inference, Instance, Picture, Reception, Result, ResultImage, Series, Study, WorkState

#: After which nobody has the file any more.
_ELSEWHERE_SECONDS = 24 * 3600.0
#: Why an image that was analysed once cannot be part of a new result; of an inference: that its output is not there.
REMOVED = "Its file was removed by retention: send the image again to have it in the result."


def note_removals(session: Session, study_id: int, keys: Iterable[str]) -> None:
    """Note that these files may go, within the caller's transaction."""
    for key in sorted(set(keys)):
        if session.get(Removal, key) is None:
            session.add(Removal(sha256=key, study_id=study_id, noted_at=now()))


def remove_noted(ledger: Ledger, store: FolderObjectStore) -> int:
    """Remove the noted files of this store that nobody has asked for again meanwhile; returns how many notes are done.

    A file that is not here may lie on another host, whose node removes it.
    """
    with ledger.read() as session:
        noted = session.execute(select(Removal.sha256, Removal.study_id, Removal.noted_at < now() - _ELSEWHERE_SECONDS))
        done = [(sha256, study_id) for sha256, study_id, is_old in noted if is_old or store.path(sha256).exists()]
    for sha256, study_id in done:
        ledger.write(partial(_remove, store=store, sha256=sha256, study_id=study_id))
    return len(done)


def is_wanted_again(pixel_digest: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """Condition: a result of a study wants the image whose file was removed."""
    return exists().where(
        Inference.pixel_digest == pixel_digest, Inference.state == WorkState.FAILED, Inference.error == REMOVED
    )


def is_removed(inference: Inference) -> bool:
    """Whether it was computed once and has no output any more: still done, or given up since a result wanted it."""
    return inference.error == REMOVED


def _remove(session: Session, *, store: FolderObjectStore, sha256: str, study_id: int) -> None:
    # Whoever takes the image in again holds the study, and looks whether the file is there.
    session.scalar(select(Study.id).where(Study.id == study_id).with_for_update())
    if not _is_needed(session, sha256, study_id):
        store.path(sha256).unlink(missing_ok=True)
    row = session.get(Removal, sha256)
    if row is not None:
        session.delete(row)


def _is_needed(session: Session, sha256: str, study_id: int) -> bool:
    """Whether it has come, or was made, again since it was noted."""
    of_study = select(Instance.id).join(Series).where(Series.study_id == study_id)
    drawn = select(Picture.id).join(ResultImage).join(Result, ResultImage.result_id == Result.id)
    uses = (
        of_study.where(Instance.file_sha256 == sha256, Instance.removed_at.is_(None)),
        of_study.join(Inference, Inference.pixel_digest == Instance.pixel_digest).where(
            Inference.output_sha256 == sha256
        ),
        drawn.where(Result.study_id == study_id, Picture.sha256 == sha256),
        select(Quarantined.id).join(Reception).where(Reception.file_sha256 == sha256),
    )
    return any(session.scalar(use.limit(1)) is not None for use in uses)
