"""Reception: from a received file to ledger rows, one transaction, after which the sender may be told "success".

Called by the DIMSE service and by the start-up reconciliation; both modes of running and all peers go through here.
What is decided of an object: node/intake/recording.py.
"""

from collections.abc import Sequence
from enum import StrEnum
from time import monotonic

import structlog
from sqlalchemy.orm import Session

from node.bundles.registry import routed_bundles
from node.intake.quarantine import held_studies, release_corrected
from node.intake.received import ReceivedFile
from node.intake.recording import Arrival, Recorded, Recorder, known_file
from node.intake.routing import RoutedBundle, route
from node.ledger.group_commit import GroupCommit
from node.ledger.ledger import Ledger, now
from node.reading import lock_study
from node.storage.object_store import FolderObjectStore
from schemas.settings import Settings

log = structlog.get_logger()


class Answer(StrEnum):
    """What became of a received object."""

    KEPT = "kept"
    #: Byte for byte the data set that we hold already: acknowledged and forgotten.
    DUPLICATE = "duplicate"


class ReceptionDesk:
    """Takes in received files.

    Parameters
    ----------
    ledger, store
        Where rows and bytes go. Selected images are queued for the bundles that are active in the ledger.
    """

    def __init__(self, ledger: Ledger, store: FolderObjectStore, settings: Settings) -> None:
        self._ledger = ledger
        self._store = store
        self._recorder = Recorder(store, settings)
        self._commits = GroupCommit(ledger)

    def take(self, received: ReceivedFile, calling_ae_title: str, last_byte: float) -> Answer:
        """Keep the file durably and record it. When this returns, success may be answered.

        `last_byte` is when the last byte came, on time.monotonic().
        Raises OutOfResourcesError, or the database's error: then nothing was promised.
        """
        with self._ledger.read() as session:
            known = known_file(session, received)
            bundles = routed_bundles(session)
        if known and (known.removed or self._store.path(known.sha256).exists()):
            received.path.unlink(missing_ok=True)
            return Answer.DUPLICATE
        sha256 = self._store.adopt(received.path, received.file_sha256)
        self._record(received, sha256, calling_ae_title, last_byte, bundles)
        return Answer.KEPT

    def record(self, received: ReceivedFile, sha256: str, calling_ae_title: str, last_byte: float) -> None:
        """Record a file that lies in the object store already."""
        with self._ledger.read() as session:
            bundles = routed_bundles(session)
        self._record(received, sha256, calling_ae_title, last_byte, bundles)

    def release_corrected(self) -> None:
        """Take corrected studies out of quarantine: a process may have died before it came to that."""
        with self._ledger.read() as session:
            studies = held_studies(session)
        for study_instance_uid in studies:
            release_corrected(self._ledger, self._store, self._recorder, study_instance_uid)

    def close_studies(self, study_instance_uids: set[str]) -> None:
        """The sender released its association: these studies need not wait for quiet."""

        def change(session: Session) -> None:
            for uid in sorted(study_instance_uids):
                study = lock_study(session, uid)
                if study is not None and study.result_due_at is not None:
                    study.result_due_at = now()

        self._commits.write(change, order=min(study_instance_uids))

    def _record(
        self,
        received: ReceivedFile,
        sha256: str,
        calling_ae_title: str,
        last_byte: float,
        bundles: Sequence[RoutedBundle],
    ) -> None:
        decision = route(received.header, bundles, has_pixel_data=received.has_pixel_data)

        def change(session: Session) -> Recorded:
            # A bundle that is activated just now is given what was queued for the one before by the sweep.
            arrival = Arrival(received, sha256, calling_ae_title, decision, monotonic() - last_byte)
            return self._recorder.record(session, arrival)

        recorded = self._commits.write(change, order=received.study_instance_uid)
        log.info(
            "received",
            study=received.study_instance_uid,
            instance=received.sop_instance_uid,
            calling=calling_ae_title,
            outcome=recorded.outcome or Answer.DUPLICATE,
            route=decision.reason,
        )
        for study_instance_uid in sorted(recorded.cleared):
            release_corrected(self._ledger, self._store, self._recorder, study_instance_uid)
