"""What was paid for, and what a month is heading for. All that judges no ticket of today has lines of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  pydantic reads it
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, case, func, select

from app.local_model import PREFIX as LOCAL
from app.periods import DAY, WEEK, Period, last_days, month
from app.queries.failures import INSTANT
from app.queries.figures.tickets import within
from app.runs import DUPLICATE, PROBE, not_evaluating
from app.tables import Revision, Run

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from sqlalchemy import ColumnElement, SQLColumnExpression
    from sqlalchemy.orm import Session

LINES = ("tickets", "second", "masked", "strong", "replay", "rescore", "eval", "shadow", "chief", "probe", "local")
JUDGING = ("tickets", "second", "masked", "strong")
_LOCAL = Run.model.startswith(LOCAL, autoescape=True)  # the demonstration model on this machine, which bills nobody
_LINE = case(
    (_LOCAL, "local"),
    *((Run.purpose.startswith(line), line) for line in ("replay", "eval", "shadow")),
    (Run.rescore_id.is_not(None), "rescore"),
    (Run.agent == "chief_of_staff", "chief"),
    (Run.agent == PROBE, "probe"),
    *((Run.purpose.startswith(line), line) for line in JUDGING[1:]),
    else_="tickets",
)


@dataclass(frozen=True)
class CostRow:
    """Calls of one line. `unanswered` ones brought no reply but may be billed; `unpriced` ones have no known price."""

    line: str
    calls: int
    unanswered: int
    unpriced: int
    cost_usd: Decimal
    input_tokens: int
    output_tokens: int
    cache_write_tokens: int
    cache_read_tokens: int


@dataclass(frozen=True)
class Cost:
    """`tickets` are those that calls of the lines of judging were about."""

    lines: tuple[CostRow, ...]
    tickets: int

    @property
    def total_usd(self) -> Decimal:
        return sum((row.cost_usd for row in self.lines), Decimal(0))

    @property
    def per_ticket_usd(self) -> Decimal | None:
        """For judging alone; None where nothing was judged for money."""
        judging = sum((row.cost_usd for row in self.lines if row.line in JUDGING), Decimal(0))
        return judging / self.tickets if self.tickets else None

    def sum(self, name: str) -> int:
        return sum(getattr(row, name) for row in self.lines)

    @property
    def cache_hit(self) -> float | None:
        """Of all tokens that went in, those that were read from the vendor's cache."""
        read = self.sum("cache_read_tokens")
        everything = read + self.sum("input_tokens") + self.sum("cache_write_tokens")
        return read / everything if everything else None


@dataclass(frozen=True)
class Forecast:
    """A calendar month: spent so far, and with what a day of the last seven took for each day that is left."""

    month: str  # November 2026
    spent_usd: Decimal
    expected_usd: Decimal


def cost(session: Session, period: Period) -> Cost:
    """Whatever calls were made in the period, for live tickets and for imported history."""
    rows = session.execute(select(*_COLUMNS).where(within(Run.recorded_at, period)).group_by(_LINE))
    found = sorted((CostRow(*row) for row in rows), key=lambda row: LINES.index(row.line))
    about = (
        select(func.count(Revision.ticket_id.distinct()))
        .join(Run, Run.revision_id == Revision.id)
        .where(within(Run.recorded_at, period), Run.replied, _LINE.in_(JUDGING))
    )
    return Cost(tuple(found), session.scalar(about) or 0)


def forecast(session: Session, at: datetime, zone: ZoneInfo) -> Forecast:
    """Of the month that the moment just before `at` is in."""
    whole = month(at - INSTANT, zone)
    spent = _spent(session, Period(whole.start, at))
    left = Decimal((whole.end - at) / DAY)
    name = (at - INSTANT).astimezone(zone).strftime("%B %Y")
    return Forecast(name, spent, spent + _daily(session, at) * left)


def _daily(session: Session, at: datetime) -> Decimal:
    """The mean of the last seven days, or of those since the first call that counts, at least one.

    What somebody orders once does not come daily: batches, re-scoring, models that are compared.
    """
    week = last_days(at)
    daily = (not_evaluating(), Run.rescore_id.is_(None), Run.batch_id.is_(None))
    before = select(Run.recorded_at).where(Run.recorded_at < week.start, *daily).order_by(Run.recorded_at.desc())
    first = session.scalar(before.limit(1)) or session.scalar(
        select(func.min(Run.recorded_at)).where(within(Run.recorded_at, week), *daily)
    )
    if first is None:
        return Decimal(0)
    return _spent(session, week, *daily) / Decimal(min(max(at - first, DAY), WEEK) / DAY)


def _spent(session: Session, period: Period, *only: ColumnElement[bool]) -> Decimal:
    return session.scalar(select(func.sum(Run.cost_usd)).where(within(Run.recorded_at, period), *only)) or Decimal(0)


def _sum(column: SQLColumnExpression[int]) -> ColumnElement[int]:
    return func.coalesce(func.sum(column), 0).cast(BigInteger)


_COLUMNS = (
    _LINE,
    func.count().filter(Run.replied),
    func.count().filter(~Run.replied, Run.outcome != DUPLICATE, ~_LOCAL),
    func.count().filter(Run.replied, Run.cost_usd.is_(None)),
    func.coalesce(func.sum(Run.cost_usd), 0),
    _sum(Run.input_tokens),
    _sum(Run.output_tokens),
    _sum(Run.cache_write_5m_tokens + Run.cache_write_1h_tokens),
    _sum(Run.cache_read_tokens),
)
