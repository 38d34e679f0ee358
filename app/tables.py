"""Every table. Constraints and indexes carry the rules; rows are appended, never edited, except where said."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Computed,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy reads it from the class
        str: Text,
        int: BigInteger,
        Decimal: Numeric(18, 12),
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        list[str]: ARRAY(Text),
        bytes: LargeBinary,
        float: Float,
    }


def _id() -> Mapped[int]:
    return mapped_column(BigInteger, Identity(always=True), primary_key=True)


def _now() -> Mapped[datetime]:
    return mapped_column(server_default=func.clock_timestamp())


def _one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} in ({listed})", name=column)


class Connection(Base):
    """Where tickets come from: a webhook, or files (`scheme = 'file'`). Mutable: settings and what it supplies."""

    __tablename__ = "connections"
    id: Mapped[int] = _id()
    name: Mapped[str] = mapped_column(unique=True)  # also the tickets' source, and the last part of the hook's address
    scheme: Mapped[str]
    secret: Mapped[bytes | None]  # encrypted with the install's key
    options: Mapped[dict[str, Any]]  # header, prefix, encoding ... of the scheme
    field_map: Mapped[dict[str, Any] | None]  # {field: {"path": JMESPath, "values": {...}}}; null = our own JSON
    declared: Mapped[list[str] | None]  # optional fields the operator says it supplies; null = found out from tickets
    supplied: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))  # optional fields seen filled so far
    rejected: Mapped[int] = mapped_column(server_default=text("0"))  # bad signatures; nothing else of them is kept
    created_at: Mapped[datetime] = _now()
    __table_args__ = (_one_of("scheme", "standard", "hmac", "header", "basic", "path", "file"),)


class Delivery(Base):
    """One webhook call, stored raw and encrypted before anything else happens. Mutable: what became of it."""

    __tablename__ = "deliveries"
    id: Mapped[int] = _id()
    connection_id: Mapped[int] = mapped_column(ForeignKey("connections.id"))
    key: Mapped[str]  # the scheme's delivery id, else the body's hash and its ten minutes
    body: Mapped[bytes | None]  # encrypted; null once retention has taken it
    received_at: Mapped[datetime] = _now()
    state: Mapped[str] = mapped_column(server_default="received")
    reason: Mapped[str] = mapped_column(server_default="")
    revision_id: Mapped[int | None] = mapped_column(ForeignKey("revisions.id", ondelete="SET NULL"))
    __table_args__ = (
        UniqueConstraint("connection_id", "key"),
        _one_of("state", "received", "read", "parked"),
        Index("ix_deliveries_parked", "received_at", postgresql_where=text("state = 'parked'")),
        Index(None, "received_at"),
    )


class Import(Base):
    """How far one file got, by the hash of its content. Mutable: moves in the transaction that records the rows."""

    __tablename__ = "imports"
    id: Mapped[int] = _id()
    connection_id: Mapped[int] = mapped_column(ForeignKey("connections.id"))
    file_hash: Mapped[str]
    file_name: Mapped[str]
    position: Mapped[int] = mapped_column(server_default=text("0"))  # bytes of the file that are done
    lines: Mapped[int] = mapped_column(server_default=text("0"))
    new: Mapped[int] = mapped_column(server_default=text("0"))
    unchanged: Mapped[int] = mapped_column(server_default=text("0"))
    skipped: Mapped[int] = mapped_column(server_default=text("0"))
    finished: Mapped[bool] = mapped_column(server_default=text("false"))
    started_at: Mapped[datetime] = _now()
    changed_at: Mapped[datetime] = _now()
    __table_args__ = (UniqueConstraint("connection_id", "file_hash"),)


# Higher is more urgent: escalate 6, fail 5, parked 4, waiting 3, pass 2, open 1. Computed by the database, so that
# nobody who writes a ticket can forget it; spelled as Postgres prints it, so that a migration check sees no difference.
_URGENCY = """CASE
    WHEN escalated THEN 6
    WHEN review_state = 'parked'::text THEN 4
    WHEN review_state = 'waiting_model'::text OR review_state = 'running'::text THEN 3
    WHEN outcome = 'escalate'::text THEN 6
    WHEN outcome = 'fail'::text THEN 5
    WHEN outcome = 'pass'::text THEN 2
    ELSE 1
