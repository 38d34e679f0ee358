"""A past window judged again under a version of choice, beside the live verdicts, which stay as they are."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, identity, moment, one_of


class Rescore(Base):
    """What somebody wanted to know: this window under this version. Mutable: how far it got."""

    __tablename__ = "rescores"
    id: Mapped[int] = identity()
    context_version: Mapped[str] = mapped_column(ForeignKey("contexts.version"))
    since: Mapped[datetime]
    until: Mapped[datetime]  # not in it
    state: Mapped[str] = mapped_column(server_default="waiting")
    note: Mapped[str] = mapped_column(server_default="")  # why it waits or failed
    model: Mapped[str] = mapped_column(server_default="")  # that judges; 'none': checks only; empty until it begins
    demonstration: Mapped[bool] = mapped_column(server_default=text("false"))
    tickets: Mapped[int]
    unjudged: Mapped[int]  # finished in the window, without a verdict to compare with, and so left out
    removed: Mapped[int]  # left out because retention has taken their texts
    calls: Mapped[int]  # that it was expected to take; answers on record are not among them
    estimate_usd: Mapped[Decimal | None]
    actor: Mapped[str]
    recorded_at: Mapped[datetime] = moment()
    finished_at: Mapped[datetime | None]
    __table_args__ = (one_of("state", "waiting", "running", "done", "failed", "cancelled"),)


class RescoreResult(Base):
    """A ticket of it: the verdict that it had when the re-scoring began, and the one it would have. Filled once."""

    __tablename__ = "rescore_results"
    rescore_id: Mapped[int] = mapped_column(ForeignKey("rescores.id"), primary_key=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"), primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    verdict_id: Mapped[int] = mapped_column(ForeignKey("verdicts.id"))
    outcome: Mapped[str | None]  # null: not judged yet, or `note` says why it cannot be
    score: Mapped[Decimal | None]
    comparison: Mapped[dict[str, Any] | None]  # {"version": 1, "reasons": [...], "moves": [...]}
    moved: Mapped[bool] = mapped_column(server_default=text("false"))  # a finding is another than before
    note: Mapped[str] = mapped_column(server_default="")
    __table_args__ = (
        one_of("outcome", "pass", "fail", "escalate"),
        Index(
            "ix_rescore_results_waiting",
            *("rescore_id", "revision_id"),
            postgresql_where=text("outcome is null and note = ''"),
        ),
    )
