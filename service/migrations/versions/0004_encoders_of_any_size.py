"""Encoders of any image size"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _set_nullable(True)


def downgrade() -> None:
    # Refused by the database while there are such encoders: no size would be theirs.
    _set_nullable(False)


def _set_nullable(nullable: bool) -> None:
    with op.batch_alter_table("generators", schema=None) as batch_op:
        for name in ("image_height", "image_width"):
            batch_op.alter_column(name, existing_type=sa.Integer(), nullable=nullable)
