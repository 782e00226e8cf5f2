"""Ledgers of before quarantine and rejections go up and down with what is in them."""

from sqlalchemy import text

from node.ledger.database import downgrade, upgrade
from node.ledger.ledger import Ledger

_RECEPTION = (
    "INSERT INTO reception (id, study_instance_uid, sop_instance_uid, file_sha256, dataset_digest, calling_ae_title, "
    "received_at, outcome, detail) VALUES (1, '1.2', '1.2.3', 'f', 'd', 'A', 0, 'conflict', 'Known elsewhere.')"
)


def test_what_was_kept_as_a_conflict_is_in_quarantine_and_goes_back(ledger: Ledger) -> None:
    downgrade(ledger, "0004")
    with ledger.engine.begin() as connection:
        connection.execute(text(_RECEPTION))
    upgrade(ledger)
    with ledger.engine.begin() as connection:
        assert connection.execute(text("SELECT outcome, detail FROM reception")).all() == [
            ("quarantined", "Known elsewhere.")
        ]
        assert connection.execute(text("SELECT reception_id, contradiction FROM quarantined")).all() == [
            (1, "other_study")
        ]
        connection.execute(text("UPDATE reception SET outcome = 'restored'"))
    downgrade(ledger, "0004")
    with ledger.engine.begin() as connection:
        assert connection.execute(text("SELECT outcome FROM reception")).all() == [("header_changed",)]
    upgrade(ledger)
