"""Retention: what was deleted or has expired, how many bytes things have, and the secret that signs addresses"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

DELETABLE = ("annotation_sets", "datasets", "generators", "image_pools", "jobs", "reports", "students")
SIZED = frozenset({"annotation_sets", "generators", "students"})
NOT_DELETED = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    for table in DELETABLE:
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
            batch_op.add_column(sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True))
            if table in SIZED:
                batch_op.add_column(sa.Column("num_bytes", sa.BigInteger(), server_default="0", nullable=False))
    with op.batch_alter_table("generators", schema=None) as batch_op:
        batch_op.drop_constraint(op.f("uq_generators_name"), type_="unique")
        batch_op.create_index(
            batch_op.f("ix_generators_name"),
            ["name"],
            unique=True,
            sqlite_where=NOT_DELETED,
            postgresql_where=NOT_DELETED,
        )
    with op.batch_alter_table("dataset_exports", schema=None) as batch_op:
        batch_op.add_column(sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.alter_column("key", existing_type=sa.String(length=200), nullable=True)
    op.create_table(
        "server_secrets",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_server_secrets")),
    )


def downgrade() -> None:
    op.drop_table("server_secrets")
    # Refused by the database while an export has expired, or while a deleted generator's name has been taken again.
    with op.batch_alter_table("dataset_exports", schema=None) as batch_op:
        batch_op.alter_column("key", existing_type=sa.String(length=200), nullable=False)
        batch_op.drop_column("expires_at")
    with op.batch_alter_table("generators", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_generators_name"))
        batch_op.create_unique_constraint(op.f("uq_generators_name"), ["name"])
    for table in DELETABLE:
        with op.batch_alter_table(table, schema=None) as batch_op:
            if table in SIZED:
                batch_op.drop_column("num_bytes")
            batch_op.drop_column("purged_at")
            batch_op.drop_column("deleted_at")
