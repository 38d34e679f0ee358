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
