"""The notice on every page: which models are active, and whether all of them are cleared for clinical use."""

import time
from dataclasses import dataclass

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from node.bundles.registry import active_bundles
from node.ledger.ledger import Ledger
from schemas.bundle import Manifest
from schemas.codes import NOT_FOR_CLINICAL_USE

log = structlog.get_logger()

_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Notice:
    """What a page says of the models before anything else."""

    #: By name; empty when none is active, or none can be read.
    models: list[Manifest]

    @property
    def words(self) -> str:
        """ "Not for clinical use" unless all models are known and cleared."""
        cleared = bool(self.models) and all(model.cleared_for_clinical_use for model in self.models)
        return "" if cleared else NOT_FOR_CLINICAL_USE

    @property
    def unproven(self) -> list[Manifest]:
        """Models that nobody has shown to work."""
        return [model for model in self.models if model.unproven]


class NoticeBoard:
    """The notice as of a second or so ago: pages that say that the ledger is out of reach must not ask the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._looked_at = float("-inf")
        self.notice = Notice([])

    def look(self) -> None:
        """Read the notice anew, unless that was done just now. Blocks."""
        if time.monotonic() - self._looked_at >= _LOOK_SECONDS:
            self.notice = _read(self._ledger)
            self._looked_at = time.monotonic()


def _read(ledger: Ledger) -> Notice:
    try:
        with ledger.read() as session:
            return Notice([each.manifest for each in active_bundles(session)])
    except (SQLAlchemyError, ValidationError) as error:
        # A model that cannot be read is not known to be cleared.
        log.warning("the registry of bundles cannot be read", error=type(error).__name__)
        return Notice([])
