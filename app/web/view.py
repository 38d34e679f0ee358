"""What a page's function is given: a session to read with, who asks, the time, and a way to answer."""

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
from sqlalchemy.orm import Session
from starlette.datastructures import FormData
from typing_extensions import override

from app import budget, clock, labels, shares, sign_ins
from app.audit import Actor
from app.db import transaction
from app.markdown import to_html
from app.queries.banner import model_states
from app.web import auth, words
from app.web.findings import RESULTS
from app.web.guard import SAFE_METHODS, guard
from app.weighing import RESULTS as ANSWERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

    from app.settings import Settings
    from app.sign_ins import Person, Role

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
            "duration": words.duration,
            "percent": shares.percent,
            "score": words.score,
            "sentence": words.sentence,
            "markdown": _markdown,
            "report": lambda text: Markup(to_html(text)),  # noqa: S704  it escapes
        }
        answers = {name: RESULTS[result] for name, result in ANSWERS.items()}
        self._environment.globals |= {"static": static, "results": RESULTS, "answers": answers}

    def html(self, name: str, values: Mapping[str, object], *, status: int = 200) -> HTMLResponse:
        return HTMLResponse(self._environment.get_template(name).render(values), status)


# For the team's own context files, never for ticket text. HTML in it is shown, not obeyed.
_MARKDOWN = MarkdownIt("commonmark", {"html": False})


def _markdown(text: str, deeper: int = 0) -> Markup:
    """`deeper` is how many levels its headings go down, where it stands under headings of ours."""
    tokens = _MARKDOWN.parse(text)
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1]) + deeper, 6)}"
    return Markup(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))  # noqa: S704  it escapes, no javascript: links


@cache
def static(name: str) -> str:
    """The address of a static file, which changes with its content."""
    digest = hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()
    return f"/static/{name}?v={digest[:12]}"


@dataclass(frozen=True)
class Visit:
    """One request for a page that anybody may see."""

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

    def page(self, name: str, /, **values: object) -> HTMLResponse:
        """The page in its frame: the time, the place in the navigation, and what this visitor may see of the rest."""
        templates: Templates = self.request.app.state.templates
        shell = {"now": self.now, "path": self.request.url.path}
        return templates.html(name, {**shell, **self._frame(), **values})

    def _frame(self) -> dict[str, object]:
        return {"models": None, "user": None, "csrf_token": ""}


@dataclass(frozen=True)
class View(Visit):
    """One request of somebody who is signed in, and may see what is asked for: there is no other way to have one."""

    user: Person
    form: FormData  # what was sent, empty for a GET

    @property
    def actor(self) -> Actor:
        return Actor(self.user.email, self.user.id)

    def shows_verdicts(self, revision_ids: Iterable[int]) -> None:
        """The page holds the machine's word on these: a lead's answer to a blind check about one is not blind now."""
        if self.user.is_lead:
            labels.see(self.session, user_id=self.user.id, revision_ids=revision_ids)

    @override
    def _frame(self) -> dict[str, object]:
        csrf = sign_ins.csrf(auth.token_of(self.request))
        return {**banners(self.session, self.settings, self.now), "user": self.user, "csrf_token": csrf}


def banners(session: Session, settings: Settings, now: datetime) -> dict[str, object]:
    """What every page says of the models and of today's budget; where there is none, it costs no query."""
    limit, zone = settings.daily_budget_usd, ZoneInfo(settings.timezone)
    today = None if limit is None else budget.standing(session, limit=limit, now=now, zone=zone)
    return {"models": model_states(session), "budget": today}


def _session(request: Request) -> Iterator[Session]:
    with transaction(request.app.state.engine) as session:
        yield session


# Waits for nothing where the page's function has fields of its own: then the form has been read already.
async def _form(request: Request) -> AsyncIterator[FormData]:
    """What a form sent; read on the event loop, so that a slow sender holds no thread and no transaction."""
    if request.method in SAFE_METHODS:
        yield FormData()
        return
    async with request.form() as form:  # its files end with the request
        yield form


Transaction = Annotated[Session, Depends(_session, scope="function")]


def _visit(request: Request, guarded: Annotated[None, Depends(guard)], session: Transaction) -> Visit:  # noqa: ARG001
    return Visit(request, session, clock.now())


def _least(role: Role) -> Callable[..., View]:
    def view(
        request: Request,
        guarded: Annotated[None, Depends(guard)],  # noqa: ARG001  raises
        form: Annotated[FormData, Depends(_form, scope="function")],
        session: Transaction,
    ) -> View:
        now = clock.now()
        user = auth.who(request, session, now=now, form=form, least=role)
        return View(request, session, now, user, form)

    return view


# Committed when the page's function returns: an answer is only sent once what it says is true.
Visited = Annotated[Visit, Depends(_visit, scope="function")]
Viewed = Annotated[View, Depends(_least("viewer"), scope="function")]
ViewedByLead = Annotated[View, Depends(_least("lead"), scope="function")]
ViewedByAdmin = Annotated[View, Depends(_least("admin"), scope="function")]
