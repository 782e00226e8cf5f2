"""Alembic migrations of the ledger; `chexnode db upgrade` and every start of a node apply them."""
