"""The job `propose`: the chief of staff is called about a pattern, and what it answers is a proposal that is tried.

1. No strong model can answer now: nothing happens, the hourly tick comes again. None is configured: the page says so.
2. T: the pattern is open, came from at least two requesters, and nothing waits that forbids another proposal; it is
   called from here on, and its brief is read as of that moment, so that a retry asks the very same.
3. Ask. The paid reply is stored on its own before anything may fail on it, and found again by a retry.
4. T: the proposal with its edits and their trial, or that there was no usable answer; whoever comes second changes
   nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import exists, func, select
from sqlalchemy.dialects.postgresql import insert

from agents import chief_of_staff
from agents.answer import Failed
from agents.context import READ_BY
from agents.gateway import CallFailed
from app import audit, briefs, patterns, proposals, releases
from app.clock import now
from app.db import transaction
from app.judgements import observe
from app.limiter import NotSent
from app.locks import Lock, take
from app.queue import enqueue, has_job
from app.runs import RunStore
from app.tables import Observation, Pattern, PatternEvent, Proposal, Revision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from agents.chief_of_staff import Brief
    from agents.context import Context
    from agents.observation import Observation as Failure
    from agents.question import Question, Reply
    from app.briefs import Surroundings
    from app.deps import Deps
    from app.models import Ready

log = structlog.get_logger()

NO_MODEL = (
    "no strong model is configured, so nothing is proposed: set ANTHROPIC_API_KEY or TICKETQC_STRONG_MODEL, "
    "and start again"
)
ITSELF = "this agent reads no context files, so there is nothing to propose: it needs a person"


@dataclass(frozen=True)
class _Called:
    """What the job has read before it asks."""

    pattern_id: int
    brief: Brief
    context: Context
    about: Surroundings
    attempt: int  # calls before this one: each gets an answer of its own, also where nothing else has changed


def draft(deps: Deps, *, pattern_id: int) -> None:
    """There is a proposal about the pattern, or its history says why there is none, or it is called again later."""
    ready = deps.models.ready("strong")
    if ready is None:
        if not deps.models.choice("strong").judged_by_model:
            _say_once(deps, pattern_id, NO_MODEL)
        return None
    with ready.turns:
        if deps.models.ready("strong") is not ready:
            return None
        called = _call(deps, pattern_id)
        return None if called is None else _ask(deps, called, ready)


def resume(deps: Deps) -> None:
    """Patterns whose call was cut short, before the answer or after it, have a job again, if the model is there."""
    if deps.models.ready("strong") is None:
        return
    idle = ~has_job(func.concat("propose:", Pattern.id))
    last = select(PatternEvent.kind).where(PatternEvent.pattern_id == Pattern.id)
    cut_short = last.order_by(PatternEvent.id.desc()).limit(1).scalar_subquery() == "called"
    with transaction(deps.engine) as session:
        if _open_proposals(session) >= proposals.MOST_OPEN:
            return
        for pattern_id in session.scalars(select(Pattern.id).where(Pattern.state == "open", cut_short, idle)):
            lock = f"propose:{pattern_id}"
            enqueue(session, "propose", lock=lock, once=lock, pattern_id=pattern_id)


def give_up(deps: Deps, reason: str, *, pattern_id: int) -> None:
    """A job that ended without success leaves the reason in the pattern's history."""
    _say_once(deps, pattern_id, f"asking stopped: {reason}")


def _call(deps: Deps, pattern_id: int) -> _Called | None:
    """The brief, and the pattern's history says that it was called; None where nobody is to be asked."""
    with transaction(deps.engine) as session:
        take(session, Lock.PROPOSALS)
        pattern = session.get(Pattern, pattern_id)
        if pattern is None or not _may_be_called(session, pattern):
            return None
        if pattern.agent not in READ_BY:
            _say(session, pattern_id, ITSELF)
            return None
        context = releases.in_force(session)
        brief = briefs.read(session, pattern, as_of=_called_at(session, pattern_id))
        about = briefs.surroundings(session, pattern_id)
        return _Called(pattern_id, brief, context, about, attempt=_calls(session, pattern_id) - 1)


def _may_be_called(session: Session, pattern: Pattern) -> bool:
    """Open, from two requesters at least, without an open proposal, and with room for another."""
    waits = select(exists().where(Proposal.pattern_id == pattern.id, Proposal.state == "open"))
    return (
        pattern.state == "open"
        and not session.scalar(waits)
        and _open_proposals(session) < proposals.MOST_OPEN
        and pattern.id in patterns.callable_among(session, [pattern.id])
    )


def _open_proposals(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Proposal).where(Proposal.state == "open")) or 0


