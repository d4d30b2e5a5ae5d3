"""Limits of API keys, and which key asked for what"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ATTRIBUTED = {"pool_parts": ["api_key_id"], "annotation_sets": ["api_key_id"], "jobs": ["api_key_id", "state"]}
"""Table -> columns of its new index."""


def upgrade() -> None:
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.add_column(sa.Column("max_stored_bytes", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("max_active_jobs", sa.Integer(), nullable=True))
    for table, columns in ATTRIBUTED.items():
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column("api_key_id", sa.String(length=40), nullable=True))
            batch_op.create_foreign_key(f"fk_{table}_api_key_id_api_keys", "api_keys", ["api_key_id"], ["id"])
            batch_op.create_index(f"ix_{table}_{'_'.join(columns)}", columns, unique=False)


def downgrade() -> None:
    for table, columns in reversed(ATTRIBUTED.items()):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_constraint(f"fk_{table}_api_key_id_api_keys", type_="foreignkey")
            batch_op.drop_index(f"ix_{table}_{'_'.join(columns)}")
            batch_op.drop_column("api_key_id")
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.drop_column("max_active_jobs")
        batch_op.drop_column("max_stored_bytes")
