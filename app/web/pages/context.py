"""`/context/{version}`: the exact texts that verdicts were judged by."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse  # noqa: TC002  FastAPI reads it from the signature

from app import releases
from app.errors import NotFound
from app.queries import contexts
from app.web.guard import guard
from app.web.view import Viewed  # noqa: TC001  FastAPI reads it from the signature

router = APIRouter(dependencies=[Depends(guard)])


@router.get("/context/{version}")
def context(view: Viewed, version: str) -> HTMLResponse:
    row = contexts.version(view.session, version.replace("\0", ""))
    if row is None:
        raise NotFound("There is no context version of this name; it may have been in another database.")
    return view.page("context.html", version=row, context=releases.load(view.session, row.version))
