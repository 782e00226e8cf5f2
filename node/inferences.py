"""Inference rows: made by reception, and by planning for images that came before the bundle was served."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.ledger import now
from schemas.tables import Inference


def queue_inference(session: Session, pixel_digest: str, file_sha256: str, bundle_digest: str) -> None:
    """Make the inference row of these pixels under this bundle due, unless there is one already."""
    known = select(Inference.id).where(Inference.pixel_digest == pixel_digest, Inference.bundle_digest == bundle_digest)
    if session.scalar(known) is None:
        session.add(
            Inference(
                pixel_digest=pixel_digest,
                bundle_digest=bundle_digest,
                file_sha256=file_sha256,
                due_at=now(),
                created_at=now(),
            )
        )
