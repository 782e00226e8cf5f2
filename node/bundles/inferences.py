"""Inference rows: made by reception, and by planning for images that came before a bundle was active."""

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from node.ledger.ledger import now
from node.storage.removal import is_removed
from schemas.result import OrderPriority
from schemas.tables import Inference, Study, WorkState

#: What is analysed first, by the order's priority (lower goes first); studies that nobody waits for come last.
PRIORITY = {OrderPriority.STAT: 10, OrderPriority.HIGH: 50, OrderPriority.ROUTINE: 100}
BACKFILL_PRIORITY = 1000
_OF_BUNDLE = select(Inference).where(
    Inference.pixel_digest == bindparam("pixel_digest"), Inference.bundle_digest == bindparam("bundle_digest")
)


def inference_priority(study: Study) -> int:
    """The priority of the study's images."""
    return BACKFILL_PRIORITY if study.waiting_since is None else PRIORITY[OrderPriority(study.order_priority)]


def queue_inference(session: Session, pixel_digest: str, file_sha256: str, bundle_digest: str, priority: int) -> None:
    """Make the inference row of these pixels under this bundle due, unless there is one already.

    One that waits with a lower priority is moved up, and one whose output retention has removed is computed again.
    """
    known = session.scalar(_OF_BUNDLE, {"pixel_digest": pixel_digest, "bundle_digest": bundle_digest})
    if known is not None:
        if known.state == WorkState.DUE:
            known.priority = min(known.priority, priority)
        elif is_removed(known):
            known.state, known.due_at, known.attempts, known.error = WorkState.DUE, now(), 0, ""
            known.file_sha256, known.priority = file_sha256, priority
    else:
        session.add(
            Inference(
                pixel_digest=pixel_digest,
                bundle_digest=bundle_digest,
                file_sha256=file_sha256,
                priority=priority,
                due_at=now(),
                created_at=now(),
            )
        )
