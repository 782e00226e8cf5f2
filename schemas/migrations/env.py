"""Alembic environment: migrations run on the connection that node/ledger/database.py hands over."""

from alembic import context

import schemas.account_tables
import schemas.change_tables
import schemas.destination_tables  # noqa: F401
from schemas.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite cannot alter a column in place; batch mode copies the table.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
