"""For whoever watches the service: is it alive, and can it work."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  pydantic reads it
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app import clock
from app.db import check_version, transaction
from app.errors import TicketqcError
from app.queries import operations
from app.queries.banner import model_states

if TYPE_CHECKING:
    from sqlalchemy import Engine

router = APIRouter()


@router.get("/healthz")
def healthz() -> JSONResponse:
    """The process answers; nothing else is asked."""
    return JSONResponse({"alive": True})


@router.get("/readyz")
def readyz(request: Request) -> JSONResponse:
    """200 where pages and hooks can work, which takes the database alone; the rest is told beside it."""
    engine: Engine = request.app.state.engine
    try:
        check_version(engine)
        facts = _facts(engine, now=clock.now())
    except TicketqcError as error:
        return JSONResponse({"ready": False, "reasons": [str(error)]}, 503)
    return JSONResponse({"ready": True, "reasons": [], **facts})


def _facts(engine: Engine, *, now: datetime) -> dict[str, object]:
    with transaction(engine) as session:
        jobs = operations.jobs(session)
        last = max((tick.at for tick in operations.ticks(session)), default=None)
        models = {role: {"model": row.model, "state": row.state} for role, row in model_states(session).items()}
    oldest = None if jobs.oldest_waiting is None else round((now - jobs.oldest_waiting).total_seconds())
    return {
        "queue": {"waiting": jobs.waiting, "running": jobs.running, "failed": jobs.failed, "oldest_seconds": oldest},
        "models": models,
        "clock": {"last_tick": last.isoformat() if last else None},
    }
