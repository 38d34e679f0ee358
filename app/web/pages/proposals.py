"""`/proposals` and `/proposals/{id}`: what fails, the edit, its trial, and the decision, on one page."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from fastapi import APIRouter, Path, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from agents.context import read_documents
from agents.edits import Edit
from app import proposals, releases
from app.queries import contexts
from app.queries import proposals as queries
from app.web import diff, names, notes
from app.web.view import BEYOND, View, Viewed, ViewedByLead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agents.documents import Item
    from app.queries.proposals import DraftRow, ReplayRow

router = APIRouter()

ProposalId = Annotated[int, Path(ge=1, lt=BEYOND)]

WHY_NOT = "Say why: it is shown to the next attempt, so that the same idea does not come back."
DONE = {
    "approved": "It is in force now: tickets are judged by it from here on. Verdicts that exist stay as they are.",
    "acknowledged": "Noted. Nothing was changed, and the pattern rests for 14 days.",
    "rejected": "Rejected. Nothing was changed, and the pattern rests for 14 days.",
    "revised": "Your wording is being tried. The trial below is the new one.",
    "retried": "It is being tried on what is in force now.",
}


class ShownEdit(NamedTuple):
    """One edit as people read it: the item before and after, and the lines that changed between them."""

    edit: Edit
    title: str
    lines: tuple[diff.Line, ...]


class Typed(NamedTuple):
    """What the forms held that could not be used, with what is wrong."""

    reason: notes.Note = notes.NOTHING
    note: notes.Note = notes.NOTHING
    edits: tuple[Edit, ...] = ()
    dropped: frozenset[int] = frozenset()
    problems: tuple[str, ...] = ()


@router.get("/proposals")
def listed(view: Viewed) -> HTMLResponse:
    return view.page(
        "proposals.html",
        rows=queries.listed(view.session),
        names=_names(view),
        most=proposals.MOST_OPEN,
        unanswered=queries.unanswered(view.session),
    )


@router.get("/proposals/{proposal_id}")
def one(view: Viewed, proposal_id: ProposalId, done: str = "") -> HTMLResponse:
    """The whole page, or for htmx the trial alone."""
    return _page(view, proposal_id, part=view.in_place, done=DONE.get(done, ""))


@router.post("/proposals/{proposal_id}/approve")
def approve(view: ViewedByLead, proposal_id: ProposalId) -> Response:
    note = notes.note(view.form, missing="")
    if note.error:
        return _refused(view, proposal_id, Typed(note=note))
    row = queries.proposal(view.session, proposal_id)
    proposals.approve(
        view.session, actor=view.actor, proposal_id=proposal_id, note=note.text, now=view.now, seen=_seen(view)
    )
    return _back(proposal_id, "acknowledged" if row.kind in {"noise", "unclear"} else "approved")


@router.post("/proposals/{proposal_id}/reject")
def reject(view: ViewedByLead, proposal_id: ProposalId) -> Response:
    reason = notes.note(view.form, "reason", missing=WHY_NOT)
    if reason.error:
        return _refused(view, proposal_id, Typed(reason=reason))
    proposals.reject(
        view.session, actor=view.actor, proposal_id=proposal_id, reason=reason.text, now=view.now, seen=_seen(view)
    )
    return _back(proposal_id, "rejected")


@router.post("/proposals/{proposal_id}/revise")
def revise(view: ViewedByLead, proposal_id: ProposalId) -> Response:
    """The person's wording is tried; where it cannot be, the form comes back with what is wrong."""
    drafts = queries.drafts(view.session, proposal_id)
    typed = _typed(view, drafts[0].edits if drafts else ())
    kept = [edit for number, edit in enumerate(typed.edits) if number not in typed.dropped]
    return _try(view, proposal_id, kept, typed, done="revised")


@router.post("/proposals/{proposal_id}/retry")
def retry(view: ViewedByLead, proposal_id: ProposalId) -> Response:
    return _try(view, proposal_id, None, Typed(), done="retried")


