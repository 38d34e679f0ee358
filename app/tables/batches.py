"""What is asked by Message Batches: the batches, what is in them, and the tickets that wait for them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, identity, moment, one_of


class Batch(Base):
    """Questions handed over together. Mutable: where it is. Its row is there before it is sent."""

    __tablename__ = "batches"
    id: Mapped[int] = identity()
    vendor_id: Mapped[str | None] = mapped_column(unique=True)  # null: sent, perhaps, and no answer yet
    model: Mapped[str]
    # submitting; waiting: the vendor has it; ended: its results are kept; lost: nothing of it will come
    state: Mapped[str] = mapped_column(server_default="submitting")
    requests: Mapped[int]
    succeeded: Mapped[int] = mapped_column(server_default=text("0"))
    errored: Mapped[int] = mapped_column(server_default=text("0"))
    canceled: Mapped[int] = mapped_column(server_default=text("0"))
    expired: Mapped[int] = mapped_column(server_default=text("0"))
    note: Mapped[str] = mapped_column(server_default="")  # what people should know about where it is
    reservation_id: Mapped[int | None]  # what is set aside for it of the day's budget
    created_at: Mapped[datetime] = moment()
    sent_at: Mapped[datetime | None]  # by the vendor's clock, also where it was found again later
    expires_at: Mapped[datetime | None]
    cancel_asked_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    __table_args__ = (
        one_of("state", "submitting", "waiting", "ended", "lost"),
        Index("ix_batches_open", "id", postgresql_where=text("state in ('submitting', 'waiting')")),
    )


class BatchRequest(Base):
    """One question of a batch; its reply key is its custom id. Mutable: what became of it."""

    __tablename__ = "batch_requests"
    batch_id: Mapped[int] = mapped_column(ForeignKey("batches.id"), primary_key=True)
    reply_key: Mapped[str] = mapped_column(primary_key=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"))
    context_version: Mapped[str] = mapped_column(ForeignKey("contexts.version"))
    agent: Mapped[str]
    purpose: Mapped[str]
    repetition: Mapped[int]
    agent_hash: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="asked")  # refused: the request itself was at fault
    note: Mapped[str] = mapped_column(server_default="")  # of an error, in the server's words
    __table_args__ = (
        one_of("state", "asked", "succeeded", "errored", "refused", "canceled", "expired"),
        Index("ix_batch_requests_asked", "reply_key", postgresql_where=text("state = 'asked'")),
    )


class BatchTicket(Base):
    """A revision that is judged by batch: no other job takes it up. Mutable; the row goes when it is handed over."""

    __tablename__ = "batch_tickets"
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"), primary_key=True)
    batch_id: Mapped[int | None] = mapped_column(ForeignKey("batches.id"))  # that it waits for; null: for the next one
    reply_key: Mapped[str | None]  # of the question that it waits for
    tries: Mapped[int] = mapped_column(server_default=text("0"))  # batches that brought it no answer
    recorded_at: Mapped[datetime] = moment()
    __table_args__ = (
        Index(None, "batch_id"),
        Index("ix_batch_tickets_free", "revision_id", postgresql_where=text("batch_id is null")),
    )
