"""`/audit`: finished tickets judged by a lead before the machine's verdict is shown, and how often the two agree."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app import blind, labels, releases
from app.queries import labels as decided
from app.queries import ticket as tickets
from app.web import decisions
from app.web.thread import thread
from app.web.view import BEYOND, ViewedByLead
from app.weighing import LONGEST_NOTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.queries.labels import CheckRow
    from app.weighing import Problem

router = APIRouter()

CheckId = Annotated[int, Path(ge=1, lt=BEYOND)]


@router.get("/audit")
def audit(view: ViewedByLead) -> HTMLResponse:
    """Where this lead stands, and what all blind labels say so far."""
    user_id = view.user.id
    return view.page(
        "audit.html",
        progress=decided.progress(view.session, user_id=user_id),
        available=decided.available(view.session, user_id=user_id),
        batch=blind.BATCH,
        latest=decided.latest_checks(view.session, user_id=user_id),
        agreement=decided.agreement(view.session),
    )


@router.post("/audit")
def give(view: ViewedByLead) -> Response:
    """To the first ticket that is to be judged, or back where none is left."""
    check_id = blind.give(view.session, actor=view.actor, user_id=view.user.id, now=view.now)
    return RedirectResponse(f"/audit/{check_id}" if check_id else "/audit", HTTPStatus.SEE_OTHER)


@router.get("/audit/{check_id}")
def check(view: ViewedByLead, check_id: CheckId) -> HTMLResponse:
    """The ticket without a word of the machine's; once it is answered, both side by side."""
    row = decided.check(view.session, user_id=view.user.id, check_id=check_id)
    return _asked(view, row) if row.label_id is None else _compared(view, row)


@router.post("/audit/{check_id}")
def answer(view: ViewedByLead, check_id: CheckId) -> Response:
    """To the comparison, or the same page with what is wrong and all that was typed."""
    row = decided.check(view.session, user_id=view.user.id, check_id=check_id)
    decision = decisions.of_blind_check(view.form, verdict_id=row.verdict_id)
    if problem := blind.problem(view.session, actor=view.actor, check_id=row.id, decision=decision):
        page = _asked(view, row, typed=decisions.typed(view.form), problem=problem)
        page.status_code = HTTPStatus.UNPROCESSABLE_ENTITY
        return page
    blind.answer(view.session, actor=view.actor, check_id=row.id, decision=decision, now=view.now)
    return RedirectResponse(f"/audit/{row.id}", HTTPStatus.SEE_OTHER)


def _asked(
    view: ViewedByLead, row: CheckRow, *, typed: Mapping[str, str] | None = None, problem: Problem | None = None
) -> HTMLResponse:
    """The thread and the rubric's words, and nothing that is known from a verdict."""
    state = tickets.state(view.session, row.revision_id)
    context = releases.load(view.session, decided.context_of(view.session, row.verdict_id))
    return view.page(
        "blind_check.html",
        check=row,
        text=state.revision.ticket,
        removed=state.removed,
        thread=thread(state.revision, ()),
        criteria=context.rubric.judged,
        typed=typed or {},
        problem=problem,
        longest=LONGEST_NOTE,
    )


def _compared(view: ViewedByLead, row: CheckRow) -> HTMLResponse:
    """What the lead and the machine said. From here on the lead has seen the machine's word."""
    labels.see(view.session, user_id=view.user.id, revision_ids=[row.revision_id])
    context = releases.load(view.session, decided.context_of(view.session, row.verdict_id))
    label = next(one for one in decided.history(view.session, row.ticket_id) if one.id == row.label_id)
    return view.page(
        "compared.html",
        check=row,
        label=label,
        verdict=tickets.verdict(view.session, row.revision_id, current=row.verdict_id),
        names={criterion.id: criterion.title for criterion in context.rubric.criteria},
    )
