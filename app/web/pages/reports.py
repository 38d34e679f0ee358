"""`/reports` and `/reports/{week}`: what the system did in a week, as it was told and mailed."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, RedirectResponse

from app import mail, reports
from app.errors import NotFound
from app.queries import reports as queries
from app.report_text import heading
from app.web.guard import guard
from app.web.view import BEYOND, Viewed, ViewedByLead

if TYPE_CHECKING:
    from app.queries.reports import ReportRow
    from app.web.view import View

router = APIRouter(dependencies=[Depends(guard)])


@router.get("/reports")
def listed(view: Viewed, asked: str = "") -> HTMLResponse:
    """`asked`: the week whose first report is being made."""
    zone = ZoneInfo(view.settings.timezone)
    weeks = queries.weeks(view.session, now=view.now, zone=zone)
    waited_for = next((row for row in weeks if row.week == asked and row.made_at is None), None)
    return view.page(
        "parts/reports.html" if view.in_place else "reports.html",
        weeks=weeks,
        asked=waited_for,
        heading=heading,
        recipients=view.settings.recipients,
        zone=view.settings.timezone,
    )


@router.get("/reports/{week}")
def report(view: Viewed, week: str, after: int | None = None, mailed: int = 0) -> HTMLResponse:
    """`after`: a newer report than this one is being made."""
    row = _found(view, week)
    return view.page(
        "parts/report.html" if view.in_place else "report.html",
        report=row,
        title=row.markdown.partition("\n")[0].removeprefix("# "),
        body=row.markdown.partition("\n")[2],
        waiting=after is not None and row.id <= after < BEYOND,
        made=after is not None and row.id > after,
        mailed=mailed,
        mails=queries.mails(view.session, row.week, view.settings.recipients, now=view.now),
        recipients=view.settings.recipients,
    )


@router.post("/reports/{week}/again")
def again(view: ViewedByLead, week: str) -> RedirectResponse:
    """The redirect keeps a reload from asking twice; asked twice it is made once anyway."""
    there = reports.ask(view.session, view.settings, week, actor=view.actor, at=view.now)
    return RedirectResponse(f"/reports/{week}?after={there}" if there else f"/reports?asked={week}", 303)


@router.post("/reports/{week}/mail")
def send(view: ViewedByLead, week: str) -> RedirectResponse:
    """To every configured address that is not known to have it."""
    row = _found(view, week)
    mail.again(view.session, view.settings, week=row.week, actor=view.actor, at=view.now)
    return RedirectResponse(f"/reports/{row.week}?mailed=1", 303)


def _found(view: View, week: str) -> ReportRow:
    """Raises NotFound, with the reason in words."""
    week = week.replace("\0", "")
    row = queries.report(view.session, week)
    if row is None:
        reports.over(view.settings, week, at=view.now)
        raise NotFound(f"there is no report about {week} yet; the list of reports says how to have one")
    return row
