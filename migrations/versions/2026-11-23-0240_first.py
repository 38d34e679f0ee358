"""Every table, and procrastinate's own in a schema of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from procrastinate.schema import SchemaManager
from sqlalchemy.dialects.postgresql import JSONB

revision = "c16d0ea47b87"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
URGENCY = """
CASE
    WHEN escalated THEN 6
    WHEN review_state = 'parked'::text THEN 4
    WHEN review_state = 'waiting_model'::text OR review_state = 'running'::text THEN 3
    WHEN outcome = 'escalate'::text THEN 6
    WHEN outcome = 'fail'::text THEN 5
    WHEN outcome = 'pass'::text THEN 2
    ELSE 1
END
"""
WORDS = (
    "to_tsvector('simple'::regconfig, "
    "regexp_replace((external_id || ' '::text) || subject, '[^[:alnum:]]+'::text, ' '::text, 'g'::text))"
)

# procrastinate's functions name its tables bare. Each finds them whatever the caller's search_path is, so that a job
# is written on our own connection, in our own transaction.
PIN_FUNCTIONS = """
DO $$
DECLARE made regprocedure;
BEGIN
    FOR made IN SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'procrastinate'::regnamespace LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = procrastinate, pg_temp', made);
    END LOOP;
END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    create_tables()
    op.execute("CREATE SCHEMA procrastinate")
    op.execute("SET LOCAL search_path = procrastinate")
    sql = SchemaManager.get_schema()
    op.get_bind().exec_driver_sql(sql, execution_options={"no_parameters": True})
    op.execute("SET LOCAL search_path TO DEFAULT")
    op.execute(PIN_FUNCTIONS)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP SCHEMA procrastinate CASCADE")
    op.drop_table("findings")
    op.drop_table("verdicts")
    op.drop_table("triages")
    op.drop_table("runs")
    op.drop_table("observations")
    op.drop_table("escalations")
    op.drop_table("deliveries")
    op.drop_table("revisions")
    op.drop_table("tickets")
    op.drop_table("releases")
    op.drop_table("imports")
    op.drop_table("ticks")
    op.drop_table("model_states")
    op.drop_table("contexts")
    op.drop_table("connections")