def _try(view: View, proposal_id: int, edits: Sequence[Edit] | None, typed: Typed, *, done: str) -> Response:
    session, seen = view.session, _seen(view)
    proposals.newest(session, proposal_id, seen=seen)  # somebody else's wording is not this person's to correct
    if found := proposals.problems_with(session, proposal_id, edits):
        return _refused(view, proposal_id, typed._replace(problems=found))
    proposals.revise(session, actor=view.actor, proposal_id=proposal_id, edits=edits, settings=view.settings, seen=seen)
    return _back(proposal_id, done)


def _names(view: View) -> names.Names:
    return names.of(releases.newest(view.session))


def _seen(view: View) -> int:
    """The number of the wording that the form was beside; 0 where there is none in it."""
    given = notes.field(view.form, "draft")
    return int(given) if given.isdecimal() and given.isascii() and len(given) < len(str(BEYOND)) else 0


def _typed(view: View, edits: Sequence[Edit]) -> Typed:
    """The newest wording with the person's titles and texts in it; what an edit is about is not for the form to say."""
    changed = tuple(_changed(view, number, edit) for number, edit in enumerate(edits))
    dropped = frozenset(number for number in range(len(edits)) if notes.field(view.form, f"drop-{number}"))
    return Typed(edits=changed, dropped=dropped)


def _changed(view: View, number: int, edit: Edit) -> Edit:
    if edit.operation == "retire":
        return edit
    title = " ".join(notes.field(view.form, f"title-{number}").split())
    text = notes.field(view.form, f"text-{number}").replace("\r\n", "\n")
    return Edit(edit.operation, edit.file, edit.item, title, text)


def _refused(view: View, proposal_id: int, typed: Typed) -> HTMLResponse:
    answer = _page(view, proposal_id, typed=typed)
    answer.status_code = HTTPStatus.UNPROCESSABLE_ENTITY
    return answer


def _back(proposal_id: int, done: str) -> RedirectResponse:
    return RedirectResponse(f"/proposals/{proposal_id}?done={done}", HTTPStatus.SEE_OTHER)


def _page(
    view: View, proposal_id: int, *, part: bool = False, done: str = "", typed: Typed | None = None
) -> HTMLResponse:
    session = view.session
    row = queries.proposal(session, proposal_id)
    drafts = queries.drafts(session, proposal_id)
    in_force = contexts.in_force(session)
    draft = drafts[0] if drafts else None
    values: dict[str, Any] = {
        "proposal": row,
        "drafts": drafts,
        "draft": draft,
        "stale": draft is not None and in_force is not None and in_force.version != draft.base_version,
        "in_force": in_force,
        "typed": typed or Typed(),
        "done": done,
        **_tried(view, draft),
    }
    if part:
        return view.page("parts/trial.html", **values)
    examples = queries.examples(session, row.pattern_id)
    view.shows_verdicts(example.revision_id for example in examples)
    return view.page(
        "proposal.html",
        **values,
        failure=_names(view).failure(row),
        examples=examples,
        edits=_shown(view, draft) if draft else (),
    )


def _tried(view: View, draft: DraftRow | None) -> dict[str, Any]:
    """The newest wording's trial, and what people call its tickets."""
    trial: ReplayRow | None = queries.replay(view.session, draft.id) if draft else None
    cases = trial.result["cases"] if trial is not None and trial.result else []
    view.shows_verdicts(case["revision_id"] for case in cases)
    return {"trial": trial, "tickets": queries.names(view.session, [case["ticket_id"] for case in cases])}


def _shown(view: View, draft: DraftRow) -> tuple[ShownEdit, ...]:
    """Each edit beside the item as it stood in the version that it is for."""
    documents = read_documents(releases.load(view.session, draft.base_version).files)
    items = {item.id: item for document in documents.values() for item in document.items}
    return tuple(_shown_edit(edit, items.get(edit.item)) for edit in draft.edits)


def _shown_edit(edit: Edit, item: Item | None) -> ShownEdit:
    """The title stands above the lines, and among them only where it changes."""
    title = edit.title or (item.title if item is not None else edit.item)
    before, after = (item.body if item is not None else ""), edit.text.strip()
    if item is not None and edit.operation == "update" and title != item.title:
        before, after = f"Title: {item.title}\n\n{before}", f"Title: {title}\n\n{after}"
    return ShownEdit(edit, item.title if item is not None else title, diff.lines(before, after, around=None))
