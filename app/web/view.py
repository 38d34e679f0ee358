"""What a page's function is given: a session to read with, the time, and a way to answer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  FastAPI reads it from the dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from sqlalchemy.orm import Session  # noqa: TC002  FastAPI reads it from the signature

from app import clock
from app.db import transaction
from app.queries.banner import model_states
from app.web import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.settings import Settings

BEYOND = 2**63  # Postgres's ids end before it; an address that asks for more asks for nothing
HERE = Path(__file__).parent


class Templates:
    """The templates, with the words of `app.web.words` as filters. Everything is escaped."""

    def __init__(self, settings: Settings) -> None:
        zone = ZoneInfo(settings.timezone)
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "ago": words.ago,
            "since": words.since,
            "exact": lambda moment: words.exact(moment, zone),
            "clock_time": lambda moment: words.clock_time(moment, zone),
            "dollars": words.dollars,
            "thousands": words.thousands,
            "capped": words.capped,
            "seconds": words.seconds,
            "percent": words.percent,
            "score": words.score,
            "sentence": words.sentence,
            "markdown": _markdown,
        }
        self._environment.globals["static"] = static

    def html(self, name: str, values: Mapping[str, object], *, status: int = 200) -> HTMLResponse:
        return HTMLResponse(self._environment.get_template(name).render(values), status)


# For the team's own context files, never for ticket text. HTML in it is shown, not obeyed.
_MARKDOWN = MarkdownIt("commonmark", {"html": False})


def _markdown(text: str) -> Markup:
    return Markup(_MARKDOWN.render(text))  # noqa: S704  the renderer escapes, and refuses javascript: links


@cache
def static(name: str) -> str:
    """The address of a static file, which changes with its content."""
    digest = hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()
    return f"/static/{name}?v={digest[:12]}"


@dataclass(frozen=True)
class View:
    """One request for a page."""

    request: Request
    session: Session
    now: datetime

    @property
    def settings(self) -> Settings:
        settings: Settings = self.request.app.state.settings
        return settings

    @property
    def in_place(self) -> bool:
        """True where htmx asks for a part of a page that it shows already."""
        return self.request.headers.get("hx-request") == "true"

    def page(self, name: str, **values: object) -> HTMLResponse:
        """The page with what every page shows: the models, the time, the place in the navigation."""
        templates: Templates = self.request.app.state.templates
        shell = {"models": model_states(self.session), "now": self.now, "path": self.request.url.path}
        return templates.html(name, {**shell, **values})


def _session(request: Request) -> Iterator[Session]:
    with transaction(request.app.state.engine) as session:
        yield session


def _view(request: Request, session: Annotated[Session, Depends(_session, scope="function")]) -> View:
    return View(request, session, clock.now())


# Committed when the page's function returns: an answer is only sent once what it says is true.
Viewed = Annotated[View, Depends(_view, scope="function")]
