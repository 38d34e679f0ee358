"""What processes tell each other."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, moment, one_of


class ModelState(Base):
    """What the model of each role is doing, written by whoever looks it up or loads it. Mutable."""

    __tablename__ = "model_states"
    role: Mapped[str] = mapped_column(primary_key=True)  # worker, strong
    model: Mapped[str]  # empty: none configured
    state: Mapped[str]  # none, checking, downloading, loading, ready, failed
    demonstration: Mapped[bool] = mapped_column(server_default=text("false"))
    progress: Mapped[float | None]  # 0..1 while downloading or loading, where known
    detail: Mapped[str] = mapped_column(server_default="")  # what happened and what to do, in words for the page
    changed_at: Mapped[datetime] = moment()
    __table_args__ = (
        one_of("role", "worker", "strong"),
        one_of("state", "none", "checking", "downloading", "loading", "ready", "failed"),
    )


class Tick(Base):
    """One tick of the clock, by its period; the key makes a second clock harmless."""

    __tablename__ = "ticks"
    key: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = moment()


class Breaker(Base):
    """A key that no call can succeed with: nobody uses it until a probe succeeds, and then the row is gone. Mutable."""

    __tablename__ = "breakers"
    scope: Mapped[str] = mapped_column(primary_key=True)  # of the key and its server: a hash, never the key
    code: Mapped[str]  # authentication, billing
    detail: Mapped[str]  # what happened and what to do, in words for the page
    failures: Mapped[int] = mapped_column(
        server_default=text("1")
    )  # calls and probes that said so, one after the other
    opened_at: Mapped[datetime] = moment()
    probe_at: Mapped[datetime]  # from then on one process may try
