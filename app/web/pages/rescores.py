"""`/rescores`: a past window, a version, its cost, and the word to begin; `/rescores/{id}`: what would change."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, NamedTuple
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Path, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from agents.judge import SECOND_SHARE
from app import releases, rescores
from app.errors import TicketqcError
from app.queries import rescores as queries
from app.web import names, notes
from app.web.view import BEYOND, View, Viewed, ViewedByLead

if TYPE_CHECKING:
    from app.rescores import Plan

router = APIRouter()

RescoreId = Annotated[int, Path(ge=1, lt=BEYOND)]
SINCE = "30d"  # what the form begins with


class Asked(NamedTuple):
    """What the form holds; `problem` is why there is nothing to confirm."""

    since: str = SINCE
    until: str = ""
    context: str = ""
    plan: Plan | None = None
    problem: str = ""


@router.get("/rescores")
def listed(view: Viewed, since: str = "", until: str = "", context: str = "") -> HTMLResponse:
    """The list, and for a lead the form; filled in, with what it would take and the word to begin."""
    if not since or not view.user.is_lead:
        return _listed(view, Asked(context=context))
    return _listed(view, _planned(view, since, until, context))


@router.post("/rescores")
def begin(view: ViewedByLead) -> Response:
    """It begins as it was confirmed: the window's ends are those that the person saw."""
    asked = _planned(view, *(notes.field(view.form, name) for name in ("since", "until", "context")))
    if asked.plan is None:
        return _listed(view, asked)
    row = rescores.begin(view.session, asked.plan, actor=view.actor)
    return RedirectResponse(f"/rescores/{row.id}", HTTPStatus.SEE_OTHER)


@router.get("/rescores/{rescore_id}")
def one(view: Viewed, rescore_id: RescoreId, old: str = "", new: str = "", done: str = "") -> HTMLResponse:
    """The whole page, or for htmx what moves on it."""
    row = queries.rescore(view.session, rescore_id)
    cell = (old, new) if {old, new} <= set(queries.OUTCOMES) else ("", "")
    shown = queries.tickets(view.session, rescore_id, old=cell[0], new=cell[1])
    left_out = queries.given_up(view.session, rescore_id) if row.given_up else ()
    view.shows_verdicts(ticket.revision_id for ticket in shown)
    return view.page(
        "parts/rescore.html" if view.in_place else "rescore.html",
        rescore=row,
        matrix=queries.matrix(view.session, rescore_id),
        others=queries.others(view.session, row),
        tickets=shown,
        left_out=left_out,
        cell=cell,
        done=done,
        outcomes=queries.OUTCOMES,
        most=queries.MOST_SHOWN,
        names=names.of(releases.newest(view.session)),
    )


@router.post("/rescores/{rescore_id}/cancel")
def cancel(view: ViewedByLead, rescore_id: RescoreId) -> Response:
    rescores.cancel(view.session, rescore_id, actor=view.actor, now=view.now)
    return RedirectResponse(f"/rescores/{rescore_id}?done=cancelled", HTTPStatus.SEE_OTHER)


def _planned(view: View, since: str, until: str, context: str) -> Asked:
    """With what it takes; where it cannot be, the form comes back with what is wrong."""
    asked = Asked(since, until, context)
    zone = ZoneInfo(view.settings.timezone)
    try:
        wanted = rescores.order(
            view.session, since=since, until=until, version=context.replace("\0", ""), now=view.now, zone=zone
        )
        return asked._replace(plan=rescores.plan(view.session, wanted, settings=view.settings))
    except TicketqcError as error:
        return asked._replace(problem=str(error))


def _listed(view: View, asked: Asked) -> HTMLResponse:
    versions = queries.versions(view.session)
    answer = view.page(
        "rescores.html",
        rows=queries.listed(view.session),
        versions=versions,
        in_force=releases.newest_version(view.session),
        asked=asked,
        share=round(100 * SECOND_SHARE),
    )
    if asked.problem:
        answer.status_code = HTTPStatus.UNPROCESSABLE_ENTITY
    return answer
