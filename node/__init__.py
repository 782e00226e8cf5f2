"""Everything that faces the hospital: DIMSE services, routing, object store, ledger, queue, delivery, triage."""
