"""Students without a dataset: trained on the few labels alone"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("students", schema=None) as batch_op:
        batch_op.alter_column("dataset_id", existing_type=sa.String(length=40), nullable=True)


def downgrade() -> None:
    # Refused by the database while there are such students: they cannot be kept.
    with op.batch_alter_table("students", schema=None) as batch_op:
        batch_op.alter_column("dataset_id", existing_type=sa.String(length=40), nullable=False)
