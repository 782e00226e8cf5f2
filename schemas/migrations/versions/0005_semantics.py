"""rejections, quarantine, withdrawals, retention"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_REASONS = "reason IN ('113037', '113038', '113001', '113039')"


def upgrade() -> None:
    op.create_table(
        "rejection",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("note_sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("noted_at", sa.Double(), nullable=False),
        sa.Column("lifted_at", sa.Double(), nullable=True),
        sa.CheckConstraint(_REASONS, name=op.f("ck_rejection_reason")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rejection")),
        sa.UniqueConstraint(
            "note_sop_instance_uid", "sop_instance_uid", name=op.f("uq_rejection_note_sop_instance_uid")
        ),
    )
    with op.batch_alter_table("rejection", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rejection_sop_instance_uid"), ["sop_instance_uid"], unique=False)
        batch_op.create_index(batch_op.f("ix_rejection_study_instance_uid"), ["study_instance_uid"], unique=False)
    op.create_table(
        "quarantined",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("reception_id", sa.Integer(), nullable=False),
        sa.Column("contradiction", sa.String(length=16), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("pixel_digest", sa.String(length=64), nullable=False),
        sa.CheckConstraint(
            "contradiction IN ('other_patient', 'other_study')", name=op.f("ck_quarantined_contradiction")
        ),
        sa.ForeignKeyConstraint(["reception_id"], ["reception.id"], name=op.f("fk_quarantined_reception_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantined")),
        sa.UniqueConstraint("reception_id", name=op.f("uq_quarantined_reception_id")),
    )
    op.create_table(
        "withdrawal",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("result_id", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
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
        sa.CheckConstraint("state IN ('due', 'leased', 'done', 'failed')", name=op.f("ck_withdrawal_state")),
        sa.CheckConstraint(_REASONS, name=op.f("ck_withdrawal_reason")),
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name=op.f("fk_withdrawal_result_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_withdrawal")),
        sa.UniqueConstraint("result_id", name=op.f("uq_withdrawal_result_id")),
    )
    with op.batch_alter_table("withdrawal", schema=None) as batch_op:
        batch_op.create_index("ix_withdrawal_claim", ["state", "priority", "due_at"], unique=False)
    op.create_table(
        "removal",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("noted_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_removal_study_id")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_removal")),
    )
    with op.batch_alter_table("instance", schema=None) as batch_op:
        batch_op.add_column(sa.Column("removed_at", sa.Double(), nullable=True))
    with op.batch_alter_table("study", schema=None) as batch_op:
        batch_op.add_column(sa.Column("removed_at", sa.Double(), nullable=True))
        kept = sa.text("removed_at IS NULL")
        batch_op.create_index("ix_study_kept", ["last_received_at"], sqlite_where=kept, postgresql_where=kept)
    _outcomes("new", "pixels_changed", "header_changed", "restored", "quarantined", renamed=("conflict", "quarantined"))
    # Patient and pixels are not known without the files; `chexnode quarantine retry` looks at them anew.
    op.execute(
        "INSERT INTO quarantined (reception_id, contradiction, patient_id, pixel_digest) "
        "SELECT id, 'other_study', '', '' FROM reception WHERE outcome = 'quarantined'"
    )
    _kinds("report", "segmentation", "secondary_capture", "rejection_note")


def downgrade() -> None:
    # An older version knows no rejection notes; they have nothing but deliveries behind them.
    note = "SELECT id FROM stored_object WHERE kind = 'rejection_note'"
    op.execute(f"DELETE FROM delivery WHERE object_id IN ({note})")
    op.execute("DELETE FROM stored_object WHERE kind = 'rejection_note'")
    _kinds("report", "segmentation", "secondary_capture")
    op.execute("UPDATE reception SET outcome = 'header_changed' WHERE outcome = 'restored'")
    _outcomes("new", "pixels_changed", "header_changed", "conflict", renamed=("quarantined", "conflict"))
    with op.batch_alter_table("study", schema=None) as batch_op:
        batch_op.drop_index("ix_study_kept")
        batch_op.drop_column("removed_at")
    with op.batch_alter_table("instance", schema=None) as batch_op:
        batch_op.drop_column("removed_at")
    op.drop_table("removal")
    op.drop_table("withdrawal")
    op.drop_table("quarantined")
    op.drop_table("rejection")


def _outcomes(*allowed: str, renamed: tuple[str, str]) -> None:
    _drop_checks("reception", "outcome")
    before, after = renamed
    op.execute(f"UPDATE reception SET outcome = '{after}' WHERE outcome = '{before}'")
    _allow("reception", "outcome", allowed)


def _kinds(*allowed: str) -> None:
    _drop_checks("stored_object", "kind")
    _allow("stored_object", "kind", allowed)


def _drop_checks(table: str, column: str) -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        op.drop_constraint(op.f(f"ck_{table}_{column}"), table, type_="check")
        return
    # SQLite cannot drop one: the table is made anew, with everything but its checks.
    copy = sa.Table(table, sa.MetaData(), autoload_with=connection)
    for constraint in list(copy.constraints):
        if isinstance(constraint, sa.CheckConstraint):
            copy.constraints.discard(constraint)
    with op.batch_alter_table(table, schema=None, copy_from=copy, recreate="always"):
        pass


def _allow(table: str, column: str, values: tuple[str, ...]) -> None:
    quoted = ", ".join(f"'{value}'" for value in values)
    with op.batch_alter_table(table, schema=None) as batch_op:
        batch_op.create_check_constraint(op.f(f"ck_{table}_{column}"), f"{column} IN ({quoted})")
