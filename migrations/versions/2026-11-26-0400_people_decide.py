"""People and what they decide; patterns, proposals, replays, reports; a decision in the queue's order."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "8e2f64c1d7a0"
down_revision = "5b0f6f3a9d21"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
URGENCY_BEFORE = """
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
URGENCY = URGENCY_BEFORE.replace("CASE", "CASE\n    WHEN decision IS NOT NULL THEN 0")
ONCE = ["observer", "agent", "code", "subject", "revision_id", "context_version"]
ONCE_NAME = "uq_observations_observer_agent_code_subject_revision_id_323c"
BY_URGENCY = {
    "ix_tickets_urgency": [],
    "ix_tickets_queue": ["queue"],
    "ix_tickets_source": ["connection_id"],
    "ix_tickets_assignee": ["assignee"],
}
BY_URGENCY_BEFORE = {
    "ix_tickets_urgency": [],
    "ix_tickets_queue": ["queue"],
    "ix_tickets_connection_id": ["connection_id"],
}
KINDS = "kind in ('opened', 'reopened', 'called', 'no_answer', 'proposed', 'decided', 'closed', 'muted', 'unmuted')"
NEW = [
    "failed_sign_ins",
    "mails",
    "patterns",
    "reports",
    "users",
    "audit_events",
    "invitations",
    "pattern_events",
    "proposals",
    "sign_ins",
    "drafts",
    "replays",
    "viewings",
    "labels",
    "blind_checks",
    "label_findings",
]  # in the order in which they can be made


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    create_tables()
    op.add_column("observations", sa.Column("direction", sa.Text(), server_default="", nullable=False))
    op.add_column("observations", sa.Column("label_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key("fk_observations_label_id_labels", "observations", "labels", ["label_id"], ["id"])
    op.drop_index("ix_observations_agent_code_subject_recorded_at", "observations")
    op.drop_constraint(ONCE_NAME, "observations", type_="unique")
    fingerprint = ["agent", "code", "subject", "direction", "recorded_at"]
    op.create_index("ix_observations_fingerprint", "observations", fingerprint)
    op.create_index("ix_observations_recorded_at", "observations", ["recorded_at"])
    op.create_index("ix_observations_revision_id", "observations", ["revision_id"])
    once = [*ONCE[:4], "direction", *ONCE[4:], "label_id"]
    op.create_index("uq_observations_once", "observations", once, unique=True, postgresql_nulls_not_distinct=True)
    op.add_column("releases", sa.Column("kind", sa.Text(), server_default="release", nullable=False))
    op.add_column("releases", sa.Column("actor", sa.Text(), server_default="", nullable=False))
    op.add_column("releases", sa.Column("proposal_id", sa.BigInteger(), nullable=True))
    op.create_check_constraint("kind", "releases", "kind in ('release', 'rollback')")
    op.create_foreign_key("fk_releases_proposal_id_proposals", "releases", "proposals", ["proposal_id"], ["id"])
    op.create_index("ix_releases_released_at", "releases", ["released_at"])
    op.create_index("ix_revisions_recorded_at", "revisions", ["recorded_at"])
    op.add_column("tickets", sa.Column("label_id", sa.BigInteger(), nullable=True))
    op.add_column("tickets", sa.Column("decision", sa.Text(), nullable=True))
    op.add_column("tickets", sa.Column("claimed_by", sa.BigInteger(), nullable=True))
    op.add_column("tickets", sa.Column("claimed_at", TIME, nullable=True))
    op.create_check_constraint("decision", "tickets", "decision in ('pass', 'fail', 'cannot_tell')")
    op.create_check_constraint("claim", "tickets", "(claimed_by is null) = (claimed_at is null)")
    op.create_foreign_key("fk_tickets_claimed_by_users", "tickets", "users", ["claimed_by"], ["id"])
    set_urgency(URGENCY)
    for name, columns in BY_URGENCY.items():
        op.create_index(name, "tickets", [*columns, sa.text("urgency DESC"), "changed_at", "id"])
    claimed = sa.text("claimed_by is not null")
    op.create_index("ix_tickets_claimed_by", "tickets", ["claimed_by"], postgresql_where=claimed)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_column("tickets", "urgency")
    for column in ("claimed_at", "claimed_by", "decision", "label_id"):
        op.drop_column("tickets", column)
    set_urgency(URGENCY_BEFORE, drop=False)
    for name, columns in BY_URGENCY_BEFORE.items():
        order = [sa.text("urgency DESC"), sa.text("changed_at DESC"), sa.text("id DESC")]
        op.create_index(name, "tickets", [*columns, *order])
    for column in ("proposal_id", "actor", "kind"):
        op.drop_column("releases", column)
    op.drop_index("ix_revisions_recorded_at", "revisions")
    op.drop_index("ix_releases_released_at", "releases")
    # Without directions and decisions only the first of several observations can stay.
    op.execute(
        "delete from observations later using observations first where first.id < later.id and "  # noqa: S608  our own
        + " and ".join(f"first.{column} = later.{column}" for column in ONCE)
    )
    op.drop_index("ix_observations_recorded_at", "observations")
    op.drop_index("ix_observations_revision_id", "observations")
    op.drop_column("observations", "label_id")
    op.drop_column("observations", "direction")
    op.create_unique_constraint(ONCE_NAME, "observations", ONCE)
    before = ["agent", "code", "subject", "recorded_at"]
    op.create_index("ix_observations_agent_code_subject_recorded_at", "observations", before)
    for table in reversed(NEW):
        op.drop_table(table)


def set_urgency(expression: str, *, drop: bool = True) -> None:
    """The column is computed anew; Postgres before 17 cannot change how. Its indexes go with it."""
    if drop:
        op.drop_column("tickets", "urgency")
    op.add_column("tickets", sa.Column("urgency", sa.SmallInteger(), sa.Computed(expression, persisted=True)))
    op.alter_column("tickets", "urgency", nullable=False)


def create_tables() -> None:
    op.create_table(
        "failed_sign_ins",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_failed_sign_ins"),
    )
    op.create_index("ix_failed_sign_ins_key_at", "failed_sign_ins", ["key", "at"], unique=False)
    op.create_table(
        "mails",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="sending", nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.Column("changed_at", TIME, server_default=NOW, nullable=False),
        sa.CheckConstraint("state in ('sending', 'sent', 'failed')", name="ck_mails_state"),
        sa.PrimaryKeyConstraint("key", name="pk_mails"),
    )
    op.create_table(
        "patterns",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("cool_until", TIME, nullable=True),
        sa.Column("opened_at", TIME, nullable=False),
        sa.CheckConstraint("state in ('open', 'decided', 'closed', 'muted')", name="ck_patterns_state"),
        sa.PrimaryKeyConstraint("id", name="pk_patterns"),
        sa.UniqueConstraint("agent", "code", "subject", "direction", name="uq_patterns_agent_code_subject_direction"),
    )
    op.create_table(
        "reports",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("week", sa.Text(), nullable=False),
        sa.Column("figures", JSONB(), nullable=False),
        sa.Column("opening_by", sa.Text(), server_default="", nullable=False),
        sa.Column("markdown", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reports"),
    )
    op.create_index("ix_reports_week", "reports", ["week", sa.literal_column("id DESC")], unique=False)
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("closed_at", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.CheckConstraint("role in ('viewer', 'lead', 'admin')", name="ck_users_role"),
        sa.CheckConstraint("email = lower(email)", name="ck_users_email"),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
    )
    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("before", JSONB(), nullable=True),
        sa.Column("after", JSONB(), nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_audit_events_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_audit_events"),
    )
    op.create_index("ix_audit_events_recorded_at", "audit_events", ["recorded_at"], unique=False)
    op.create_index("ix_audit_events_subject_id", "audit_events", ["subject", "id"], unique=False)
    op.create_table(
        "invitations",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("used_at", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.CheckConstraint("role in ('viewer', 'lead', 'admin')", name="ck_invitations_role"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_invitations_user_id_users"),
        sa.PrimaryKeyConstraint("token_hash", name="pk_invitations"),
    )
    op.create_table(
        "pattern_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("pattern_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.CheckConstraint(
            KINDS,
            name="ck_pattern_events_kind",
        ),
        sa.ForeignKeyConstraint(["pattern_id"], ["patterns.id"], name="fk_pattern_events_pattern_id_patterns"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_pattern_events_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_pattern_events"),
    )
    op.create_index("ix_pattern_events_pattern_id_id", "pattern_events", ["pattern_id", "id"], unique=False)
    op.create_index("ix_pattern_events_recorded_at", "pattern_events", ["recorded_at"], unique=False)
    op.create_table(
        "proposals",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("pattern_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("questions", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("demonstration", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("decided_by", sa.BigInteger(), nullable=True),
        sa.Column("decided_at", TIME, nullable=True),
        sa.Column("decision_note", sa.Text(), server_default="", nullable=False),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.CheckConstraint(
            "kind in ('more_context', 'rewrite', 'escalation_rule', 'unclear', 'noise')", name="ck_proposals_kind"
        ),
        sa.CheckConstraint("state in ('open', 'approved', 'rejected')", name="ck_proposals_state"),
        sa.ForeignKeyConstraint(["decided_by"], ["users.id"], name="fk_proposals_decided_by_users"),
        sa.ForeignKeyConstraint(["pattern_id"], ["patterns.id"], name="fk_proposals_pattern_id_patterns"),
        sa.PrimaryKeyConstraint("id", name="pk_proposals"),
    )
    op.create_index("ix_proposals_recorded_at", "proposals", ["recorded_at"], unique=False)
    op.create_index(
        "uq_proposals_open", "proposals", ["pattern_id"], unique=True, postgresql_where=sa.text("state = 'open'")
    )
    op.create_table(
        "sign_ins",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("seen_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sign_ins_user_id_users"),
        sa.PrimaryKeyConstraint("token_hash", name="pk_sign_ins"),
    )
    op.create_index("ix_sign_ins_user_id", "sign_ins", ["user_id"], unique=False)
    op.create_table(
        "drafts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("proposal_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("base_version", sa.Text(), nullable=False),
        sa.Column("candidate_version", sa.Text(), nullable=False),
        sa.Column("edits", JSONB(), nullable=False),
        sa.Column("author_id", sa.BigInteger(), nullable=True),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["author_id"], ["users.id"], name="fk_drafts_author_id_users"),
        sa.ForeignKeyConstraint(["base_version"], ["contexts.version"], name="fk_drafts_base_version_contexts"),
        sa.ForeignKeyConstraint(
            ["candidate_version"], ["contexts.version"], name="fk_drafts_candidate_version_contexts"
        ),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name="fk_drafts_proposal_id_proposals"),
        sa.PrimaryKeyConstraint("id", name="pk_drafts"),
        sa.UniqueConstraint("proposal_id", "number", name="uq_drafts_proposal_id_number"),
    )
    op.create_table(
        "replays",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("draft_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("model", sa.Text(), server_default="", nullable=False),
        sa.Column("demonstration", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("repetitions", sa.BigInteger(), nullable=False),
        sa.Column("tickets", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("labelled", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("available", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("calls", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("estimate_usd", sa.Numeric(precision=18, scale=12), nullable=True),
        sa.Column("result", JSONB(), nullable=True),
        sa.Column("cost_usd", sa.Numeric(precision=18, scale=12), nullable=True),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.CheckConstraint("state in ('waiting', 'running', 'done', 'failed')", name="ck_replays_state"),
        sa.ForeignKeyConstraint(["draft_id"], ["drafts.id"], name="fk_replays_draft_id_drafts"),
        sa.PrimaryKeyConstraint("id", name="pk_replays"),
        sa.UniqueConstraint("draft_id", name="uq_replays_draft_id"),
    )
    op.create_table(
        "viewings",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("revision_id", sa.BigInteger(), nullable=False),
        sa.Column("first_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.id"], name="fk_viewings_revision_id_revisions"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_viewings_user_id_users"),
        sa.PrimaryKeyConstraint("user_id", "revision_id", name="pk_viewings"),
    )
    op.create_table(
        "labels",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("revision_id", sa.BigInteger(), nullable=False),
        sa.Column("verdict_id", sa.BigInteger(), nullable=True),
        sa.Column("context_version", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("score", sa.Numeric(precision=18, scale=12), nullable=True),
        sa.Column("blind", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.CheckConstraint("kind in ('confirm', 'overrule', 'decide')", name="ck_labels_kind"),
        sa.CheckConstraint("outcome in ('pass', 'fail', 'cannot_tell')", name="ck_labels_outcome"),
        sa.CheckConstraint("split in ('dev', 'gate', 'sealed')", name="ck_labels_split"),
        sa.ForeignKeyConstraint(["context_version"], ["contexts.version"], name="fk_labels_context_version_contexts"),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.id"], name="fk_labels_revision_id_revisions"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_labels_user_id_users"),
        sa.ForeignKeyConstraint(["verdict_id"], ["verdicts.id"], name="fk_labels_verdict_id_verdicts"),
        sa.PrimaryKeyConstraint("id", name="pk_labels"),
    )
    op.create_index("ix_labels_recorded_at", "labels", ["recorded_at"], unique=False)
    op.create_index("ix_labels_revision_id", "labels", ["revision_id", sa.literal_column("id DESC")], unique=False)
    op.create_table(
        "blind_checks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("revision_id", sa.BigInteger(), nullable=False),
        sa.Column("verdict_id", sa.BigInteger(), nullable=False),
        sa.Column("label_id", sa.BigInteger(), nullable=True),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["label_id"], ["labels.id"], name="fk_blind_checks_label_id_labels"),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.id"], name="fk_blind_checks_revision_id_revisions"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_blind_checks_user_id_users"),
        sa.ForeignKeyConstraint(["verdict_id"], ["verdicts.id"], name="fk_blind_checks_verdict_id_verdicts"),
        sa.PrimaryKeyConstraint("id", name="pk_blind_checks"),
        sa.UniqueConstraint("user_id", "revision_id", name="uq_blind_checks_user_id_revision_id"),
    )
    op.create_table(
        "label_findings",
        sa.Column("label_id", sa.BigInteger(), nullable=False),
        sa.Column("criterion", sa.Text(), nullable=False),
        sa.Column("text_hash", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.CheckConstraint("result in ('met', 'partly', 'not_met', 'not_applicable')", name="ck_label_findings_result"),
        sa.ForeignKeyConstraint(["label_id"], ["labels.id"], name="fk_label_findings_label_id_labels"),
        sa.PrimaryKeyConstraint("label_id", "criterion", name="pk_label_findings"),
    )
