"""Between a training run and a node's registry: the bundle that a new one has to match, and the new one as a candidate.

Called by `chexnode train regenerate --register` and by the training worker.
"""

from node.bundles.activation import register
from node.bundles.files import bundle_path
from node.bundles.registry import active_bundles
from node.ledger.ledger import Ledger
from schemas.settings import Settings
from training.regeneration.regenerate import Regenerated
from workers.bundle import LoadedBundle, load_bundle


def active_of_name(ledger: Ledger, settings: Settings, name: str) -> LoadedBundle | None:
    """The bundle of this name that analyses at present; None when there is none."""
    with ledger.read() as session:
        digest = next((each.digest for each in active_bundles(session) if each.manifest.name == name), None)
    return None if digest is None else load_bundle(bundle_path(settings.home, digest))


def register_candidate(ledger: Ledger, settings: Settings, made: Regenerated) -> bool:
    """Register the bundle as a candidate when its gate passed; whether it did. Safe to repeat.

    It analyses nothing until somebody activates it (`chexnode bundle activate`).
    """
    if not made.may_be_registered:
        return False
    register(ledger, settings.home, made.bundle.folder)
    return True
