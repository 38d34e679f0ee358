"""How verdicts came about: the steps that tickets went through, how many each step settled, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, get_args

from sqlalchemy import BigInteger, and_, case, func, select

from agents.judge import Route
from agents.prices import TOKEN_KINDS, cost_of_many
from agents.question import Usage
from app.runs import for_its_own_sake
from app.tables import Run, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

STEPS: tuple[Route, ...] = get_args(Route)
_EXTRA = ("second", "masked", "strong")  # purposes of calls beyond triage and the first QC run
_STEP = case(*((Run.purpose.startswith(step), step) for step in _EXTRA), else_="worker")


@dataclass(frozen=True)
class StepRow:
    """Verdicts whose last step this was: settled there, or handed to a person; and what the step's calls cost."""

    step: Route
    settled: int = 0
    handed: int = 0
    cost_usd: Decimal = Decimal(0)

    @property
    def verdicts(self) -> int:
        return self.settled + self.handed


@dataclass(frozen=True)
class Routing:
    """The steps of some time, in their order."""

    steps: tuple[StepRow, ...]

    @property
    def verdicts(self) -> int:
        return sum(row.verdicts for row in self.steps)

    @property
    def handed(self) -> int:
        return sum(row.handed for row in self.steps)

    @property
    def cost_usd(self) -> Decimal:
        return sum((row.cost_usd for row in self.steps), Decimal(0))

    def share(self, number: int) -> float | None:
        """Of all verdicts; None where there are none."""
        return number / self.verdicts if self.verdicts else None


def routing(session: Session, *, week: datetime, month: datetime) -> tuple[Routing, Routing]:
    """Of the week and of the month; each is the last moment that is not in it, the month's the earlier."""
    counted = _counted(session, week=week, month=month)
    spent = _spent(session, week=week, month=month)
    none: tuple[int, ...] = (0, 0, 0, 0)
    nothing = (Decimal(0), Decimal(0))
    weeks, months = [], []
    for step in STEPS:
        settled, handed, settled_month, handed_month = counted.get(step, none)
        cost, cost_month = spent.get(step, nothing)
        weeks.append(StepRow(step, settled, handed, cost))
        months.append(StepRow(step, settled_month, handed_month, cost_month))
    return Routing(tuple(weeks)), Routing(tuple(months))


class StrongAlone(NamedTuple):
    """What judging cost, of all whose price is known; and what its first questions cost at a strong model's prices."""

    cost_usd: Decimal
    strong_usd: Decimal


def by_strong_alone(session: Session, model: str, *, after: datetime) -> StrongAlone | None:
    """For the tokens that triage and the first QC run did take; None where nothing was paid, or a price is unknown.

    At least: a strong model thinks before it answers. No ticket is long enough for the rates of long prompts.
    """
    paid = (Run.agent.in_(("triage", "qc")), Run.cost_usd > 0, Run.recorded_at > after, for_its_own_sake())
    spent = session.scalar(select(func.sum(Run.cost_usd)).where(*paid))
    day, batch = func.date(func.timezone("UTC", Run.recorded_at)), Run.batch_id.is_not(None)
    tokens = [func.sum(getattr(Run, f"{kind}_tokens")).cast(BigInteger) for kind in TOKEN_KINDS]
    first = select(day, batch, *tokens).where(*paid, Run.purpose.in_(("review", "repair")))
    each = [
        cost_of_many(model, Usage(**dict(zip(TOKEN_KINDS, sums, strict=True))), on=on, batch=by_batch)
        for on, by_batch, *sums in session.execute(first.group_by(day, batch))
    ]
    known = [cost for cost in each if cost is not None]
    return StrongAlone(spent, sum(known, Decimal(0))) if spent and known and len(known) == len(each) else None


def _counted(session: Session, *, week: datetime, month: datetime) -> Mapping[str, tuple[int, ...]]:
    """By step: settled and handed to a person, in the week and in the month."""
    handed = Verdict.outcome == "escalate"
    recent = Verdict.recorded_at > week
    groups: tuple[ColumnElement[bool], ...] = (and_(recent, ~handed), and_(recent, handed), ~handed, handed)
    columns = [func.count().filter(group) for group in groups]
    rows = session.execute(select(Verdict.route, *columns).where(Verdict.recorded_at > month).group_by(Verdict.route))
    return {route: tuple(numbers) for route, *numbers in rows}


def _spent(session: Session, *, week: datetime, month: datetime) -> Mapping[str, tuple[Decimal, Decimal]]:
    """By step: what its calls cost in the week and in the month. A trial of texts judges nobody's ticket."""
    judging = and_(Run.agent.in_(("triage", "qc")), for_its_own_sake())
    cost = func.coalesce(func.sum(Run.cost_usd), Decimal(0))
    recent = func.coalesce(func.sum(Run.cost_usd).filter(Run.recorded_at > week), Decimal(0))
    rows = session.execute(select(_STEP, recent, cost).where(Run.recorded_at > month, judging).group_by(_STEP))
    return {step: (of_week, of_month) for step, of_week, of_month in rows}
