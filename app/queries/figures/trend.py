"""The same figures for each of several weeks, each seven times 24 hours, the last one ending now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  pydantic reads it
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import Integer, cast, func, select

from app.periods import WEEK, Period
from app.queries.figures.tickets import within
from app.queries.figures.verdicts import Outcomes, counts, standing
from app.tables import Run

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, SQLColumnExpression
    from sqlalchemy.orm import Session

WEEKS = 8


@dataclass(frozen=True)
class WeekRow:
    """One of the weeks, the oldest first."""

    period: Period
    outcomes: Outcomes
    cost_usd: Decimal


def weeks(session: Session, now: datetime, *, history: bool = False) -> tuple[WeekRow, ...]:
    judged = _outcomes(session, now, history=history)
    paid = _costs(session, now)
    return tuple(
        WeekRow(period, judged.get(back, Outcomes()), paid.get(back, Decimal(0)))
        for back, period in reversed(list(enumerate(_periods(now))))
    )


def _periods(now: datetime) -> list[Period]:
    return [Period(now - (back + 1) * WEEK, now - back * WEEK) for back in range(WEEKS)]


def _outcomes(session: Session, now: datetime, *, history: bool) -> dict[int, Outcomes]:
    verdict = standing(_all(now), history=history)
    back = weeks_back(verdict.c.recorded_at, now)
    rows = session.execute(select(back, *counts(verdict)).group_by(back))
    return {number: Outcomes(*counted) for number, *counted in rows}


def _costs(session: Session, now: datetime) -> dict[int, Decimal]:
    back = weeks_back(Run.recorded_at, now)
    rows = session.execute(
        select(back, func.sum(Run.cost_usd)).where(within(Run.recorded_at, _all(now))).group_by(back)
    )
    return {number: amount or Decimal(0) for number, amount in rows}


def _all(now: datetime) -> Period:
    return Period(now - WEEKS * WEEK, now)


def weeks_back(column: SQLColumnExpression[datetime], now: datetime) -> ColumnElement[int]:
    """0 for the week that ends now. A moment at which a week begins is in it."""
    passed = func.extract("epoch", now - column)
    return cast(func.ceil(passed / int(WEEK.total_seconds())), Integer) - 1
