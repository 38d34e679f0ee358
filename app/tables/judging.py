"""What is judged by, and what came of it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, identity, moment, one_of


class ContextVersion(Base):
    __tablename__ = "contexts"
    version: Mapped[str] = mapped_column(primary_key=True)  # hash of all files
    documents: Mapped[dict[str, Any]]  # {"version": 1, "files": {name: text}}
    recorded_at: Mapped[datetime] = moment()


class Release(Base):
    """A context version going live; the newest row is in force."""

    __tablename__ = "releases"
    id: Mapped[int] = identity()
    context_version: Mapped[str] = mapped_column(ForeignKey("contexts.version"))
    kind: Mapped[str] = mapped_column(server_default="release")  # rollback: a version that was in force before
    note: Mapped[str]
    actor: Mapped[str] = mapped_column(server_default="")  # a user's e-mail, or what a command or the machine is called
    proposal_id: Mapped[int | None] = mapped_column(ForeignKey("proposals.id"))
    released_at: Mapped[datetime] = moment()
    __table_args__ = (one_of("kind", "release", "rollback"), Index(None, "released_at"))


class Run(Base):
    """One attempt at a model call. With a reply it is paid and found again by its key; without one, possibly billed."""

    __tablename__ = "runs"
    id: Mapped[int] = identity()
    reply_key: Mapped[str]
    agent: Mapped[str]
    purpose: Mapped[str]
    repetition: Mapped[int]
    revision_id: Mapped[int | None] = mapped_column(ForeignKey("revisions.id"))
    context_version: Mapped[str] = mapped_column(ForeignKey("contexts.version"))
    agent_hash: Mapped[str]
    model: Mapped[str]  # as asked for
    answered_by: Mapped[str] = mapped_column(server_default="")  # as the reply names it
    outcome: Mapped[str]  # agents.question.Outcome of a reply, or the failure code of an attempt without one
    stop_reason: Mapped[str] = mapped_column(server_default="")
    reply: Mapped[str | None]  # null: no reply reached us, or retention has taken it
    replied: Mapped[bool]
    request_id: Mapped[str] = mapped_column(server_default="")
    input_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    output_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    cache_write_5m_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    cache_write_1h_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    cache_read_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    cost_usd: Mapped[Decimal | None]  # null: no price is known for this model; 0 for a model on this machine
    latency_ms: Mapped[int] = mapped_column(server_default=text("0"))  # 0 where a batch brought the reply
    batch_id: Mapped[int | None] = mapped_column(ForeignKey("batches.id"))  # that brought it, or that it was made for
    rescore_id: Mapped[int | None] = mapped_column(ForeignKey("rescores.id"))  # that it was made for; not in the key
    recorded_at: Mapped[datetime] = moment()
    __table_args__ = (
        Index("uq_runs_reply_key", "reply_key", unique=True, postgresql_where=text("reply is not null")),
        Index(None, "revision_id"),
        Index(None, "recorded_at"),
        Index("ix_runs_batch_id", "batch_id", postgresql_where=text("batch_id is not null")),
        Index("ix_runs_rescore_id", "rescore_id", postgresql_where=text("rescore_id is not null")),
    )


class Reuse(Base):
    """A reply that was paid for another case, and that this case did not have to pay for again.

    Some are asked again in the shadow, which changes no verdict: `agrees` says whether the model said the same.
    """

    __tablename__ = "reuses"
    id: Mapped[int] = identity()
    reply_key: Mapped[str]
    agent: Mapped[str]
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"))
    context_version: Mapped[str] = mapped_column(ForeignKey("contexts.version"))
    saved_usd: Mapped[Decimal | None]  # what the reply had cost; null: no price is known for its model
    agrees: Mapped[bool | None]  # null: it was not asked again, or nothing could be compared
    recorded_at: Mapped[datetime] = moment()
    __table_args__ = (UniqueConstraint("reply_key", "revision_id", "context_version"), Index(None, "recorded_at"))


class Triage(Base):
    """Triage's answer for one intake, verified."""

    __tablename__ = "triages"
    id: Mapped[int] = identity()
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"))
    intake_hash: Mapped[str]
    agent_hash: Mapped[str]
    model: Mapped[str]
    answer: Mapped[dict[str, Any]]  # {"version": 1, "category", "priority", "fields", "rules", "ask"}
    recorded_at: Mapped[datetime] = moment()
    __table_args__ = (UniqueConstraint("ticket_id", "intake_hash", "agent_hash", "model"),)


