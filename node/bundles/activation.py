"""Changing the registry: bundles are registered, activated, rolled back and retired while node and workers run.

Called by `chexnode bundle activate, rollback, retire`, and by every part that starts, for the bundle that is shipped.
"""

from pathlib import Path

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.bundles.files import keep_files
from node.bundles.handing_over import hand_over
from node.bundles.registry import BundleNotFoundError, BundleStateError
from node.ledger.ledger import Ledger, now
from schemas.bundle import Manifest, bundle_folder, read_manifest
from schemas.settings import Settings
from schemas.tables import Bundle, BundleState

log = structlog.get_logger()


def register(ledger: Ledger, home: Path, folder: Path) -> str:
    """Keep the bundle's files in the node's home and its row in the ledger; returns its digest. Safe to repeat.

    The files come first, so that a row is never without them. Raises BundleError when `folder` is no bundle.
    """
    manifest = read_manifest(folder)
    digest = keep_files(home, folder)
    ledger.write(lambda session: _add(session, digest, manifest, folder))
    return digest


def activate(session: Session, digest: str) -> Bundle | None:
    """Make a registered bundle the active one of its name; returns the one whose place it took.

    What was due under that one goes over to the new one; what is being computed may finish. Whether the bundle works
    is for the caller to know. Raises BundleNotFoundError, or BundleError when it has nothing to say.
    """
    bundle = session.scalar(select(Bundle).where(Bundle.digest == digest).execution_options(populate_existing=True))
    if bundle is None:
        raise BundleNotFoundError(f"Digest {digest[:12]}.")
    Manifest.model_validate_json(bundle.manifest).check_says_something()
    replaced = session.scalar(
        select(Bundle)
        .where(Bundle.name == bundle.name, Bundle.state == BundleState.ACTIVE)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if replaced is bundle:
        return None
    if replaced is not None:
        replaced.state = BundleState.RETIRED
        # Apart from the next statement: at no time may two of a name be active.
        session.flush()
    bundle.state, bundle.activated_at = BundleState.ACTIVE, session.scalar(select(now()))
    session.flush()
    hand_over(session)
    log.info("bundle activated", bundle=bundle.name, version=bundle.version, digest=digest[:12])
    return replaced


def before(session: Session, name: str) -> Bundle:
    """The version of `name` that was active before the one that is now, to which a rollback goes.

    Raises BundleNotFoundError for a name that nobody knows, BundleStateError when there is none.
    """
    earlier = session.scalars(
        select(Bundle)
        .where(Bundle.name == name, Bundle.state == BundleState.RETIRED, Bundle.activated_at.is_not(None))
        .order_by(Bundle.activated_at.desc(), Bundle.id.desc())
        .limit(1)
    ).one_or_none()
    if earlier is None:
        _check_name(session, name)
        raise BundleStateError(
            f"No other version of {name} was ever active: there is nothing to go back to. "
            "To take it out of service: chexnode bundle retire."
        )
    return earlier


def retire(session: Session, name: str) -> Bundle:
    """Take the active version of `name` out of service; results that it gave stay.

    Raises BundleNotFoundError for a name that nobody knows, BundleStateError when no version is active.
    """
    bundle = session.scalar(
        select(Bundle).where(Bundle.name == name, Bundle.state == BundleState.ACTIVE).with_for_update()
    )
    if bundle is None:
        _check_name(session, name)
        raise BundleStateError(f"No version of {name} is active; chexnode bundle list shows what is.")
    bundle.state = BundleState.RETIRED
    session.flush()
    hand_over(session)
    log.info("bundle retired", bundle=name, version=bundle.version, digest=bundle.digest[:12])
    return bundle


def provide_shipped(ledger: Ledger, settings: Settings) -> None:
    """Register the bundle that came with the software when it is new here; called by every part that starts.

    It becomes active when nothing is and its name was never known, and in the place of an older shipped one, also of
    one that had another name; never in the place of one that an operator chose.
    """
    folder = bundle_folder(None)
    manifest = read_manifest(folder)
    digest = keep_files(settings.home, folder)

    def change(session: Session) -> None:
        versions = session.scalars(select(Bundle).where(Bundle.name == manifest.name)).all()
        if any(each.digest == digest for each in versions):
            return
        _add(session, digest, manifest, folder)
        session.flush()
        active = session.scalars(select(Bundle).where(Bundle.state == BundleState.ACTIVE)).all()
        predecessors = [each for each in active if each.shipped]
        chosen = any(each.name == manifest.name and not each.shipped for each in active)
        if (not versions and not active) or (predecessors and not chosen):
            for each in predecessors:
                if each.name != manifest.name:
                    retire(session, each.name)
            activate(session, digest)

    ledger.write(change)


def _check_name(session: Session, name: str) -> None:
    if session.scalar(select(Bundle.id).where(Bundle.name == name).limit(1)) is None:
        raise BundleNotFoundError(f"{name} is no name in chexnode bundle list.")


def _add(session: Session, digest: str, manifest: Manifest, folder: Path) -> None:
    if session.scalar(select(Bundle.id).where(Bundle.digest == digest)) is not None:
        return
    session.add(
        Bundle(
            digest=digest,
            name=manifest.name,
            version=manifest.version,
            state=BundleState.CANDIDATE,
            manifest=manifest.model_dump_json(),
            shipped=folder.resolve() == bundle_folder(None),
            source=str(folder.resolve()),
            registered_at=now(),
        )
    )
