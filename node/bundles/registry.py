"""The registry of model bundles: which ones this node knows, and which are active.

Rows in the ledger, files in the node's home under their digest. Reception, planning, workers and the page ask it at
every turn, since it may change at any time (node/bundles/activation.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import structlog
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.intake.routing import RoutedBundle
from schemas.bundle import Manifest
from schemas.errors import BundleError, ChexnodeError
from schemas.tables import Bundle, BundleState

log = structlog.get_logger()

#: A shorter beginning of a digest names nothing.
_LEAST_PREFIX = 6
_ACTIVE = select(Bundle.digest, Bundle.manifest).where(Bundle.state == BundleState.ACTIVE).order_by(Bundle.name)


class BundleNotFoundError(ChexnodeError):
    """There is no such bundle in the registry."""

    http_status = 404


class BundleStateError(ChexnodeError):
    """The registry stays as it is."""

    http_status = 409


@dataclass(frozen=True)
class ActiveBundle:
    """A bundle that analyses."""

    digest: str
    manifest: Manifest


def active_bundles(session: Session) -> list[ActiveBundle]:
    """The active bundles by name: at most one version of each.

    One whose manifest this software cannot read (another version of it has activated it) is left out; the doctor says
    so. Reception must go on in any case.
    """
    found = ((digest, parsed_manifest(manifest)) for digest, manifest in session.execute(_ACTIVE))
    return [ActiveBundle(digest, manifest) for digest, manifest in found if manifest is not None]


def routed_bundles(session: Session) -> list[RoutedBundle]:
    """What routing needs to know of the active bundles."""
    return [RoutedBundle(each.digest, each.manifest.name, each.manifest.population) for each in active_bundles(session)]


def manifest_of(session: Session, digest: str) -> Manifest:
    """The manifest of a registered bundle, active or not. Raises BundleNotFoundError or BundleError."""
    stored = session.scalar(select(Bundle.manifest).where(Bundle.digest == digest))
    if stored is None:
        raise BundleNotFoundError(f"Digest {digest[:12]}: register it with chexnode bundle activate FOLDER.")
    manifest = parsed_manifest(stored)
    if manifest is None:
        raise BundleError(f"The manifest of {digest[:12]} is not of this version of the software.")
    return manifest


def find_bundle(session: Session, wanted: str) -> Bundle:
    """The bundle of this name (the active version, else the one that was active last) or beginning of a digest.

    Raises BundleNotFoundError, or BundleStateError when several digests begin so.
    """
    of_name = session.scalars(select(Bundle).where(Bundle.name == wanted)).all()
    if of_name:
        return max(of_name, key=lambda each: (each.state == BundleState.ACTIVE, each.activated_at or 0.0, each.id))
    prefix = wanted.lower()
    found: Sequence[Bundle] = []
    if len(prefix) >= _LEAST_PREFIX and prefix.isalnum():
        found = session.scalars(select(Bundle).where(Bundle.digest.startswith(prefix))).all()
    if len(found) > 1:
        raise BundleStateError(f"{len(found)} digests begin with {prefix}: give more of it.")
    if not found:
        raise BundleNotFoundError(
            f"{wanted} is no folder, nor a name or the beginning of a digest (at least {_LEAST_PREFIX} characters) in "
            "chexnode bundle list."
        )
    return found[0]


@lru_cache(maxsize=64)
def parsed_manifest(manifest: str) -> Manifest | None:
    """A manifest as the registry keeps it; None, and logged, where this version of the software cannot read it."""
    try:
        return Manifest.model_validate_json(manifest)
    except ValidationError as error:
        log.error("the manifest of a registered bundle cannot be read", error=error)
        return None
