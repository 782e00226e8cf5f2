"""model bundles"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

#: The only bundle that there was before this revision.
_SHIPPED = "chexnode-phantom"


def upgrade() -> None:
    op.create_table(
        "bundle",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("version", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("shipped", sa.Boolean(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("registered_at", sa.Double(), nullable=False),
        sa.Column("activated_at", sa.Double(), nullable=True),
        sa.CheckConstraint("state IN ('candidate', 'active', 'retired')", name=op.f("ck_bundle_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bundle")),
        sa.UniqueConstraint("digest", name=op.f("uq_bundle_digest")),
    )
    with op.batch_alter_table("bundle", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_bundle_name"), ["name"], unique=False)
        active = sa.text("state = 'active'")
        batch_op.create_index("ix_bundle_active", ["name"], unique=True, sqlite_where=active, postgresql_where=active)
    op.create_table(
        "served_bundle",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("process_id", sa.Integer(), nullable=False),
        sa.Column("bundle_digest", sa.String(length=64), nullable=False),
        sa.Column("engines", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["process_id"], ["process.id"], name=op.f("fk_served_bundle_process_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_served_bundle")),
        sa.UniqueConstraint("process_id", "bundle_digest", name=op.f("uq_served_bundle_process_id")),
    )
    with op.batch_alter_table("served_bundle", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_served_bundle_process_id"), ["process_id"], unique=False)
    op.create_table(
        "planned",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("bundle_digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_planned_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_planned")),
        sa.UniqueConstraint("study_id", "bundle_digest", name=op.f("uq_planned_study_id")),
    )
    with op.batch_alter_table("inference", schema=None) as batch_op:
        batch_op.add_column(sa.Column("engine_name", sa.String(length=32), nullable=True))
    op.execute(sa.text("UPDATE inference SET engine_name = 'torch' WHERE engine_device IS NOT NULL"))
    with op.batch_alter_table("instance", schema=None) as batch_op:
        batch_op.add_column(sa.Column("view", sa.String(length=8), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("age_years", sa.Double(), nullable=True))
        batch_op.create_index(batch_op.f("ix_instance_pixel_digest"), ["pixel_digest"], unique=False)
    # Whatever was selected is a frontal chest radiograph of an adult as far as its header said.
    op.execute(sa.text("UPDATE instance SET view = 'frontal' WHERE selected"))
    with op.batch_alter_table("instance", schema=None) as batch_op:
        batch_op.alter_column("view", server_default=None)
    with op.batch_alter_table("result_image", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_result_image_inference_id"), ["inference_id"], unique=False)
    with op.batch_alter_table("result", schema=None) as batch_op:
        batch_op.add_column(sa.Column("bundle_name", sa.String(length=32), nullable=False, server_default=_SHIPPED))
    _number_by_name()
    with op.batch_alter_table("result", schema=None) as batch_op:
        batch_op.alter_column("bundle_name", server_default=None)
        batch_op.drop_constraint(batch_op.f("uq_result_study_id"), type_="unique")
        batch_op.create_unique_constraint(batch_op.f("uq_result_study_id"), ["study_id", "bundle_name", "version"])
    with op.batch_alter_table("tracking", schema=None) as batch_op:
        batch_op.add_column(sa.Column("bundle_name", sa.String(length=32), nullable=False, server_default=_SHIPPED))
    with op.batch_alter_table("tracking", schema=None) as batch_op:
        batch_op.alter_column("bundle_name", server_default=None)
        batch_op.drop_constraint(batch_op.f("uq_tracking_instance_id"), type_="unique")
        batch_op.create_unique_constraint(batch_op.f("uq_tracking_instance_id"), ["instance_id", "bundle_name", "key"])


def downgrade() -> None:
    _keep_one_per_key()
    with op.batch_alter_table("tracking", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("uq_tracking_instance_id"), type_="unique")
        batch_op.create_unique_constraint(batch_op.f("uq_tracking_instance_id"), ["instance_id", "key"])
        batch_op.drop_column("bundle_name")
    with op.batch_alter_table("result", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("uq_result_study_id"), type_="unique")
        batch_op.create_unique_constraint(batch_op.f("uq_result_study_id"), ["study_id", "bundle_digest", "version"])
        batch_op.drop_column("bundle_name")
    with op.batch_alter_table("result_image", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_result_image_inference_id"))
    with op.batch_alter_table("instance", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_instance_pixel_digest"))
        batch_op.drop_column("age_years")
        batch_op.drop_column("view")
    with op.batch_alter_table("inference", schema=None) as batch_op:
        batch_op.drop_column("engine_name")
    op.drop_table("planned")
    op.drop_table("served_bundle")
    op.drop_table("bundle")


def _keep_one_per_key() -> None:
    """Of several bundles' tracking UIDs of one thing the shipped bundle's, else the oldest."""
    tracking = sa.table(
        "tracking", sa.column("id"), sa.column("instance_id"), sa.column("bundle_name"), sa.column("key")
    )
    connection = op.get_bind()
    first = sa.case((tracking.c.bundle_name == _SHIPPED, 0), else_=1)
    rank = sa.func.row_number().over(
        partition_by=[tracking.c.instance_id, tracking.c.key], order_by=[first, tracking.c.id]
    )
    ranked = sa.select(tracking.c.id, rank.label("rank")).subquery()
    connection.execute(sa.delete(tracking).where(tracking.c.id.in_(sa.select(ranked.c.id).where(ranked.c.rank > 1))))


def _number_by_name() -> None:
    """One row of versions per study: there was one bundle, perhaps with several digests one after the other."""
    result = sa.table(
        "result", sa.column("id"), sa.column("study_id"), sa.column("version"), sa.column("current", sa.Boolean)
    )
    connection = op.get_bind()
    rows = connection.execute(sa.select(result).order_by(result.c.study_id, result.c.id)).all()
    numbers: dict[int, int] = {}
    newest: dict[int, int] = {}
    changes = []
    for row in rows:
        numbers[row.study_id] = numbers.get(row.study_id, 0) + 1
        if row.current:
            newest[row.study_id] = row.id
        if row.version != numbers[row.study_id]:
            changes.append((row.id, numbers[row.study_id]))
    # From the last: a number only grows, so none is taken twice on the way.
    for key, version in reversed(changes):
        connection.execute(sa.update(result).where(result.c.id == key).values(version=version))
    for row in rows:
        if row.current and newest[row.study_id] != row.id:
            connection.execute(sa.update(result).where(result.c.id == row.id).values(current=False))
