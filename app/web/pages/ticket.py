"""`/tickets/{id}`: the thread with the evidence in it, the verdict, and everything it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Path
from fastapi.responses import HTMLResponse  # noqa: TC002  FastAPI reads it from the signature

from agents.checks import run_checks
from app import releases
from app.errors import NotFound
from app.queries import contexts
from app.queries import labels as decided
from app.queries import ticket as queries
from app.web import names
from app.web.findings import cites, groups
from app.web.guard import guard
from app.web.thread import thread
from app.web.view import BEYOND, View, Viewed
from app.weighing import LONGEST_NOTE, REASONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from agents.context import Context
    from agents.ticket import Revision
    from agents.verdict import Finding
    from app.queries.ticket import RevisionRow, TicketRow, VerdictRow
    from app.weighing import Problem

router = APIRouter(dependencies=[Depends(guard)])


@router.get("/tickets/{ticket_id}")
def ticket(view: Viewed, ticket_id: Annotated[int, Path(ge=1, lt=BEYOND)], revision: int | None = None) -> HTMLResponse:
    """The newest state of a ticket, or the one that is asked for."""
    return page(view, ticket_id, revision=revision)


def page(
    view: View,
    ticket_id: int,
    *,
    revision: int | None = None,
    typed: Mapping[str, str] | None = None,
    problem: Problem | None = None,
) -> HTMLResponse:
    """The page of one state, and what was said of the others; `typed` and `problem`: a decision that was not taken."""
    session = view.session
    row = queries.ticket(session, ticket_id)
    history = queries.revisions(session, row.id)
    chosen = _chosen(history, row.revision_id if revision is None else revision)
    state = queries.state(session, chosen.id)
    verdict = queries.verdict(session, chosen.id, current=row.verdict_id)
    context = _context(session, verdict)
    runs = queries.runs(session, row.id)
    view.shows_verdicts(one.id for one in history if one.outcome)
    newest = chosen.id == row.revision_id
    return view.page(
        "parts/ticket.html" if view.in_place else "ticket.html",
        ticket=row,
        text=state.revision.ticket,
        removed=state.removed,
        link=_link(state.revision.ticket.url),
        history=history,
        chosen=chosen,
        newest=newest,
        numbers={one.id: one.number for one in history},
        verdict=verdict,
        context=context,
        triage=queries.triage(session, chosen.id),
        observations=queries.observations(session, chosen.id),
        runs=runs,
        totals=queries.totals(runs),
        decidable=view.user.is_lead and newest and verdict is not None and verdict.id == row.verdict_id,
        decisions=decided.history(session, row.id),
        typed=typed or {},
        problem=problem,
        reasons=REASONS,
        longest=LONGEST_NOTE,
        **_judged(session, row, chosen=chosen, revision=state.revision, verdict=verdict, context=context),
    )


def _judged(  # noqa: PLR0913  what the page has read so far
    session: Session,
    row: TicketRow,
    *,
    chosen: RevisionRow,
    revision: Revision,
    verdict: VerdictRow | None,
    context: Context | None,
) -> dict[str, Any]:
    """The findings, and the thread that they are marked in."""
    escalations = queries.escalations(session, chosen.id)
    findings: Sequence[Finding] = ()
    if verdict is not None:
        findings = queries.findings(session, verdict.id)
    elif context is not None and revision.ticket.finished:
        findings = run_checks(revision, rubric=context.rubric, supplied=row.supplied)
    grouped = groups(findings, context) if context else ()
    called = names.of(context)
    marked = thread(revision, cites(grouped, escalations, called.titles))
    return {"groups": grouped, "escalations": escalations, "called": called, "names": called.titles, "thread": marked}


def _context(session: Session, verdict: VerdictRow | None) -> Context | None:
    """The version that the verdict pins, for the words its findings were judged by; else the one in force."""
    if verdict is not None:
        return releases.load(session, verdict.context_version)
    version = contexts.in_force(session)
    return releases.load(session, version.version) if version else None


def _chosen(history: Sequence[RevisionRow], asked: int) -> RevisionRow:
    for row in history:
        if row.id == asked:
            return row
    raise NotFound("This ticket has no such revision. Open the ticket without it to see the newest.")


def _link(url: str) -> str | None:
    """The ticket's own address, where a browser may be sent to it; a `javascript:` one is not."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return None
    return url.strip() if parts.scheme in {"http", "https"} and parts.hostname else None
