"""`/costs`: what the last seven days cost, by agent, verdict, criterion and version, and what is left of today."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse  # noqa: TC002  FastAPI reads it from the signature

from app import budget, releases
from app.periods import Period, last_days
from app.queries import costs as queries
from app.queries.figures import money
from app.report_text import LINES
from app.web import names
from app.web.guard import guard
from app.web.view import Viewed  # noqa: TC001  FastAPI reads it from the signature

MONTH = timedelta(days=30)  # seven days hold too few replies that were asked again

router = APIRouter(dependencies=[Depends(guard)])


@router.get("/costs")
def costs(view: Viewed) -> HTMLResponse:
    session, settings = view.session, view.settings
    week, zone = last_days(view.now), ZoneInfo(settings.timezone)
    return view.page(
        "costs.html",
        today=budget.standing(session, limit=settings.daily_budget_usd, now=view.now, zone=zone),
        forecast=money.forecast(session, view.now, zone),
        whole=money.cost(session, week),
        agents=queries.by_agent(session, week),
        shadow=queries.reuse_agreed(session, Period(view.now - MONTH, view.now)),
        outcomes=queries.by_outcome(session, week),
        versions=queries.by_version(session, week),
        criteria=queries.by_criterion(session, week),
        lines=LINES,
        names=names.of(releases.newest(session)),
        zone=settings.timezone,
    )
