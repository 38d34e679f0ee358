"""The agents' page: what each agent did and cost, over days of the install's time zone."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, not_, select

from app.local_model import PREFIX as LOCAL
from app.runs import DUPLICATE, for_its_own_sake, not_evaluating
from app.tables import Run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class SpentRow:
    """`unanswered` are attempts without a reply that may have been billed; `unpriced` have no known price."""

    runs: int = 0
    cost_usd: Decimal = Decimal(0)
    unanswered: int = 0
    unpriced: int = 0


@dataclass(frozen=True)
class UsageRow:
    """An agent's work in a week and in a month; what trials, re-scorings and the shadow asked is apart."""

    week: SpentRow = SpentRow()
    month: SpentRow = SpentRow()
    trials_week: SpentRow = SpentRow()
    trials_month: SpentRow = SpentRow()


def usage(session: Session, *, week: datetime, month: datetime) -> Mapping[str, UsageRow]:
    """By agent, without evaluations; `week` and `month` are the last moments not in them, the month's the earlier."""
    own = for_its_own_sake()
    recent = Run.recorded_at > week
    groups = (and_(recent, own), own, and_(recent, not_(own)), not_(own))
    columns = [column for group in groups for column in _spent(group)]
    rows = session.execute(
        select(Run.agent, *columns).where(Run.recorded_at > month, not_evaluating()).group_by(Run.agent)
    )
    return {agent: UsageRow(*(SpentRow(*values[at : at + 4]) for at in range(0, 16, 4))) for agent, *values in rows}


def _spent(group: ColumnElement[bool]) -> tuple[ColumnElement[Any], ...]:
    """The columns of a SpentRow, of this group of runs. An answer that came second was paid for like the first."""
    answered = and_(group, Run.replied)
    billed = and_(group, not_(Run.replied), Run.outcome != DUPLICATE, not_(Run.model.startswith(LOCAL)))
    return (
        func.count().filter(answered),
        func.coalesce(func.sum(Run.cost_usd).filter(group), Decimal(0)),
        func.count().filter(billed),
        func.count().filter(and_(answered, Run.cost_usd.is_(None))),
    )
