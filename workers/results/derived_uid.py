"""UIDs that a result object needs besides the minted ones."""

import hashlib
import uuid

from pydicom.uid import UID


def derived_uid(*parts: str) -> UID:
    """A UID under 2.25 (PS3.5 B.2) that is a function of `parts` alone; the first part is a minted UID or a digest."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}")