class Escalation(Base):
    """An escalation rule that applies to a ticket, and the span that shows it; an open ticket has no other mark.

    Of agent `validator`: triage failed, and its failure code is in the place of the rule.
    """

    __tablename__ = "escalations"
    id: Mapped[int] = identity()
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"))
    rule: Mapped[str]
    agent: Mapped[str]
    evidence: Mapped[list[Any]]
    recorded_at: Mapped[datetime] = moment()
    __table_args__ = (UniqueConstraint("revision_id", "rule", "agent"), Index(None, "ticket_id"))


class Verdict(Base):
    """Pins everything it rests on: revision, context version, engine, panel (the models that judged, or 'none')."""

    __tablename__ = "verdicts"
    id: Mapped[int] = identity()
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"))
    context_version: Mapped[str] = mapped_column(ForeignKey("contexts.version"))
    engine_version: Mapped[int]
    panel: Mapped[str]
    demonstration: Mapped[bool]  # judged by the local demonstration model
    route: Mapped[str] = mapped_column(server_default="worker")  # agents.judge.Route: the last step it went through
    outcome: Mapped[str]
    score: Mapped[Decimal | None]
    reasons: Mapped[list[Any]]
    cost_usd: Mapped[Decimal | None]
    recorded_at: Mapped[datetime] = moment()
    __table_args__ = (
        UniqueConstraint("revision_id", "context_version", "engine_version", "panel"),
        one_of("outcome", "pass", "fail", "escalate"),
        one_of("route", "checks", "worker", "second", "masked", "strong"),
        Index(None, "recorded_at"),
        Index("ix_verdicts_no_model", "id", postgresql_where=text("panel = 'none'")),  # a later model takes them up
    )


class Finding(Base):
    __tablename__ = "findings"
    id: Mapped[int] = identity()
    verdict_id: Mapped[int] = mapped_column(ForeignKey("verdicts.id"))
    criterion: Mapped[str]
    text_hash: Mapped[str]  # of the criterion's words; a changed text starts a new count
    kind: Mapped[str]
    result: Mapped[str]
    reason: Mapped[str]
    evidence: Mapped[list[Any]]  # [{"line", "quote", "spans": [[line, start, end]]}]
    absent: Mapped[bool]
    evidence_status: Mapped[str | None]
    __table_args__ = (
        UniqueConstraint("verdict_id", "criterion"),
        one_of("kind", "judged", "checked"),
        one_of("result", "met", "partly", "not_met", "not_applicable", "unscored"),
        one_of("evidence_status", "verified", "absent", "void"),
        Index("ix_findings_criterion_result", "criterion", "result"),
    )


class Observation(Base):
    """One failure of an agent: who saw it, about whom, what failed, on which ticket."""

    __tablename__ = "observations"
    id: Mapped[int] = identity()
    observer: Mapped[str]  # validator, qc, person
    agent: Mapped[str]
    code: Mapped[str]
    subject: Mapped[str]  # criterion, field or rule; empty where the whole answer failed
    direction: Mapped[str] = mapped_column(server_default="")  # of what a person overruled: false_fail, false_pass
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"))
    context_version: Mapped[str] = mapped_column(ForeignKey("contexts.version"))
    label_id: Mapped[int | None] = mapped_column(ForeignKey("labels.id"))  # the decision it came with; it may not stand
    evidence: Mapped[list[Any]]
    recorded_at: Mapped[datetime] = moment()
    __table_args__ = (
        Index(
            "uq_observations_once",
            *("observer", "agent", "code", "subject", "direction", "revision_id", "context_version", "label_id"),
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        Index("ix_observations_fingerprint", "agent", "code", "subject", "direction", "recorded_at"),
        Index(None, "recorded_at"),
        Index(None, "revision_id"),
    )
