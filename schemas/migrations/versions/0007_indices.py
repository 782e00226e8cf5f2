"""indices for large ledgers"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    under_way = sa.text("state IN ('due', 'leased')")
    op.create_index(
        "ix_delivery_open", "delivery", ["state", "due_at"], sqlite_where=under_way, postgresql_where=under_way
    )


def downgrade() -> None:
    op.drop_index("ix_delivery_open", table_name="delivery")
