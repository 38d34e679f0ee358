"""What was spent, what is set aside for calls under way, and when a day's budget ended."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, identity, moment


class Spending(Base):
    """Sums over `runs`, by quarter of an hour: days of any time zone are made of them.

    Mutable: added to in the transaction that records the run.
    """

    __tablename__ = "spending"
    quarter: Mapped[datetime] = mapped_column(primary_key=True)  # when it began
    agent: Mapped[str] = mapped_column(primary_key=True)
    calls: Mapped[int] = mapped_column(server_default=text("0"))
    cost_usd: Mapped[Decimal] = mapped_column(server_default=text("0"))  # of what has a price
    # Written by the release before this one, and read by nobody: reuses have rows of their own. To be dropped next.
    reused: Mapped[int] = mapped_column(server_default=text("0"))
    saved_usd: Mapped[Decimal] = mapped_column(server_default=text("0"))


class Reservation(Base):
    """What one call under way may cost at the most. Gone when it ends; one of a dead worker counts until `until`."""

    __tablename__ = "reservations"
    id: Mapped[int] = identity()
    amount_usd: Mapped[Decimal]
    until: Mapped[datetime]
    __table_args__ = (Index(None, "until"),)


class BudgetStop(Base):
    """A day, in the install's time zone, on which a call was refused because its budget had no room for it. Mutable."""

    __tablename__ = "budget_stops"
    day: Mapped[date] = mapped_column(primary_key=True)
    needed_usd: Mapped[Decimal]  # the smallest call that was refused; work goes on when there is room for it
    stopped_at: Mapped[datetime] = moment()
