"""How often agents failed, by day, and among how many runs: what the pages of agents and of patterns have in common."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Date, and_, cast, func, literal, literal_column, or_, select

from app.patterns import stands
from app.runs import for_its_own_sake
from app.tables import Label, Observation, Revision, Run, Verdict

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

# Purposes of an agent's own first word. A repair is the same answer mended; what tries texts out fails nobody.
FIRST_WORDS = ("review", "second", "masked", "strong", "propose", "opening")
SHOWS_IN: Mapping[str, tuple[str, ...]] = {"unstable": ("second",), "swayed": ("masked",)}  # elsewhere it cannot
INSTANT = timedelta(microseconds=1)  # as exact as the database is


@dataclass(frozen=True)
class Chances:
    """In how many runs of some time a failure could have shown; `decided` are pass or fail that a person looked at.

    Imported history is in neither: what fails there is not counted, so it must not make the rate look better.
    """

    runs: Mapping[tuple[str, str], int]  # (agent, purpose) -> answered ones
    decided: int

    def of(self, agent: str, code: str) -> int:
        if code == "overruled":
            return self.decided
        return sum(self.runs.get((agent, purpose), 0) for purpose in SHOWS_IN.get(code, FIRST_WORDS))


def chances(session: Session, *, after: datetime, until: datetime | None = None) -> Chances:
    """Since a moment, which itself is not in it, until another, which is; None: until now."""
    end = literal_column("'infinity'::timestamptz") if until is None else literal(until)
    counted = (
        select(Run.agent, Run.purpose, func.count())
        .outerjoin(Revision, Revision.id == Run.revision_id)
        .where(Run.recorded_at > after, Run.recorded_at <= end, Run.replied, Run.purpose.in_(FIRST_WORDS))
        .where(for_its_own_sake())
        .where(or_(Run.revision_id.is_(None), Revision.live))
        .group_by(Run.agent, Run.purpose)
    )
    decided = (
        select(func.count(Label.revision_id.distinct()))
        .join(Verdict, Verdict.id == Label.verdict_id)
        .join(Revision, and_(Revision.id == Label.revision_id, Revision.live))
        .where(Label.recorded_at > after, Label.recorded_at <= end, Verdict.outcome.in_(("pass", "fail")))
    )
    runs = {(agent, purpose): number for agent, purpose, number in session.execute(counted)}
    return Chances(runs, session.scalar(decided) or 0)


def rate(number: int, possible: int) -> float | None:
    """So many per 100; None where there was nothing to fail in."""
    return 100 * number / possible if possible else None


class Days(NamedTuple):
    """So many days of the install's time zone up to today, which is not over yet."""

    zone: ZoneInfo
    dates: tuple[date, ...]

    @property
    def after(self) -> datetime:
        """The last moment before the first day."""
        return datetime.combine(self.dates[0], time(), self.zone).astimezone(UTC) - INSTANT

    def spread(self, counts: Mapping[date, int]) -> tuple[int, ...]:
        """A number for each day, also for those without any."""
        return tuple(counts.get(day, 0) for day in self.dates)


def last_days(number: int, *, now: datetime, timezone: str) -> Days:
    zone = ZoneInfo(timezone)
    today = now.astimezone(zone).date()
    return Days(zone, tuple(today - timedelta(days=back) for back in reversed(range(number))))


class DailyRow(NamedTuple):
    agent: str
    code: str
    direction: str
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)


def by_day(session: Session, days: Days, *conditions: ColumnElement[bool]) -> tuple[DailyRow, ...]:
    """What failed on which day, the most frequent first; only what still stands."""
    local = func.timezone(literal(days.zone.key), Observation.recorded_at)
    day = cast(local, Date)
    kind = (Observation.agent, Observation.code, Observation.direction)
    rows = session.execute(
        select(*kind, day, func.count())
        .where(Observation.recorded_at > days.after, stands(), *conditions)
        .group_by(*kind, day)
    )
    found: dict[tuple[str, str, str], dict[date, int]] = {}
    for agent, code, direction, on, number in rows:
        found.setdefault((agent, code, direction), {})[on] = number
    daily = [DailyRow(*key, days.spread(counts)) for key, counts in found.items()]
    return tuple(sorted(daily, key=lambda row: (-row.total, row)))
