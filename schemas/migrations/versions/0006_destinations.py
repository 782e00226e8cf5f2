"""destinations and storage commitment"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "destination_state",
        sa.Column("destination", sa.String(length=32), nullable=False),
        sa.Column("breaker", sa.String(length=16), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failed_delivery_id", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("failed_at", sa.Double(), nullable=True),
        sa.Column("succeeded_at", sa.Double(), nullable=True),
        sa.Column("opened_at", sa.Double(), nullable=True),
        sa.Column("probe_at", sa.Double(), nullable=True),
        sa.CheckConstraint("breaker IN ('closed', 'open')", name=op.f("ck_destination_state_breaker")),
        sa.PrimaryKeyConstraint("destination", name=op.f("pk_destination_state")),
    )
    op.create_table(
        "commitment_request",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=32), nullable=False),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("reported_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment_request")),
        sa.UniqueConstraint("transaction_uid", name=op.f("uq_commitment_request_transaction_uid")),
    )
    op.create_table(
        "commitment_inquiry",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.String(length=32), nullable=True),
        sa.Column("lease_expires_at", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.CheckConstraint("state IN ('due', 'leased', 'done', 'failed')", name=op.f("ck_commitment_inquiry_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment_inquiry")),
        sa.UniqueConstraint("transaction_uid", "calling_ae_title", name=op.f("uq_commitment_inquiry_transaction_uid")),
    )
    with op.batch_alter_table("commitment_inquiry", schema=None) as batch_op:
        batch_op.create_index("ix_commitment_inquiry_claim", ["state", "priority", "due_at"], unique=False)
    op.create_table(
        "inquired_instance",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("inquiry_id", sa.Integer(), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["inquiry_id"], ["commitment_inquiry.id"], name=op.f("fk_inquired_instance_inquiry_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inquired_instance")),
    )
    with op.batch_alter_table("inquired_instance", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_inquired_instance_inquiry_id"), ["inquiry_id"], unique=False)
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        batch_op.add_column(sa.Column("taken_up_at", sa.Double(), nullable=True))
        # What was delivered before is not asked about.
        batch_op.add_column(sa.Column("commitment", sa.String(length=16), nullable=False, server_default="not_wanted"))
        batch_op.add_column(sa.Column("commitment_due_at", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("commitment_attempts", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("commitment_transaction_uid", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("commitment_error", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        for column in ("commitment", "commitment_attempts", "commitment_error"):
            batch_op.alter_column(column, server_default=None)
        batch_op.drop_constraint(batch_op.f("ck_delivery_state"), type_="check")
        batch_op.create_check_constraint("state", "state IN ('due', 'leased', 'done', 'failed', 'withdrawn')")
        batch_op.create_check_constraint(
            "commitment", "commitment IN ('not_wanted', 'wanted', 'requested', 'committed', 'failed')"
        )
        batch_op.create_index(
            batch_op.f("ix_delivery_commitment_transaction_uid"), ["commitment_transaction_uid"], unique=False
        )
        batch_op.create_index(
            "ix_delivery_commitment", ["destination", "commitment", "commitment_due_at"], unique=False
        )


def downgrade() -> None:
    # An older version knows no withdrawal: what is not to be sent is given up there.
    op.execute("UPDATE delivery SET state = 'failed' WHERE state = 'withdrawn'")
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        batch_op.drop_index("ix_delivery_commitment")
        batch_op.drop_index(batch_op.f("ix_delivery_commitment_transaction_uid"))
        batch_op.drop_constraint(batch_op.f("ck_delivery_commitment"), type_="check")
        batch_op.drop_constraint(batch_op.f("ck_delivery_state"), type_="check")
        batch_op.create_check_constraint("state", "state IN ('due', 'leased', 'done', 'failed')")
        for column in (
            "commitment_error",
            "commitment_transaction_uid",
            "commitment_attempts",
            "commitment_due_at",
            "commitment",
            "taken_up_at",
        ):
            batch_op.drop_column(column)
    op.drop_table("inquired_instance")
    op.drop_table("commitment_inquiry")
    op.drop_table("commitment_request")
    op.drop_table("destination_state")
