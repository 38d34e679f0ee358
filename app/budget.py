"""The day's budget: a warning at four fifths of it, and nothing more is paid where it has no room.

Before a call what it may cost at the most is set aside, in one statement that sees what all workers have spent and set
aside; so what their replies cost together never goes beyond it. An attempt that ends without a reply may be billed all
the same: it is on record as possibly billed, and takes nothing from the budget. Work that is refused waits, and goes on
the next day by itself.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import Engine, delete, func, literal, select, text
from sqlalchemy.dialects.postgresql import insert

from agents.prices import worst
from app import clock, ledger
from app.db import transaction
from app.limiter import NotSent
from app.locks import Lock, take
from app.tables import BudgetStop, Reservation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date

    from sqlalchemy.orm import Session

    from agents.question import Question
    from app.settings import Settings

log = structlog.get_logger()

WARN_AT = Decimal("0.8")
# Six tries of the strong tier, with the waits between; a dead worker's reservation counts no longer.
LONGEST_CALL = timedelta(minutes=45)
VARIABLE = "TICKETQC_DAILY_BUDGET_USD"


class OverBudget(NotSent):
    """The day's budget has no room for a call; the message says when it goes on."""

    def __init__(self, message: str) -> None:
        super().__init__("over_budget", message)


class Day(NamedTuple):
    """A day in the install's time zone; `start` and `end` are its midnights."""

    name: date
    start: datetime
    end: datetime
    zone: ZoneInfo

    @classmethod
    def of(cls, moment: datetime, zone: ZoneInfo) -> Day:
        name = moment.astimezone(zone).date()
        start, end = (datetime.combine(one, time(), zone) for one in (name, name + timedelta(days=1)))
        return cls(name, start.astimezone(UTC), end.astimezone(UTC), zone)


@dataclass(frozen=True)
class Standing:
    """Where a day's spending stands. `limit` None: there is no budget."""

    day: Day
    limit: Decimal | None
    spent_usd: Decimal
    reserved_usd: Decimal
    needed_usd: Decimal | None  # of the smallest call that was refused today

    @property
    def warning(self) -> bool:
        """Four fifths of it are spent."""
        return self.limit is not None and self.spent_usd >= WARN_AT * self.limit

    @property
    def stopped(self) -> bool:
        """Work waits: there is no room for what was refused."""
        if self.limit is None or self.needed_usd is None:
            return False
        return self.spent_usd + self.reserved_usd + self.needed_usd > self.limit

    @property
    def again(self) -> str:
        """When work that waits goes on."""
        return f"at 00:00 on {self.day.name + timedelta(days=1)} ({self.day.zone.key})"


def standing(session: Session, *, limit: Decimal | None, now: datetime, zone: ZoneInfo) -> Standing:
    """Of the day that a moment is in, by one query over at most a hundred rows."""
    day = Day.of(now, zone)
    spent = ledger.spent(start=day.start, end=day.end)
    needed = select(BudgetStop.needed_usd).where(BudgetStop.day == day.name).scalar_subquery()
    return Standing(day, limit, *session.execute(select(spent, _RESERVED, needed)).one())


_RESERVED = (
    select(func.coalesce(func.sum(Reservation.amount_usd), 0)).where(Reservation.until > func.now()).scalar_subquery()
)


class Budget:
    """The budget as the calls of one process meet it."""

    def __init__(self, engine: Engine, settings: Settings, *, now: Callable[[], datetime] = clock.now) -> None:
        self._engine = engine
        self._now = now
        self._zone = ZoneInfo(settings.timezone)
        self.limit = settings.daily_budget_usd

    @contextmanager
    def held(self, question: Question) -> Iterator[None]:
        """What the call may cost at the most is set aside while the block lasts. Raises OverBudget.

        A model without a known price costs an unknown sum, which no budget can hold; `doctor` says so.
        """
        needed = worst(question, on=self._now().date()) if self.limit is not None else None
        if needed is None:
            yield
            return
        reservation = self.reserve(needed)
        try:
            yield
        finally:
            self.release(reservation)

    def reserve(self, needed: Decimal) -> int:
        """So much of today's budget is set aside; its number is for `release`. Raises OverBudget."""
        with transaction(self._engine) as session:
            session.execute(text("set local synchronous_commit = off"))  # a reservation that a crash loses is no loss
            take(session, Lock.BUDGET)
            now = standing(session, limit=self.limit, now=self._now(), zone=self._zone)
            if self.limit is None or now.spent_usd + now.reserved_usd + needed <= self.limit:
                until = func.now() + literal(LONGEST_CALL)
                row = insert(Reservation).values(amount_usd=needed, until=until).returning(Reservation.id)
                return session.scalars(row).one()
            _stop(session, now.day, needed)
        log.info("budget.refused", needed_usd=str(needed), spent_usd=str(now.spent_usd), budget_usd=str(self.limit))
        raise OverBudget(
            f"today's budget of ${self.limit:f} has no room for another call; it goes on by itself {now.again}, "
            f"or when {VARIABLE} is raised"
        )

    def room(self, session: Session) -> Decimal:
        """What today's budget still has for calls that nothing is set aside for; 0 where there is no budget."""
        now = standing(session, limit=self.limit, now=self._now(), zone=self._zone)
        return (now.limit or Decimal(0)) - now.spent_usd - now.reserved_usd

    def release(self, reservation: int) -> None:
        """It is spent, and on record, or it will not be. Those that nobody released in time go with it."""
        over = (Reservation.id == reservation) | (Reservation.until < func.now())
        with transaction(self._engine) as session:
            session.execute(text("set local synchronous_commit = off"))
            session.execute(delete(Reservation).where(over))

    def warning(self, session: Session) -> Standing | None:
        """How today stands where four fifths of it are spent, so that what can wait leaves the rest to others."""
        if self.limit is None:
            return None
        now = standing(session, limit=self.limit, now=self._now(), zone=self._zone)
        return now if now.warning else None

    def stopped(self, session: Session) -> bool:
        """Whether work would only be refused again."""
        return self.limit is not None and standing(session, limit=self.limit, now=self._now(), zone=self._zone).stopped


def _stop(session: Session, day: Day, needed: Decimal) -> None:
    statement = insert(BudgetStop).values(day=day.name, needed_usd=needed)
    least = func.least(BudgetStop.needed_usd, statement.excluded.needed_usd)
    session.execute(statement.on_conflict_do_update(index_elements=["day"], set_={"needed_usd": least}))
