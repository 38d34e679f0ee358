"""What comes in: connections, deliveries, imports, tickets and their states."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import CheckConstraint, Computed, ForeignKey, Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, identity, moment, one_of


class Connection(Base):
    """Where tickets come from: a webhook, or files (`scheme = 'file'`). Mutable: settings and what it supplies."""

    __tablename__ = "connections"
    id: Mapped[int] = identity()
    name: Mapped[str] = mapped_column(unique=True)  # also the tickets' source, and the last part of the hook's address
    scheme: Mapped[str]
    secret: Mapped[bytes | None]  # encrypted with the install's key
    options: Mapped[dict[str, Any]]  # header, prefix, encoding ... of the scheme
    field_map: Mapped[dict[str, Any] | None]  # {field: {"path": JMESPath, "values": {...}}}; null = our own JSON
    declared: Mapped[list[str] | None]  # optional fields the operator says it supplies; null = found out from tickets
    supplied: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))  # optional fields seen filled so far
    rejected: Mapped[int] = mapped_column(server_default=text("0"))  # bad signatures; nothing else of them is kept
    created_at: Mapped[datetime] = moment()
    __table_args__ = (one_of("scheme", "standard", "hmac", "header", "basic", "path", "file"),)


class Delivery(Base):
    """One webhook call, stored raw and encrypted before anything else happens. Mutable: what became of it."""

    __tablename__ = "deliveries"
    id: Mapped[int] = identity()
    connection_id: Mapped[int] = mapped_column(ForeignKey("connections.id"))
    key: Mapped[str]  # the scheme's delivery id, else the body's hash and its ten minutes
    body: Mapped[bytes | None]  # encrypted; null once retention has taken it
    received_at: Mapped[datetime] = moment()
    state: Mapped[str] = mapped_column(server_default="received")
    reason: Mapped[str] = mapped_column(server_default="")
    revision_id: Mapped[int | None] = mapped_column(ForeignKey("revisions.id", ondelete="SET NULL"))
    __table_args__ = (
        UniqueConstraint("connection_id", "key"),
        one_of("state", "received", "read", "parked"),
        Index("ix_deliveries_parked", "received_at", postgresql_where=text("state = 'parked'")),
        Index(None, "received_at"),
    )


class Import(Base):
    """How far one file got, by the hash of its content. Mutable: moves in the transaction that records the rows."""

    __tablename__ = "imports"
    id: Mapped[int] = identity()
    connection_id: Mapped[int] = mapped_column(ForeignKey("connections.id"))
    file_hash: Mapped[str]
    file_name: Mapped[str]
    position: Mapped[int] = mapped_column(server_default=text("0"))  # bytes of the file that are done
    lines: Mapped[int] = mapped_column(server_default=text("0"))
    new: Mapped[int] = mapped_column(server_default=text("0"))
    unchanged: Mapped[int] = mapped_column(server_default=text("0"))
    skipped: Mapped[int] = mapped_column(server_default=text("0"))
    finished: Mapped[bool] = mapped_column(server_default=text("false"))
    started_at: Mapped[datetime] = moment()
    changed_at: Mapped[datetime] = moment()
    __table_args__ = (UniqueConstraint("connection_id", "file_hash"),)


# Higher is more urgent: escalate 6, fail 5, parked 4, waiting 3, pass 2, open 1, decided by a person 0. Computed by the
# database, so that nobody who writes a ticket can forget it; spelled as Postgres prints it, so that a migration check
# sees no difference.
_URGENCY = """CASE
    WHEN decision IS NOT NULL THEN 0
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
    id: Mapped[int] = identity()
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
    label_id: Mapped[int | None]  # the person's decision that stands about the newest revision
    decision: Mapped[str | None]  # its outcome
    claimed_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))  # who looks after it now
    claimed_at: Mapped[datetime | None]
    urgency: Mapped[int] = mapped_column(SmallInteger, Computed(_URGENCY, persisted=True))
    sample: Mapped[bool] = mapped_column(server_default=text("false"))  # one of the tickets we ship
    # Order of states: the source's `updated_at`, else receipt; then receipt. An older state that arrives late loses.
    state_at: Mapped[datetime] = moment()
    state_received_at: Mapped[datetime] = moment()
    created_at: Mapped[datetime] = moment()
    changed_at: Mapped[datetime] = moment()  # newest revision, verdict or decision
    __table_args__ = (
        UniqueConstraint("connection_id", "external_id"),
        one_of("review_state", "open", "waiting_model", "running", "done", "parked"),
        one_of("outcome", "pass", "fail", "escalate"),
        one_of("decision", "pass", "fail", "cannot_tell"),
        CheckConstraint("(claimed_by is null) = (claimed_at is null)", name="claim"),
        # Forwards: the most urgent first, and of those the longest waiting. Backwards: one state's latest first.
        Index("ix_tickets_urgency", text("urgency DESC"), "changed_at", "id"),
        Index("ix_tickets_queue", "queue", text("urgency DESC"), "changed_at", "id"),
        Index("ix_tickets_source", "connection_id", text("urgency DESC"), "changed_at", "id"),
        Index("ix_tickets_assignee", "assignee", text("urgency DESC"), "changed_at", "id"),
        Index(None, "claimed_by", postgresql_where=text("claimed_by is not null")),
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
    id: Mapped[int] = identity()
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    content_hash: Mapped[str]
    intake_hash: Mapped[str]
    document: Mapped[dict[str, Any]]  # {"version": 1, "ticket": {...}, "masked": [...]}
    updated_at: Mapped[datetime | None]  # the source's word; order is this, else recorded_at
    live: Mapped[bool] = mapped_column(server_default=text("true"))  # false: imported history, makes no observations
    recorded_at: Mapped[datetime] = moment()
    __table_args__ = (UniqueConstraint("ticket_id", "content_hash"), Index(None, "recorded_at"))
