"""`/`: the tickets, what needs a person first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse  # noqa: TC002  FastAPI reads it from the signature

from app import releases
from app.errors import Forbidden
from app.importing import SAMPLE_SOURCE
from app.queries import contexts, proposals, tickets
from app.queries.labels import progress
from app.queries.tickets import NEED_DECISION, Cursor, Filters
from app.web import names
from app.web.guard import guard
from app.web.view import View, Viewed  # noqa: TC001  FastAPI reads it from the signature

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.orm import Session

    from agents.context import Context

router = APIRouter(dependencies=[Depends(guard)])


def _filters(  # noqa: PLR0913  one argument a filter, which is how FastAPI reads an address
    *,
    verdict: str = "",
    criterion: str = "",
    queue: str = "",
    source: str = "",
    assignee: str = "",
    claimed: str = "",
    q: str = "",
    age: str = "",
) -> Filters:
    ticket = {"criterion": criterion, "queue": queue, "source": source, "assignee": assignee}
    given = {"verdict": verdict, **ticket, "claimed": claimed, "q": q, "age": age}
    # No stored text holds a NUL, and Postgres takes none.
    return Filters(**{name: value.replace("\0", "").strip() for name, value in given.items()})


@router.get("/")
def queue(
    view: Viewed, filters: Annotated[Filters, Depends(_filters)], after: Annotated[str, Query()] = ""
) -> HTMLResponse:
    """The whole page, or for htmx the list alone."""
    if filters.assignee and not view.user.is_lead:
        raise Forbidden("only a lead may list the tickets of one person")
    context = _in_force(view.session)
    listed = _list(view, filters, after=after, context=context)
    if view.in_place:
        answer = view.page("parts/queue.html", **listed)
        answer.headers["HX-Replace-Url"] = _address(filters, after=after)
        return answer
    choices = {
        "criteria": {criterion.id: criterion.title for criterion in context.rubric.criteria} if context else {},
        "queues": _same(tickets.queues(view.session)),
        "sources": _same(tickets.sources(view.session)),
        "assignees": _same(tickets.assignees(view.session)) if view.user.is_lead else {},
    }
    return view.page(
        "queue.html",
        **listed,
        **choices,
        proposals=proposals.waiting(view.session),
        only_samples=choices["sources"].keys() == {SAMPLE_SOURCE},
    )


def _same(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in names}


def _list(view: View, filters: Filters, *, after: str, context: Context | None) -> dict[str, object]:
    """What the list shows. Counts by state stand where nothing else is filtered, else the count of what was found."""
    me = view.user.id
    plain = filters.given.keys() <= {"verdict"}
    counts = tickets.counts(view.session, now=view.now, me=me) if plain else {}
    need = (
        sum(counts[name] for name in NEED_DECISION)
        if plain
        else tickets.count(view.session, Filters(), now=view.now, me=me)
    )
    return {
        "page": tickets.page(view.session, filters, now=view.now, me=me, after=Cursor.read(after) if after else None),
        "filters": filters,
        "after": after,
        "counts": counts,
        "need": need,
        "in_place": view.in_place,
        "found": None if plain else tickets.count(view.session, filters, now=view.now, me=me),
        "most": tickets.MOST_COUNTED,
        "unchecked": progress(view.session, user_id=me),
        "called": names.of(context),
        "address": _address,
        "origin": str(view.request.base_url).rstrip("/"),
    }


def _in_force(session: Session) -> Context | None:
    version = contexts.in_force(session)
    return releases.load(session, version.version) if version else None


def _address(filters: Filters, **changed: str) -> str:
    """The queue page's address with these filters, some of them changed; no empty ones in it."""
    given: Mapping[str, str] = {name: value for name, value in {**filters.given, **changed}.items() if value}
    return f"/?{urlencode(given)}" if given else "/"
