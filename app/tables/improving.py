"""How the system improves: patterns, proposals and their trial, models compared, and the weekly report about it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, identity, moment, one_of


class Pattern(Base):
    """The same failure on three tickets within seven days. Mutable: its state; what happened is in its events."""

    __tablename__ = "patterns"
    id: Mapped[int] = identity()
    agent: Mapped[str]
    code: Mapped[str]
    subject: Mapped[str]
    direction: Mapped[str] = mapped_column(server_default="")
    state: Mapped[str] = mapped_column(server_default="open")  # decided: cools down; closed: quiet; muted: by a person
    cool_until: Mapped[datetime | None]
    opened_at: Mapped[datetime]  # the last time that it opened
    __table_args__ = (
        UniqueConstraint("agent", "code", "subject", "direction"),
        one_of("state", "open", "decided", "closed", "muted"),
    )


class PatternEvent(Base):
    """Something that happened to a pattern. `no_answer`: the chief of staff was asked and gave nothing usable."""

    __tablename__ = "pattern_events"
    id: Mapped[int] = identity()
    pattern_id: Mapped[int] = mapped_column(ForeignKey("patterns.id"))
    kind: Mapped[str]
    note: Mapped[str] = mapped_column(server_default="")
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    recorded_at: Mapped[datetime] = moment()
    __table_args__ = (
        one_of(
            "kind", "opened", "reopened", "called", "no_answer", "proposed", "decided", "closed", "muted", "unmuted"
        ),
        Index(None, "pattern_id", "id"),
        Index(None, "recorded_at"),
    )


class Proposal(Base):
    """What the chief of staff answered about a pattern. Mutable: what a person decided about it."""

    __tablename__ = "proposals"
    id: Mapped[int] = identity()
    pattern_id: Mapped[int] = mapped_column(ForeignKey("patterns.id"))
    kind: Mapped[str]
    why: Mapped[str]
    questions: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    model: Mapped[str]
    demonstration: Mapped[bool]
    state: Mapped[str] = mapped_column(server_default="open")
    decided_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    decided_at: Mapped[datetime | None]
    decision_note: Mapped[str] = mapped_column(server_default="")
    recorded_at: Mapped[datetime] = moment()
    __table_args__ = (
        one_of("kind", "more_context", "rewrite", "escalation_rule", "unclear", "noise"),
        one_of("state", "open", "approved", "rejected"),
        Index("uq_proposals_open", "pattern_id", unique=True, postgresql_where=text("state = 'open'")),
        Index(None, "recorded_at"),
    )


class Draft(Base):
    """One wording of a proposal's edits: the chief's own first, then those a person changed or tried anew."""

    __tablename__ = "drafts"
    id: Mapped[int] = identity()
    proposal_id: Mapped[int] = mapped_column(ForeignKey("proposals.id"))
    number: Mapped[int]
    base_version: Mapped[str] = mapped_column(ForeignKey("contexts.version"))
    candidate_version: Mapped[str] = mapped_column(ForeignKey("contexts.version"))
    edits: Mapped[dict[str, Any]]  # {"version": 1, "edits": [...]}
    author_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))  # null: the chief of staff
    recorded_at: Mapped[datetime] = moment()
    __table_args__ = (UniqueConstraint("proposal_id", "number"),)


class Replay(Base):
    """A draft tried on tickets, old and new context run fresh side by side. Mutable: how far it got."""

    __tablename__ = "replays"
    id: Mapped[int] = identity()
    draft_id: Mapped[int] = mapped_column(ForeignKey("drafts.id"), unique=True)
    state: Mapped[str] = mapped_column(server_default="waiting")
    note: Mapped[str] = mapped_column(server_default="")  # why it waits or failed
    model: Mapped[str] = mapped_column(server_default="")
    demonstration: Mapped[bool] = mapped_column(server_default=text("false"))
    repetitions: Mapped[int]  # of each ticket under each context
    tickets: Mapped[int] = mapped_column(server_default=text("0"))  # that it is tried on
    labelled: Mapped[int] = mapped_column(server_default=text("0"))  # of these
    available: Mapped[int] = mapped_column(server_default=text("0"))  # tickets there were to choose from
    calls: Mapped[int] = mapped_column(server_default=text("0"))  # that it takes in all
    estimate_usd: Mapped[Decimal | None]
    result: Mapped[dict[str, Any] | None]  # {"version": 1, "cases": [...], "summary": {...}}
    cost_usd: Mapped[Decimal | None]
    recorded_at: Mapped[datetime] = moment()
    finished_at: Mapped[datetime | None]
    __table_args__ = (one_of("state", "waiting", "running", "done", "failed"),)


class Eval(Base):
    """Models that were compared with people on labelled tickets, and what came of it; made again it is another row."""

    __tablename__ = "evals"
    id: Mapped[int] = identity()
    context_version: Mapped[str] = mapped_column(ForeignKey("contexts.version"))
    models: Mapped[list[str]]
    figures: Mapped[dict[str, Any]]  # {"version": 1, "models": [...], "pairs": [...], ...}: no text of any ticket
    recorded_at: Mapped[datetime] = moment()


class Report(Base):
    """What was said about one week; made again it is another row, and the newest is shown."""

    __tablename__ = "reports"
    id: Mapped[int] = identity()
    week: Mapped[str]  # 2026-W47, in TICKETQC_TIMEZONE
    figures: Mapped[dict[str, Any]]  # {"version": 1, ...}: every number of the text
    opening_by: Mapped[str] = mapped_column(server_default="")  # the model that wrote the opening; empty: the program
    markdown: Mapped[str]
    actor: Mapped[str]
    recorded_at: Mapped[datetime] = moment()
    __table_args__ = (Index(None, "week", text("id DESC")),)


class Mail(Base):
    """One message to one address; the key says what it is for and keeps it from going twice. Mutable: how it went."""

    __tablename__ = "mails"
    key: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="sending")
    note: Mapped[str] = mapped_column(server_default="")
    recorded_at: Mapped[datetime] = moment()
    changed_at: Mapped[datetime] = moment()
    __table_args__ = (one_of("state", "sending", "sent", "failed"),)
