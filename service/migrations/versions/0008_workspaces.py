"""Workspaces, API keys, sign-ins and the audit log"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

DEFAULT = "ws_" + 26 * "0"
OWNED = ("image_pools", "annotation_sets", "jobs", "datasets", "students", "reports", "webhooks")


def upgrade() -> None:
    _create_tables()
    op.execute(f"INSERT INTO workspaces (id, name, created_at) VALUES ('{DEFAULT}', 'default', CURRENT_TIMESTAMP)")
    for table in (*OWNED, "generators"):
        # The default is for workers of the release before, which know no workspaces and may still be at work.
        owner = {"nullable": False, "server_default": DEFAULT} if table in OWNED else {"nullable": True}
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column("workspace_id", sa.String(length=40), **owner))
            batch_op.create_foreign_key(f"fk_{table}_workspace_id_workspaces", "workspaces", ["workspace_id"], ["id"])
            batch_op.create_index(f"ix_{table}_workspace_id_id", ["workspace_id", "id"], unique=False)
            if table == "jobs":
                batch_op.drop_constraint("uq_jobs_idempotency_key", type_="unique")
                batch_op.create_unique_constraint(
                    "uq_jobs_workspace_id_idempotency_key", ["workspace_id", "idempotency_key"]
                )
            if table == "generators":
                batch_op.drop_index("ix_generators_name")
    # Generators without a job came from the operator's folder: they are everybody's.
    op.execute(f"UPDATE generators SET workspace_id = '{DEFAULT}' WHERE job_id IS NOT NULL")
    _unique_where("ix_generators_workspace_id_name", ["workspace_id", "name"], "deleted_at IS NULL")
    _unique_where("ix_generators_name_offered", ["name"], "workspace_id IS NULL AND deleted_at IS NULL")


def _unique_where(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "generators", columns, unique=True, sqlite_where=where, postgresql_where=where)


def _create_tables() -> None:
    op.create_table(
        "workspaces",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workspaces")),
        sa.UniqueConstraint("name", name=op.f("uq_workspaces_name")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("workspace_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("scope", sa.String(length=8), nullable=False),
        sa.Column("prefix", sa.String(length=8), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("former_sha256", sa.String(length=64), nullable=True),
        sa.Column("former_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_api_keys_workspace_id_workspaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
    )
    op.create_index(op.f("ix_api_keys_workspace_id_id"), "api_keys", ["workspace_id", "id"])
    op.create_table(
        "sign_ins",
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("api_key_id", sa.String(length=40), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], name=op.f("fk_sign_ins_api_key_id_api_keys")),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_sign_ins")),
    )
    op.create_index(op.f("ix_sign_ins_api_key_id"), "sign_ins", ["api_key_id"])
    op.create_index(op.f("ix_sign_ins_expires_at"), "sign_ins", ["expires_at"])
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("workspace_id", sa.String(length=40), nullable=False),
        sa.Column("api_key_id", sa.String(length=40), nullable=True),
        sa.Column("actor", sa.String(length=120), nullable=False),
        sa.Column("operation", sa.String(length=60), nullable=False),
        sa.Column("object_id", sa.String(length=120), nullable=True),
        sa.Column("outcome", sa.String(length=8), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], name=op.f("fk_audit_entries_api_key_id_api_keys")),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name=op.f("fk_audit_entries_workspace_id_workspaces")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entries")),
    )
    op.create_index(op.f("ix_audit_entries_workspace_id_id"), "audit_entries", ["workspace_id", "id"])


def downgrade() -> None:
    # Refused by the database while two workspaces use one name or idempotency key: without workspaces they would clash.
    op.drop_index("ix_generators_name_offered", table_name="generators")
    op.drop_index("ix_generators_workspace_id_name", table_name="generators")
    for table in ("generators", *reversed(OWNED)):
        with op.batch_alter_table(table, schema=None) as batch_op:
            if table == "jobs":
                batch_op.drop_constraint("uq_jobs_workspace_id_idempotency_key", type_="unique")
                batch_op.create_unique_constraint("uq_jobs_idempotency_key", ["idempotency_key"])
            batch_op.drop_constraint(f"fk_{table}_workspace_id_workspaces", type_="foreignkey")
            batch_op.drop_index(f"ix_{table}_workspace_id_id")
            batch_op.drop_column("workspace_id")
    _unique_where("ix_generators_name", ["name"], "deleted_at IS NULL")
    for table in ("audit_entries", "sign_ins", "api_keys", "workspaces"):
        op.drop_table(table)
