"""Jobs are counted from an index: their rows are wide, and the overview and every new job count them"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

INDEX = "ix_jobs_workspace_id_state_deleted_at"


def upgrade() -> None:
    op.create_index(INDEX, "jobs", ["workspace_id", "state", "deleted_at"])


def downgrade() -> None:
    op.drop_index(INDEX, table_name="jobs")