END"""
# What the queue page searches: the words of id and subject, punctuation apart, so that 2041 finds INC-2041.
SEARCHED = (
    "to_tsvector('simple'::regconfig, "
    "regexp_replace((external_id || ' '::text) || subject, '[^[:alnum:]]+'::text, ' '::text, 'g'::text))"
)


class Ticket(Base):
    """Mutable: the columns the queue page sorts and filters by, kept beside their sources in the same transaction."""

    __tablename__ = "tickets"
    id: Mapped[int] = _id()
    connection_id: Mapped[int] = mapped_column(ForeignKey("connections.id"))
    external_id: Mapped[str]
    subject: Mapped[str]
    queue: Mapped[str]
    assignee: Mapped[str]
    status: Mapped[str]
    revision_id: Mapped[int | None]  # the newest revision
    # waiting_model | running | done | parked of the newest revision; open = nothing to review yet
    review_state: Mapped[str] = mapped_column(server_default="open")
    review_note: Mapped[str] = mapped_column(server_default="")  # why it is parked or waits
    verdict_id: Mapped[int | None]  # the current verdict: newest revision, context in force, engine
    outcome: Mapped[str | None]
    score: Mapped[Decimal | None]
    escalated: Mapped[bool] = mapped_column(server_default=text("false"))  # verdict or intake says: a person
    urgency: Mapped[int] = mapped_column(SmallInteger, Computed(_URGENCY, persisted=True))
    sample: Mapped[bool] = mapped_column(server_default=text("false"))  # one of the tickets we ship
    # Order of states: the source's `updated_at`, else receipt; then receipt. An older state that arrives late loses.
    state_at: Mapped[datetime] = _now()
    state_received_at: Mapped[datetime] = _now()
    created_at: Mapped[datetime] = _now()
    changed_at: Mapped[datetime] = _now()  # newest revision or verdict
    __table_args__ = (
        UniqueConstraint("connection_id", "external_id"),
        _one_of("review_state", "open", "waiting_model", "running", "done", "parked"),
        _one_of("outcome", "pass", "fail", "escalate"),
        Index("ix_tickets_urgency", text("urgency DESC"), text("changed_at DESC"), text("id DESC")),
        Index("ix_tickets_queue", "queue", text("urgency DESC"), text("changed_at DESC"), text("id DESC")),
        Index(None, "connection_id", text("urgency DESC"), text("changed_at DESC"), text("id DESC")),
        Index("ix_tickets_search", text(SEARCHED), postgresql_using="gin"),
        Index(
            "ix_tickets_unfinished",
            "review_state",
            postgresql_where=text("review_state in ('waiting_model', 'running')"),
        ),
    )


class Revision(Base):
    """One immutable state of a ticket, secrets masked before it gets here."""

    __tablename__ = "revisions"
    id: Mapped[int] = _id()
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    content_hash: Mapped[str]
    intake_hash: Mapped[str]
    document: Mapped[dict[str, Any]]  # {"version": 1, "ticket": {...}, "masked": [...]}
    updated_at: Mapped[datetime | None]  # the source's word; order is this, else recorded_at
    live: Mapped[bool] = mapped_column(server_default=text("true"))  # false: imported history, makes no observations
    recorded_at: Mapped[datetime] = _now()
    __table_args__ = (UniqueConstraint("ticket_id", "content_hash"),)


class ContextVersion(Base):
    __tablename__ = "contexts"
    version: Mapped[str] = mapped_column(primary_key=True)  # hash of all files
    documents: Mapped[dict[str, Any]]  # {"version": 1, "files": {name: text}}
    recorded_at: Mapped[datetime] = _now()


class Release(Base):
    """A context version going live; the newest row is in force."""

    __tablename__ = "releases"
    id: Mapped[int] = _id()
    context_version: Mapped[str] = mapped_column(ForeignKey("contexts.version"))
    note: Mapped[str]
    released_at: Mapped[datetime] = _now()


class Run(Base):
    """One attempt at a model call. With a reply it is paid and found again by its key; without one, possibly billed."""

    __tablename__ = "runs"
    id: Mapped[int] = _id()
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
    latency_ms: Mapped[int] = mapped_column(server_default=text("0"))
    recorded_at: Mapped[datetime] = _now()
    __table_args__ = (
        Index("uq_runs_reply_key", "reply_key", unique=True, postgresql_where=text("reply is not null")),
        Index(None, "revision_id"),
        Index(None, "recorded_at"),
    )


class Triage(Base):
    """Triage's answer for one intake, verified."""

    __tablename__ = "triages"
    id: Mapped[int] = _id()
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"))
    intake_hash: Mapped[str]
    agent_hash: Mapped[str]
    model: Mapped[str]
    answer: Mapped[dict[str, Any]]  # {"version": 1, "category", "priority", "fields", "rules", "ask"}
    recorded_at: Mapped[datetime] = _now()
    __table_args__ = (UniqueConstraint("ticket_id", "intake_hash", "agent_hash", "model"),)


