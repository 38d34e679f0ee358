"""`/patterns` and `/patterns/{id}`: failures that add up, what they rest on, and what was done about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Depends, Path
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app import patterns, releases
from app.patterns import COOL_DOWN, QUIET, TICKETS
from app.queries import patterns as queries
from app.queries.failures import by_day, last_days
from app.tables import Observation, Proposal
from app.web import names
from app.web.guard import guard
from app.web.notes import NOTHING, Note, note
from app.web.view import BEYOND, View, Viewed, ViewedByLead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.queries.failures import Days
    from app.queries.patterns import PatternRow, SightingRow

router = APIRouter(dependencies=[Depends(guard)])

SIDE_BY_SIDE = 3
TREND_DAYS = 28
MOST_PROPOSALS = 20
NO_REASON = "Say why nobody should be told about this for now; others will read it."
PatternId = Annotated[int, Path(ge=1, lt=BEYOND)]


@router.get("/patterns")
def listed(view: Viewed) -> HTMLResponse:
    rows = queries.listed(view.session, now=view.now)
    return view.page("patterns.html", patterns=rows, names=_names(view), most=queries.MOST_PATTERNS)


@router.get("/patterns/{pattern_id}")
def pattern(view: Viewed, pattern_id: PatternId, done: Literal["muted", "unmuted", ""] = "") -> HTMLResponse:
    return _page(view, pattern_id, done=done)


@router.post("/patterns/{pattern_id}/mute")
def mute(view: ViewedByLead, pattern_id: PatternId) -> Response:
    reason = note(view.form, missing=NO_REASON)
    if reason.error:
        answer = _page(view, pattern_id, reason=reason)
        answer.status_code = 422
        return answer
    patterns.mute(view.session, pattern_id, reason=reason.text, actor=view.actor)
    return RedirectResponse(f"/patterns/{pattern_id}?done=muted", 303)


@router.post("/patterns/{pattern_id}/unmute")
def unmute(view: ViewedByLead, pattern_id: PatternId) -> Response:
    patterns.unmute(view.session, pattern_id, actor=view.actor, now=view.now)
    return RedirectResponse(f"/patterns/{pattern_id}?done=unmuted", 303)


def _names(view: View) -> names.Names:
    return names.of(releases.newest(view.session))


def _page(view: View, pattern_id: int, *, done: str = "", reason: Note = NOTHING) -> HTMLResponse:
    session = view.session
    row = queries.pattern(session, pattern_id, now=view.now)
    seen = queries.sightings(session, pattern_id)
    shown = _newest(seen)
    view.shows_verdicts(one.revision_id for one in seen)
    days = last_days(TREND_DAYS, now=view.now, timezone=view.settings.timezone)
    return view.page(
        "pattern.html",
        pattern=row,
        names=_names(view),
        seen=seen,
        most=queries.MOST_SIGHTINGS,
        shown=shown,
        judged=queries.judged(session, [one.id for one in shown]),
        said=queries.said(session, [one.id for one in shown]),
        days=days,
        trend=_trend(view, row, days),
        versions=queries.versions(session, pattern_id),
        events=queries.events(session, pattern_id),
        proposals=queries.proposals(session, Proposal.pattern_id == pattern_id, most=MOST_PROPOSALS),
        rule={"tickets": TICKETS, "quiet": QUIET.days, "cool": COOL_DOWN.days},
        done=done,
        reason=reason,
    )


def _newest(seen: Sequence[SightingRow]) -> tuple[SightingRow, ...]:
    """The newest observation on each of the three tickets that had one last."""
    first: dict[int, SightingRow] = {}
    for one in seen:
        first.setdefault(one.ticket_id, one)
    return tuple(first.values())[:SIDE_BY_SIDE]


def _trend(view: View, row: PatternRow, days: Days) -> tuple[int, ...]:
    """How often on each day."""
    mine = (
        Observation.agent == row.agent,
        Observation.code == row.code,
        Observation.subject == row.subject,
        Observation.direction == row.direction,
    )
    daily = by_day(view.session, days, *mine)
    return daily[0].counts if daily else days.spread({})
