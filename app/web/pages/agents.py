"""`/agents`: a card for each agent: who it is, what it cost, where it failed, and what it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse  # noqa: TC002  FastAPI reads it from the signature

from agents.context import READ_BY
from app import releases
from app.models import choose
from app.queries import agents as queries
from app.queries import contexts
from app.queries import patterns as pattern_queries
from app.queries.agents import UsageRow
from app.queries.failures import by_day, chances, last_days, rate
from app.queries.routing import StrongAlone, by_strong_alone, routing
from app.tables import Pattern
from app.web import names
from app.web.guard import guard
from app.web.view import Viewed  # noqa: TC001  FastAPI reads it from the signature

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from app.queries.failures import Chances, DailyRow
    from app.queries.patterns import PatternRow, ProposalRow
    from app.settings import Settings

router = APIRouter(dependencies=[Depends(guard)])

WEEK, MONTH = 7, 30  # days, today among them
MOST_PROPOSALS = 3
ROLES = {"triage": "worker", "qc": "worker", "chief_of_staff": "strong"}


@dataclass(frozen=True)
class FailureLine:
    """One kind of failure, day by day, and how often that is among 100 runs that could have shown it."""

    row: DailyRow
    rate: float | None


@dataclass(frozen=True)
class Card:
    agent: str
    role: str
    usage: UsageRow
    failures: tuple[FailureLine, ...]
    files: tuple[str, ...]
    patterns: tuple[PatternRow, ...]
    proposals: tuple[ProposalRow, ...]


@router.get("/agents")
def agents(view: Viewed) -> HTMLResponse:
    session = view.session
    week = last_days(WEEK, now=view.now, timezone=view.settings.timezone)
    month = last_days(MONTH, now=view.now, timezone=view.settings.timezone)
    usage = queries.usage(session, week=week.after, month=month.after)
    failed = by_day(session, week)
    possible = chances(session, after=week.after)
    shown = pattern_queries.listed(session, now=view.now)
    cards = [
        Card(
            agent=agent,
            role=ROLES[agent],
            usage=usage.get(agent, UsageRow()),
            failures=_lines(agent, failed, possible),
            files=READ_BY.get(agent, ()),
            patterns=tuple(row for row in shown if row.agent == agent and row.state == "open"),
            proposals=_proposals(session, agent),
        )
        for agent in names.AGENTS
    ]
    context = contexts.in_force(session)
    named = names.of(releases.newest(session))
    return view.page(
        "agents.html",
        cards=cards,
        days=week.dates,
        context=context,
        names=named,
        zone=view.settings.timezone,
        routing=routing(session, week=week.after, month=month.after),
        strong=_strong_alone(session, view.settings, after=month.after),
        strong_model=choose(view.settings, "strong").model,
    )


def _strong_alone(session: Session, settings: Settings, *, after: datetime) -> StrongAlone | None:
    """None where the strong tier is no other model than the worker, too."""
    model = choose(settings, "strong").model
    return None if model == choose(settings).model else by_strong_alone(session, model, after=after)


def _lines(agent: str, failed: tuple[DailyRow, ...], possible: Chances) -> tuple[FailureLine, ...]:
    mine = (row for row in failed if row.agent == agent)
    return tuple(FailureLine(row, rate(row.total, possible.of(agent, row.code))) for row in mine)


def _proposals(session: Session, agent: str) -> tuple[ProposalRow, ...]:
    """The last about this agent; of the chief of staff, who makes them all, the last of all."""
    about = () if agent == "chief_of_staff" else (Pattern.agent == agent,)
    return pattern_queries.proposals(session, *about, most=MOST_PROPOSALS)