class Escalation(Base):
    """An escalation rule that applies to a ticket, and the span that shows it; an open ticket has no other mark."""

    __tablename__ = "escalations"
    id: Mapped[int] = _id()
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"))
    rule: Mapped[str]
    agent: Mapped[str]
    evidence: Mapped[list[Any]]
    recorded_at: Mapped[datetime] = _now()
    __table_args__ = (UniqueConstraint("revision_id", "rule", "agent"),)


class Verdict(Base):
    """Pins everything it rests on: revision, context version, engine, panel (the models that judged, or 'none')."""

    __tablename__ = "verdicts"
    id: Mapped[int] = _id()
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"))
    context_version: Mapped[str] = mapped_column(ForeignKey("contexts.version"))
    engine_version: Mapped[int]
    panel: Mapped[str]
    demonstration: Mapped[bool]  # judged by the local demonstration model
    outcome: Mapped[str]
    score: Mapped[Decimal | None]
    reasons: Mapped[list[Any]]
    cost_usd: Mapped[Decimal | None]
    recorded_at: Mapped[datetime] = _now()
    __table_args__ = (
        UniqueConstraint("revision_id", "context_version", "engine_version", "panel"),
        _one_of("outcome", "pass", "fail", "escalate"),
        Index(None, "recorded_at"),
        Index("ix_verdicts_no_model", "id", postgresql_where=text("panel = 'none'")),  # a later model takes them up
    )


class Finding(Base):
    __tablename__ = "findings"
    id: Mapped[int] = _id()
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
        _one_of("kind", "judged", "checked"),
        _one_of("result", "met", "partly", "not_met", "not_applicable", "unscored"),
        _one_of("evidence_status", "verified", "absent", "void"),
        Index("ix_findings_criterion_result", "criterion", "result"),
    )


class Observation(Base):
    """One failure of an agent: who saw it, about whom, what failed, on which ticket."""

    __tablename__ = "observations"
    id: Mapped[int] = _id()
    observer: Mapped[str]  # validator, qc, person
    agent: Mapped[str]
    code: Mapped[str]
    subject: Mapped[str]  # criterion, field or rule; empty where the whole answer failed
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"))
    context_version: Mapped[str] = mapped_column(ForeignKey("contexts.version"))
    evidence: Mapped[list[Any]]
    recorded_at: Mapped[datetime] = _now()
    __table_args__ = (
        UniqueConstraint("observer", "agent", "code", "subject", "revision_id", "context_version"),
        Index(None, "agent", "code", "subject", "recorded_at"),
    )


class ModelState(Base):
    """What the model of each role is doing, written by whoever looks it up or loads it. Mutable."""

    __tablename__ = "model_states"
    role: Mapped[str] = mapped_column(primary_key=True)  # worker, strong
    model: Mapped[str]  # empty: none configured
    state: Mapped[str]  # none, checking, downloading, loading, ready, failed
    demonstration: Mapped[bool] = mapped_column(server_default=text("false"))
    progress: Mapped[float | None]  # 0..1 while downloading or loading, where known
    detail: Mapped[str] = mapped_column(server_default="")  # what happened and what to do, in words for the page
    changed_at: Mapped[datetime] = _now()
    __table_args__ = (
        _one_of("role", "worker", "strong"),
        _one_of("state", "none", "checking", "downloading", "loading", "ready", "failed"),
    )


class Tick(Base):
    """One tick of the clock, by its period; the key makes a second clock harmless."""

    __tablename__ = "ticks"
    key: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = _now()
