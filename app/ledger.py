"""The sums that budgets are held by: what was spent, by quarter of an hour.

Written in the transaction that records the run, so that they are what a sum over `runs` would say, at the price of one
row instead of a day's.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.dialects.postgresql import insert

from app.tables import Spending, table_of

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import CTE, ScalarSelect
    from sqlalchemy.dialects.postgresql import Insert
    from sqlalchemy.orm import Session

QUARTER = timedelta(minutes=15)  # every time zone's day begins with one
_NOW = func.date_bin(QUARTER, func.clock_timestamp(), text("timestamptz 'epoch'"))
_SPENDING = table_of(Spending)


def _added(insertion: Insert) -> Insert:
    sums = {name: _SPENDING.c[name] + insertion.excluded[name] for name in ("calls", "cost_usd")}
    return insertion.on_conflict_do_update(index_elements=["quarter", "agent"], set_=sums)


_BOOK = _added(insert(_SPENDING).values(quarter=_NOW))  # built once: it is a part of every batch


def book(session: Session, *, agent: str, cost_usd: Decimal | None, calls: int = 1) -> None:
    """Paid replies count. The last statement of a transaction: others wait for its row."""
    session.execute(_BOOK, {"agent": agent, "calls": calls, "cost_usd": cost_usd or Decimal(0)})


def booking(kept: CTE) -> Insert:
    """One paid reply counts where `kept` has a row. Takes `agent` and `cost_usd`, null where no price is known."""
    agent, cost_usd = (bindparam(name, type_=_SPENDING.c[name].type) for name in ("agent", "cost_usd"))
    reply = select(_NOW, agent, 1, func.coalesce(cost_usd, 0)).select_from(kept)
    return _added(insert(_SPENDING).from_select(["quarter", "agent", "calls", "cost_usd"], reply))


def spent(*, start: datetime, end: datetime) -> ScalarSelect[Decimal]:
    """US$ for everything recorded in a half-open period that begins and ends with a quarter of an hour."""
    within = (Spending.quarter >= start, Spending.quarter < end)
    return select(func.coalesce(func.sum(Spending.cost_usd), 0)).where(*within).scalar_subquery()
