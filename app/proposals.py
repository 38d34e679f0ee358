"""Proposals: wordings that are tried before anybody decides, and what people decide.

Nothing goes live that was not tried on what is in force: a wording is a draft on a base version, its trial is a replay,
and approving releases exactly the version that was tried. `app.calling` brings what the chief of staff proposes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from sqlalchemy import func, select

from agents.context import ContextError
from agents.edit_lint import problems
from agents.edits import Edit, EditError, apply_edits, documents, from_documents
from app import audit, briefs, patterns, releases, replaying
from app.errors import BadRequest, Conflict, NotFound
from app.tables import Draft, Proposal, Replay, User

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from agents.context import Context
    from app.audit import Actor
    from app.settings import Settings

log = structlog.get_logger()

MOST_OPEN = 3  # proposals that wait for a person; more than that nobody reads with care
TRY_AGAIN = "Try it on what is in force now, then decide."


class EditsRefused(BadRequest):
    """Edits that cannot be tried; the problems are words for people, one each."""

    status = 422

    def __init__(self, found: Sequence[str]) -> None:
        self.problems = tuple(found)
        super().__init__("; ".join(found))


class Latest(NamedTuple):
    """The newest wording of a proposal and its trial."""

    draft: Draft
    replay: Replay


def approve(  # noqa: PLR0913  a decision has these parts
    session: Session, *, actor: Actor, proposal_id: int, note: str, now: datetime, seen: int | None = None
) -> None:
    """What was tried is in force for everybody; a proposal without edits is acknowledged. The pattern cools down.

    Raises Conflict where somebody decided first, the trial is not over, or another version is in force than it was
    tried on. `seen` is the number of the wording that the person looked at.
    """
    proposal = _open(session, proposal_id)
    latest = newest(session, proposal_id, seen=seen)
    if latest is not None:
        _release(session, proposal, latest, actor=actor, note=note)
    _decide(session, proposal, "approved", actor=actor, note=note, now=now)


def reject(  # noqa: PLR0913  a decision has these parts
    session: Session, *, actor: Actor, proposal_id: int, reason: str, now: datetime, seen: int | None = None
) -> None:
    """Nothing changes, the pattern cools down, and the next proposal about it knows why. Raises Conflict."""
    proposal = _open(session, proposal_id)
    newest(session, proposal_id, seen=seen)
    _decide(session, proposal, "rejected", actor=actor, note=reason, now=now)


def revise(  # noqa: PLR0913  a wording has these parts
    session: Session,
    *,
    actor: Actor,
    proposal_id: int,
    edits: Sequence[Edit] | None,
    settings: Settings,
    seen: int | None = None,
) -> Draft:
    """A person's wording of the edits, on what is in force now, and its trial; None: the wording as it is, tried again.

    Raises EditsRefused, or Conflict where somebody was first or the same is being tried already.
    """
    proposal = _open(session, proposal_id)
    latest = newest(session, proposal_id, seen=seen)
    if latest is None:
        raise Conflict("this proposal has no edits that could be tried; nothing was changed")
    base = releases.in_force(session)
    if edits is None and base.version == latest.draft.base_version and latest.replay.state != "failed":
        raise Conflict("it is being tried on what is in force already, or was; nothing was changed")
    if found := _problems(session, proposal, latest, edits, base=base):
        raise EditsRefused(found)
    wording = _wording(latest, edits)
    draft = add_draft(session, proposal, base=base, edits=wording, author=actor, settings=settings)
    action = "proposal.retried" if edits is None else "proposal.revised"
    _audit(session, actor, proposal, action, before={"draft": latest.draft.number}, draft=draft.number)
    return draft


def problems_with(session: Session, proposal_id: int, edits: Sequence[Edit] | None = None) -> tuple[str, ...]:
    """What keeps these edits, or the newest wording, from being tried on what is in force; words for people."""
    proposal = session.get(Proposal, proposal_id)
    latest = newest(session, proposal_id)
    if proposal is None or latest is None:
        return ()
    return _problems(session, proposal, latest, edits, base=releases.in_force(session))


def _problems(
    session: Session, proposal: Proposal, latest: Latest, edits: Sequence[Edit] | None, *, base: Context
) -> tuple[str, ...]:
    wording = _wording(latest, edits)
    if not wording:
        return ("Keep at least one edit, or reject the proposal.",)
    if edits is not None and base.version == latest.draft.base_version and documents(edits) == latest.draft.edits:
        return ("Nothing is different from what is being tried: change a text first.",)
    about = briefs.surroundings(session, proposal.pattern_id)
    return tuple(problems(wording, base=base, tickets=about.tickets, names=about.names))


def _wording(latest: Latest, edits: Sequence[Edit] | None) -> Sequence[Edit]:
    return from_documents(latest.draft.edits) if edits is None else edits


def add_draft(  # noqa: PLR0913  a wording has these parts
    session: Session,
    proposal: Proposal,
    *,
    base: Context,
    edits: Sequence[Edit],
    author: Actor,
    settings: Settings,
) -> Draft:
    """The next wording of a proposal, its version stored but not in force, and its trial waiting for a worker."""
    last = session.scalar(select(func.max(Draft.number)).where(Draft.proposal_id == proposal.id)) or 0
    draft = Draft(
        proposal_id=proposal.id,
        number=last + 1,
        base_version=base.version,
        candidate_version=_candidate(session, base, edits).version,
        edits=documents(edits),
        author_id=author.user_id,
    )
    session.add(draft)
    session.flush()
    replaying.begin(session, draft, settings=settings)
    return draft


def newest(session: Session, proposal_id: int, *, seen: int | None = None) -> Latest | None:
    """The newest wording and its trial; None where there are no edits. Raises Conflict where it is not the one seen."""
    found = session.execute(
        select(Draft, Replay)
        .join(Replay, Replay.draft_id == Draft.id)
        .where(Draft.proposal_id == proposal_id)
        .order_by(Draft.number.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    ).first()
    if found is None:
        return None
    if seen is not None and found[0].number != seen:
        raise Conflict("somebody changed the wording meanwhile; nothing was changed. Look at the new one first.")
    return Latest(*found)


def _candidate(session: Session, base: Context, edits: Sequence[Edit]) -> Context:
    """The version that the edits make. Raises EditsRefused."""
    try:
        candidate = releases.store(session, apply_edits(base.files, edits))
    except EditError as error:
        raise EditsRefused([str(error)]) from None
    except ContextError as error:
        raise EditsRefused([str(problem) for problem in error.problems]) from None
    if candidate.version == base.version:
        raise EditsRefused(["What is in force says this already: the edits change nothing."])
    return candidate


def _release(session: Session, proposal: Proposal, latest: Latest, *, actor: Actor, note: str) -> None:
    draft, replay = latest
    if replay.state != "done":
        words = "has failed" if replay.state == "failed" else "is not over yet"
        raise Conflict(
            f"its trial {words}; nothing was changed. {TRY_AGAIN if replay.state == 'failed' else ''}".strip()
        )
    in_force = releases.newest_version(session)
    if in_force != draft.base_version:
        raise Conflict(f"another version is in force than it was tried on; nothing was changed. {TRY_AGAIN}")
    releases.release_version(
        session,
        draft.candidate_version,
        note=note or proposal.why,
        actor=actor,
        proposal_id=proposal.id,
        expected=draft.base_version,
    )


def _open(session: Session, proposal_id: int) -> Proposal:
    """The proposal, locked: of two who decide at the same moment the second finds it decided."""
    locked = select(Proposal).where(Proposal.id == proposal_id).with_for_update()
    proposal = session.scalar(locked.execution_options(populate_existing=True))
    if proposal is None:
        raise NotFound(f"there is no proposal {proposal_id}; it may have been in another database")
    if proposal.state != "open":
        who = session.get(User, proposal.decided_by) if proposal.decided_by is not None else None
        by = f" by {who.name}" if who else ""
        raise Conflict(f"this proposal was {proposal.state}{by} meanwhile; nothing was changed")
    return proposal


def _decide(  # noqa: PLR0913  a decision has these parts
    session: Session, proposal: Proposal, state: str, *, actor: Actor, note: str, now: datetime
) -> None:
    proposal.state, proposal.decided_by, proposal.decided_at = state, actor.user_id, now
    proposal.decision_note = note
    session.flush()
    words = f"proposal {proposal.id} {state}" + (f": {note}" if note else "")
    patterns.decided(session, proposal.pattern_id, now=now, note=words, actor=actor)
    _audit(session, actor, proposal, f"proposal.{state}", before={"state": "open"}, note=note, state=state)
    log.info("proposal.decided", proposal_id=proposal.id, state=state)


def _audit(  # noqa: PLR0913  an event has these parts
    session: Session,
    actor: Actor,
    proposal: Proposal,
    action: str,
    *,
    before: dict[str, Any],
    note: str = "",
    **after: object,
) -> None:
    subject = f"proposal:{proposal.id}"
    audit.record(session, actor, action=action, subject=subject, before=before, after=after, note=note)
