"""What a lead does with a ticket: decide it, claim it, release it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import RedirectResponse, Response

from app import claims, labels
from app.errors import BadRequest
from app.web import decisions
from app.web.auth import local
from app.web.pages import ticket
from app.web.view import BEYOND, ViewedByLead

router = APIRouter()

TicketId = Annotated[int, Path(ge=1, lt=BEYOND)]


@router.get("/tickets/{ticket_id}/decision")
def loaded_again(view: ViewedByLead, ticket_id: TicketId) -> Response:  # noqa: ARG001  who may
    """A decision that was refused is shown at this address; who loads it again begins anew."""
    return _see(f"/tickets/{ticket_id}")


@router.post("/tickets/{ticket_id}/decision")
def decide(view: ViewedByLead, ticket_id: TicketId) -> Response:
    """The ticket's page with the decision on it, or with what is wrong and all that was typed."""
    decision = decisions.of_verdict(view.form)
    if problem := labels.problem(view.session, actor=view.actor, ticket_id=ticket_id, decision=decision):
        typed = decisions.typed(view.form)
        answer = ticket.page(view, ticket_id, typed=typed, problem=problem)
        answer.status_code = HTTPStatus.CONFLICT if problem.stale else HTTPStatus.UNPROCESSABLE_ENTITY
        return answer
    labels.decide(view.session, actor=view.actor, ticket_id=ticket_id, decision=decision, now=view.now)
    return _see(f"/tickets/{ticket_id}#decision")


@router.post("/tickets/{ticket_id}/claim")
def claim(view: ViewedByLead, ticket_id: TicketId) -> Response:
    """The ticket is this lead's. `instead_of` is whom the lead saw there and confirmed to take it over from."""
    instead_of = _user(view)
    claims.claim(view.session, actor=view.actor, ticket_id=ticket_id, now=view.now, instead_of=instead_of)
    return _back(view, ticket_id)


@router.post("/tickets/{ticket_id}/release")
def release(view: ViewedByLead, ticket_id: TicketId) -> Response:
    claims.release(view.session, actor=view.actor, ticket_id=ticket_id)
    return _back(view, ticket_id)


def _user(view: ViewedByLead) -> int | None:
    given = view.form.get("instead_of", "")
    if given == "":
        return None
    if not (isinstance(given, str) and given.isascii() and given.isdecimal() and len(given) < len(str(BEYOND))):
        raise BadRequest("this form is not one of ours, and nothing was changed. Load the page again")
    return int(given)


def _back(view: ViewedByLead, ticket_id: int) -> Response:
    """Where the button stood: in the queue with its filters, or on the ticket's page."""
    given = view.form.get("back")
    return _see(local(given) if isinstance(given, str) and given else f"/tickets/{ticket_id}")


def _see(address: str) -> Response:
    return RedirectResponse(address, HTTPStatus.SEE_OTHER)