def create_tables() -> None:
    op.create_table(
        "connections",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scheme", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("options", JSONB, nullable=False),
        sa.Column("field_map", JSONB, nullable=True),
        sa.Column("declared", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("supplied", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("rejected", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.CheckConstraint(
            "scheme in ('standard', 'hmac', 'header', 'basic', 'path', 'file')", name=op.f("ck_connections_scheme")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connections")),
        sa.UniqueConstraint("name", name=op.f("uq_connections_name")),
    )
    op.create_table(
        "contexts",
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("documents", JSONB, nullable=False),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_contexts")),
    )
    op.create_table(
        "model_states",
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("demonstration", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("changed_at", TIME, server_default=NOW, nullable=False),
        sa.CheckConstraint("role in ('worker', 'strong')", name=op.f("ck_model_states_role")),
        sa.CheckConstraint(
            "state in ('none', 'checking', 'downloading', 'loading', 'ready', 'failed')",
            name=op.f("ck_model_states_state"),
        ),
        sa.PrimaryKeyConstraint("role", name=op.f("pk_model_states")),
    )
    op.create_table(
        "ticks",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_ticks")),
    )
    op.create_table(
        "imports",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("file_hash", sa.Text(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lines", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("new", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unchanged", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("skipped", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("finished", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("started_at", TIME, server_default=NOW, nullable=False),
        sa.Column("changed_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_imports_connection_id_connections")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imports")),
        sa.UniqueConstraint("connection_id", "file_hash", name=op.f("uq_imports_connection_id_file_hash")),
    )
    op.create_table(
        "releases",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("context_version", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("released_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["context_version"], ["contexts.version"], name=op.f("fk_releases_context_version_contexts")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
    )
    op.create_table(
        "tickets",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("assignee", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("revision_id", sa.BigInteger(), nullable=True),
        sa.Column("review_state", sa.Text(), server_default="open", nullable=False),
        sa.Column("review_note", sa.Text(), server_default="", nullable=False),
        sa.Column("verdict_id", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("score", sa.Numeric(precision=18, scale=12), nullable=True),
        sa.Column("escalated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("urgency", sa.SmallInteger(), sa.Computed(URGENCY, persisted=True), nullable=False),
        sa.Column("sample", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("state_at", TIME, server_default=NOW, nullable=False),
        sa.Column("state_received_at", TIME, server_default=NOW, nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("changed_at", TIME, server_default=NOW, nullable=False),
        sa.CheckConstraint("outcome in ('pass', 'fail', 'escalate')", name=op.f("ck_tickets_outcome")),
        sa.CheckConstraint(
            "review_state in ('open', 'waiting_model', 'running', 'done', 'parked')",
            name=op.f("ck_tickets_review_state"),
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_tickets_connection_id_connections")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tickets")),
        sa.UniqueConstraint("connection_id", "external_id", name=op.f("uq_tickets_connection_id_external_id")),
    )
    op.create_index(
        op.f("ix_tickets_connection_id"),
        "tickets",
        [
            "connection_id",
            sa.literal_column("urgency DESC"),
            sa.literal_column("changed_at DESC"),
            sa.literal_column("id DESC"),
        ],
        unique=False,
    )
    op.create_index(
        "ix_tickets_queue",
        "tickets",
        [
            "queue",
            sa.literal_column("urgency DESC"),
            sa.literal_column("changed_at DESC"),
            sa.literal_column("id DESC"),
        ],
        unique=False,
    )
    op.create_index("ix_tickets_search", "tickets", [sa.literal_column(WORDS)], unique=False, postgresql_using="gin")
    op.create_index(
        "ix_tickets_unfinished",
        "tickets",
        ["review_state"],
        unique=False,
        postgresql_where=sa.text("review_state in ('waiting_model', 'running')"),
    )
    op.create_index(
        "ix_tickets_urgency",
        "tickets",
        [sa.literal_column("urgency DESC"), sa.literal_column("changed_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_table(
        "revisions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("ticket_id", sa.BigInteger(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("intake_hash", sa.Text(), nullable=False),
        sa.Column("document", JSONB, nullable=False),
        sa.Column("updated_at", TIME, nullable=True),
        sa.Column("live", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_revisions_ticket_id_tickets")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revisions")),
        sa.UniqueConstraint("ticket_id", "content_hash", name=op.f("uq_revisions_ticket_id_content_hash")),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("received_at", TIME, server_default=NOW, nullable=False),
        sa.Column("state", sa.Text(), server_default="received", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("revision_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state in ('received', 'read', 'parked')", name=op.f("ck_deliveries_state")),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_deliveries_connection_id_connections")
        ),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["revisions.id"], name=op.f("fk_deliveries_revision_id_revisions"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("connection_id", "key", name=op.f("uq_deliveries_connection_id_key")),
    )
    op.create_index(
        "ix_deliveries_parked",
        "deliveries",
        ["received_at"],
        unique=False,
        postgresql_where=sa.text("state = 'parked'"),
    )
    op.create_index(op.f("ix_deliveries_received_at"), "deliveries", ["received_at"], unique=False)
    op.create_table(
        "escalations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("ticket_id", sa.BigInteger(), nullable=False),
        sa.Column("revision_id", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("evidence", JSONB, nullable=False),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.id"], name=op.f("fk_escalations_revision_id_revisions")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_escalations_ticket_id_tickets")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_escalations")),
        sa.UniqueConstraint("revision_id", "rule", "agent", name=op.f("uq_escalations_revision_id_rule_agent")),
    )
    op.create_table(
        "observations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("observer", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("revision_id", sa.BigInteger(), nullable=False),
        sa.Column("context_version", sa.Text(), nullable=False),
        sa.Column("evidence", JSONB, nullable=False),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["context_version"], ["contexts.version"], name=op.f("fk_observations_context_version_contexts")
        ),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.id"], name=op.f("fk_observations_revision_id_revisions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_observations")),
        sa.UniqueConstraint(
            "observer",
            "agent",
            "code",
            "subject",
            "revision_id",
            "context_version",
            name=op.f("uq_observations_observer_agent_code_subject_revision_id_context_version"),
        ),
    )
    op.create_index(
        op.f("ix_observations_agent_code_subject_recorded_at"),
        "observations",
        ["agent", "code", "subject", "recorded_at"],
        unique=False,
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("reply_key", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("repetition", sa.BigInteger(), nullable=False),
        sa.Column("revision_id", sa.BigInteger(), nullable=True),
        sa.Column("context_version", sa.Text(), nullable=False),
        sa.Column("agent_hash", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("answered_by", sa.Text(), server_default="", nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("stop_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("reply", sa.Text(), nullable=True),
        sa.Column("replied", sa.Boolean(), nullable=False),
        sa.Column("request_id", sa.Text(), server_default="", nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cache_write_5m_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cache_write_1h_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cost_usd", sa.Numeric(precision=18, scale=12), nullable=True),
        sa.Column("latency_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["context_version"], ["contexts.version"], name=op.f("fk_runs_context_version_contexts")
        ),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.id"], name=op.f("fk_runs_revision_id_revisions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index(op.f("ix_runs_recorded_at"), "runs", ["recorded_at"], unique=False)
    op.create_index(op.f("ix_runs_revision_id"), "runs", ["revision_id"], unique=False)
    op.create_index("uq_runs_reply_key", "runs", ["reply_key"], unique=True, postgresql_where=sa.text("replied"))
    op.create_table(
        "triages",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("ticket_id", sa.BigInteger(), nullable=False),
        sa.Column("revision_id", sa.BigInteger(), nullable=False),
        sa.Column("intake_hash", sa.Text(), nullable=False),
        sa.Column("agent_hash", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("answer", JSONB, nullable=False),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.id"], name=op.f("fk_triages_revision_id_revisions")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_triages_ticket_id_tickets")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_triages")),
        sa.UniqueConstraint(
            "ticket_id",
            "intake_hash",
            "agent_hash",
            "model",
            name=op.f("uq_triages_ticket_id_intake_hash_agent_hash_model"),
        ),
    )
    op.create_table(
        "verdicts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("revision_id", sa.BigInteger(), nullable=False),
        sa.Column("context_version", sa.Text(), nullable=False),
        sa.Column("engine_version", sa.BigInteger(), nullable=False),
        sa.Column("panel", sa.Text(), nullable=False),
        sa.Column("demonstration", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("score", sa.Numeric(precision=18, scale=12), nullable=True),
        sa.Column("reasons", JSONB, nullable=False),
        sa.Column("cost_usd", sa.Numeric(precision=18, scale=12), nullable=True),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.CheckConstraint("outcome in ('pass', 'fail', 'escalate')", name=op.f("ck_verdicts_outcome")),
        sa.ForeignKeyConstraint(
            ["context_version"], ["contexts.version"], name=op.f("fk_verdicts_context_version_contexts")
        ),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.id"], name=op.f("fk_verdicts_revision_id_revisions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdicts")),
        sa.UniqueConstraint(
            "revision_id",
            "context_version",
            "engine_version",
            "panel",
            name=op.f("uq_verdicts_revision_id_context_version_engine_version_panel"),
        ),
    )
    op.create_index(op.f("ix_verdicts_recorded_at"), "verdicts", ["recorded_at"], unique=False)
    op.create_table(
        "findings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("verdict_id", sa.BigInteger(), nullable=False),
        sa.Column("criterion", sa.Text(), nullable=False),
        sa.Column("text_hash", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", JSONB, nullable=False),
        sa.Column("absent", sa.Boolean(), nullable=False),
        sa.Column("evidence_status", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "evidence_status in ('verified', 'absent', 'void')", name=op.f("ck_findings_evidence_status")
        ),
        sa.CheckConstraint("kind in ('judged', 'checked')", name=op.f("ck_findings_kind")),
        sa.CheckConstraint(
            "result in ('met', 'partly', 'not_met', 'not_applicable', 'unscored')", name=op.f("ck_findings_result")
        ),
        sa.ForeignKeyConstraint(["verdict_id"], ["verdicts.id"], name=op.f("fk_findings_verdict_id_verdicts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
        sa.UniqueConstraint("verdict_id", "criterion", name=op.f("uq_findings_verdict_id_criterion")),
    )
    op.create_index("ix_findings_criterion_result", "findings", ["criterion", "result"], unique=False)
