"""`/operations`: what waits, what is stuck and can be replayed, and what everything runs on."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Form, Path
from fastapi.responses import HTMLResponse, RedirectResponse

from agents.judge import ENGINE_VERSION
from app import batch_results, batches
from app.intake.reading import replay
from app.queries import batches as batch_queries
from app.queries import contexts
from app.queries import operations as queries
from app.queries.banner import model_states
from app.queries.reports import mail_problems
from app.queries.tickets import MOST_COUNTED
from app.web.guard import guard
from app.web.view import BEYOND, View, Viewed, ViewedByLead

if TYPE_CHECKING:
    from datetime import datetime

router = APIRouter(dependencies=[Depends(guard)])


@router.get("/operations")
def operations(view: Viewed, replayed: int | None = None) -> HTMLResponse:
    session = view.session
    return view.page(
        "parts/operations.html" if view.in_place else "operations.html",
        replayed=replayed,
        jobs=queries.jobs(session),
        reviews=queries.reviews(session),
        parked=queries.parked(session),
        parked_count=queries.parked_count(session),
        connections=queries.connections(session, since=_midnight(view.now, view.settings.timezone)),
        database=queries.versions(session),
        ticks=queries.ticks(session),
        mail_problems=mail_problems(session, now=view.now),
        batches=batch_queries.listed(session),
        batched=batch_queries.waiting_tickets(session),
        batching_off=_why_not_batched(view),
        context=contexts.in_force(session),
        engine_version=ENGINE_VERSION,
        product_version=version("ticketqc"),
        most=MOST_COUNTED,
        zone=view.settings.timezone,
    )


@router.post("/operations/replay")
def replay_parked(
    view: ViewedByLead, delivery: Annotated[int | None, Form(ge=1, lt=BEYOND)] = None
) -> RedirectResponse:
    """One parked delivery is read again, or all; the redirect keeps a reload from doing it twice."""
    number = replay(view.session, actor=view.actor, delivery_ids=None if delivery is None else [delivery])
    return RedirectResponse(f"/operations?replayed={number}", 303)


@router.post("/operations/batches/{batch_id}/cancel")
def cancel_batch(view: ViewedByLead, batch_id: Annotated[int, Path(ge=1, lt=BEYOND)]) -> RedirectResponse:
    """The worker tells the vendor."""
    batch_results.cancel(view.session, batch_id, actor=view.actor)
    return RedirectResponse("/operations#batches-title", 303)


def _why_not_batched(view: View) -> str:
    """Why batches are not used although they could be; empty where they are, or no model is known."""
    worker = model_states(view.session).get("worker")
    return batches.live_instead(view.session, model=worker.model, moment=view.now) if worker else ""


def _midnight(now: datetime, timezone: str) -> datetime:
    """When today began, in the install's time zone."""
    return now.astimezone(ZoneInfo(timezone)).replace(hour=0, minute=0, second=0, microsecond=0)
