"""`/context/{version}`: the exact texts that verdicts were judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse  # noqa: TC002  FastAPI reads it from the signature

from agents.context import FILES
from app import releases
from app.errors import NotFound
from app.queries import contexts
from app.web.guard import guard
from app.web.view import Viewed  # noqa: TC001  FastAPI reads it from the signature

if TYPE_CHECKING:
    from collections.abc import Mapping

router = APIRouter(dependencies=[Depends(guard)])


@router.get("/context/{version}")
def context(view: Viewed, version: str) -> HTMLResponse:
    row = contexts.version(view.session, version.replace("\0", ""))
    if row is None:
        raise NotFound("There is no context version of this name; it may have been in another database.")
    return view.page("context.html", version=row, files=_in_order(releases.load(view.session, row.version).files))


def _in_order(files: Mapping[str, str]) -> dict[str, str]:
    """As agents read them; the database forgets the order."""
    known = [name for name in FILES if name in files]
    return {name: files[name] for name in (*known, *sorted(files.keys() - set(known)))}