def _called_at(session: Session, pattern_id: int) -> datetime:
    """The moment of the call: the last one's where that was never answered, so that it is not paid for twice."""
    last = _last_event(pattern_id)
    event = session.scalar(last)
    if event is None or event.kind != "called":
        patterns.event(session, pattern_id, "called")
        event = session.scalars(last).one()
    return event.recorded_at


def _calls(session: Session, pattern_id: int) -> int:
    mine = PatternEvent.pattern_id == pattern_id
    return session.scalar(select(func.count()).where(mine, PatternEvent.kind == "called")) or 0


def _last_event(pattern_id: int) -> Select[PatternEvent]:
    last = select(PatternEvent).where(PatternEvent.pattern_id == pattern_id)
    return last.order_by(PatternEvent.id.desc()).limit(1)


def _ask(deps: Deps, called: _Called, ready: Ready) -> None:
    store = RunStore(
        deps.engine,
        revision_id=None,
        context_version=called.context.version,
        today=lambda: now().date(),
        demonstration=ready.demonstration,
    )

    def ask(question: Question) -> Reply:
        return ready.asking.ask(question, store).reply

    try:
        answer, seen = chief_of_staff.propose(
            called.brief,
            called.context,
            tickets=called.about.tickets,
            names=called.about.names,
            ask=ask,
            model=ready.model,
            nonce_for=deps.vault.nonce,
            repetition=called.attempt,
        )
    except CallFailed as failure:
        return _call_failed(deps, called.pattern_id, failure, ready)
    with transaction(deps.engine) as session:
        if isinstance(answer, Failed):
            _record_failure(session, called, answer, seen)
        else:
            _record(deps, session, called, answer, ready)
    return None


def _record(deps: Deps, session: Session, called: _Called, answer: chief_of_staff.Proposal, ready: Ready) -> None:
    """Nothing where somebody was quicker, or where there is no room any more: the reply waits in `runs` then."""
    take(session, Lock.PROPOSALS)
    pattern = session.get_one(Pattern, called.pattern_id)
    if pattern.state != "open" or _open_proposals(session) >= proposals.MOST_OPEN:
        return
    row = {
        "pattern_id": called.pattern_id,
        "kind": answer.kind,
        "why": answer.why,
        "questions": list(answer.questions),
        "model": ready.model,
        "demonstration": ready.demonstration,
    }
    proposal = session.scalar(insert(Proposal).values(**row).on_conflict_do_nothing().returning(Proposal))
    if proposal is None:
        return
    if answer.edits:
        proposals.add_draft(
            session, proposal, base=called.context, edits=answer.edits, author=audit.MACHINE, settings=deps.settings
        )
    patterns.event(session, called.pattern_id, "proposed", note=f"proposal {proposal.id}")
    log.info("proposal.made", proposal_id=proposal.id, pattern_id=called.pattern_id, kind=answer.kind)


def _record_failure(session: Session, called: _Called, failed: Failed, seen: Sequence[Failure]) -> None:
    """An unusable answer is the chief of staff's own failure, on the ticket that the pattern was last seen on."""
    take(session, Lock.PROPOSALS)
    event = session.scalar(_last_event(called.pattern_id))
    if event is None or event.kind != "called":
        return
    _say(session, called.pattern_id, f"the chief of staff gave no answer that can be used: {failed.detail}")
    last = (
        select(Observation.revision_id)
        .select_from(Pattern)
        .join(Observation, patterns.same())
        .join(Revision, Revision.id == Observation.revision_id)
        .where(Pattern.id == called.pattern_id)
        .order_by(Observation.id.desc())
        .limit(1)
    )
    observe(session, seen, revision_id=session.scalars(last).one(), context_version=called.context.version)


def _call_failed(deps: Deps, pattern_id: int, failure: CallFailed, ready: Ready) -> None:
    """Where nothing was asked it is asked later; what may have been billed is not asked again before tomorrow."""
    if failure.stops_all:
        deps.models.failed(failure, asked=ready, role="strong")
    elif not isinstance(failure, NotSent):
        _say_once(deps, pattern_id, f"the strong model did not answer: {failure}")


def _say_once(deps: Deps, pattern_id: int, note: str) -> None:
    """In the pattern's history, where that is not its last word already."""
    with transaction(deps.engine) as session:
        take(session, Lock.PROPOSALS)
        last = session.scalar(_last_event(pattern_id))
        if last is None or last.note != note:
            _say(session, pattern_id, note)


def _say(session: Session, pattern_id: int, note: str) -> None:
    patterns.event(session, pattern_id, "no_answer", note=note)
