"""`/context`: what agents apply now, and before; `/context/{version}`: the exact texts of one version."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from agents.context import FILES, READ_BY, read_documents
from agents.context_lint import PREFIX_TOKENS, lint, prefix_tokens
from agents.documents import resolved
from app import releases
from app.errors import NotFound
from app.queries import contexts
from app.web import diff, notes
from app.web.view import View, Viewed, ViewedByLead  # noqa: TC001  FastAPI reads it from the signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agents.context import Context
    from app.queries.contexts import VersionRow

router = APIRouter()

WHY_BACK = "Say in a few words why: people read it beside the version."


@router.get("/context")
def in_force(view: Viewed, done: str = "") -> HTMLResponse:
    return _in_force(view, done=done)


def _in_force(view: View, *, done: str = "", back: notes.Note = notes.NOTHING, to: str = "") -> HTMLResponse:
    row = contexts.in_force(view.session)
    history = contexts.history(view.session)
    known = {one.version: one for one in reversed(history)}  # each version's newest release
    newest_first = sorted(known.values(), key=lambda one: one.id, reverse=True)
    return view.page(
        "context.html",
        version=row,
        history=history,
        known=newest_first,
        earlier=newest_first[1:],
        done=done,
        back=back,
        to=to,
        folder=view.settings.context_dir,
        **(_read(releases.load(view.session, row.version)) if row else {}),
    )


def _read(context: Context) -> dict[str, Any]:
    """The files as people read them, and what lint says of them."""
    documents = read_documents(context.files)
    return {
        "documents": [documents[name] for name in FILES],
        "readers": {name: [agent for agent, names in READ_BY.items() if name in names] for name in FILES},
        "problems": lint(context.files),
        "tokens": {agent: prefix_tokens(context, agent) for agent in READ_BY},
        "most_tokens": PREFIX_TOKENS,
        "resolved": resolved,
    }


@router.get("/context/diff")
def choose_diff(view: Viewed, a: str = "", b: str = "") -> RedirectResponse:
    """For a form without script: the address of the diff that was chosen."""
    old, new = (releases.find(view.session, name) for name in (a, b))
    return RedirectResponse(f"/context/{old}/diff/{new}", HTTPStatus.SEE_OTHER)


@router.post("/context/rollback")
def roll_back(view: ViewedByLead) -> Response:
    """An earlier version is in force again, if the one that the person saw in force still is."""
    to, expected = (notes.field(view.form, name) for name in ("to", "expected"))
    note = notes.note(view.form, missing=WHY_BACK)
    if note.error:
        answer = _in_force(view, back=note, to=to)
        answer.status_code = HTTPStatus.UNPROCESSABLE_ENTITY
        return answer
    wanted, seen = releases.find(view.session, to), releases.find(view.session, expected)
    releases.rollback(view.session, to=wanted, note=note.text, actor=view.actor, expected=seen)
    return RedirectResponse("/context?done=rollback", HTTPStatus.SEE_OTHER)


@router.get("/context/{version}")
def one(view: Viewed, version: str) -> HTMLResponse:
    row = _row(view, version)
    return view.page(
        "context_version.html",
        version=row,
        files=_in_order(releases.load(view.session, row.version).files),
        in_force=contexts.in_force(view.session),
    )


@router.get("/context/{a}/diff/{b}")
def compare(view: Viewed, a: str, b: str) -> HTMLResponse:
    old, new = _row(view, a), _row(view, b)
    texts = [_in_order(releases.load(view.session, row.version).files) for row in (old, new)]
    return view.page("context_diff.html", old=old, new=new, files=diff.files(*texts))


def _row(view: View, version: str) -> VersionRow:
    """The version of that name, or the only one that begins so."""
    name = version.replace("\0", "")
    row = contexts.version(view.session, name)
    if row is None and len(name) >= releases.SHORTEST_PREFIX:
        row = contexts.version(view.session, releases.find(view.session, name))
    if row is None:
        raise NotFound("There is no context version of this name; it may have been in another database.")
    return row


def _in_order(files: Mapping[str, str]) -> dict[str, str]:
    """As agents read them; the database forgets the order."""
    known = [name for name in FILES if name in files]
    return {name: files[name] for name in (*known, *sorted(files.keys() - set(known)))}
