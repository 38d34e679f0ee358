"""Every number of the weekly report and of the dashboard, from SQL. A period is half open, by our own `recorded_at`.

Tickets that came with imported history are left out, except where `history` asks for them; money is counted whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  pydantic reads it
from typing import TYPE_CHECKING, Any

from app.periods import Period  # noqa: TC001  pydantic reads it
from app.queries.figures.decisions import Agreement, Escalations, agreement, escalations
from app.queries.figures.improving import Patterns, Proposals, ReleaseRow, patterns, proposals, releases
from app.queries.figures.money import Cost, Forecast, cost, forecast
from app.queries.figures.service import Health, health
from app.queries.figures.tickets import Volume, volume
from app.queries.figures.verdicts import (
    CriterionRow,
    Outcomes,
    VersionRow,
    by_criterion,
    by_version,
    outcomes,
)

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from sqlalchemy.orm import Session

__all__ = ["Figures", "Volume", "document", "read"]


@dataclass(frozen=True)
class Figures:
    """What happened in a period, beside a longer or equally long one before it."""

    period: Period
    compared: Period
    at: datetime  # when they were read
    volume: Volume
    outcomes: Outcomes
    outcomes_before: Outcomes
    versions: tuple[VersionRow, ...]
    criteria: tuple[CriterionRow, ...]
    escalations: Escalations
    seen: Agreement
    blind: Agreement
    patterns: Patterns
    proposals: Proposals
    releases: tuple[ReleaseRow, ...]
    cost: Cost
    cost_before: Cost
    forecast: Forecast
    health: Health


def read(  # noqa: PLR0913  what figures depend on
    session: Session, period: Period, *, compared: Period, now: datetime, zone: ZoneInfo, history: bool = False
) -> Figures:
    """All of them, in the caller's transaction. `now` is at the end of the period or later."""
    return Figures(
        period=period,
        compared=compared,
        at=now,
        volume=volume(session, period, history=history),
        outcomes=outcomes(session, period, history=history),
        outcomes_before=outcomes(session, compared, history=history),
        versions=by_version(session, period, history=history),
        criteria=by_criterion(session, period, before=compared, history=history),
        escalations=escalations(session, period, history=history),
        seen=agreement(session, period, blind=False, history=history),
        blind=agreement(session, period, blind=True, history=history),
        patterns=patterns(session, period),
        proposals=proposals(session, period),
        releases=releases(session, period, now=now),
        cost=cost(session, period),
        cost_before=cost(session, compared),
        forecast=forecast(session, period.end, zone),
        health=health(session, period),
    )


def document(figures: Figures) -> dict[str, Any]:
    """As a report keeps them."""
    from pydantic import TypeAdapter  # noqa: PLC0415  only a report is kept

    return {"version": 1, **TypeAdapter(Figures).dump_python(figures, mode="json")}
