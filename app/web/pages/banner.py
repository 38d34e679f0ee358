"""`/banner`: what every page says of the model, for a page that waits for it."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse  # noqa: TC002  FastAPI reads it from the signature

from app.web.guard import guard
from app.web.view import Viewed  # noqa: TC001  FastAPI reads it from the signature

router = APIRouter(dependencies=[Depends(guard)])


@router.get("/banner")
def banner(view: Viewed) -> HTMLResponse:
    return view.page("parts/banner.html")
