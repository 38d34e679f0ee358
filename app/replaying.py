"""The job `replay`: a draft is tried on tickets, old and new context judged fresh, side by side, three times each.

1. T: read the draft and its tickets as they stood when the replay was made; it is running from here on.
2. No model able to answer yet: it waits. None configured: it cannot be tried.
3. Judge every ticket under both contexts, one repetition after the other. Each paid reply is stored on its own before
   anything may fail on it, so that a worker that takes over pays for nothing twice.
4. T: the comparison and what it cost; whoever comes second changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from sqlalchemy import and_, func, select, update

from agents.gateway import CallFailed
from agents.observation import Fingerprint
from app import estimates, releases, replay_cases
from app.budget import OverBudget
from app.clock import now
from app.db import transaction
from app.errors import NotFound
from app.models import choose
from app.queue import enqueue, has_job
from app.runs import DUPLICATE
from app.tables import Draft, Pattern, Proposal, Replay, Run
from app.trial import NUMBERS, REPETITIONS, Judging, Trial, result_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from agents import proof
    from agents.question import Agent
    from app.deps import Deps
    from app.models import Ready
    from app.settings import Settings

log = structlog.get_logger()

MOST_UNANSWERED = 50  # attempts of one replay without a reply, each of them possibly billed

WAITS = "waiting for the model"
NO_MODEL = (
    "no worker model is configured, so nothing can be tried. Set ANTHROPIC_API_KEY or TICKETQC_WORKER_MODEL, "
    "start again, then try it again."
)
NOTHING = (
    "there is nothing to try it on: none of the pattern's tickets is finished, and nobody has labelled another. "
    "Decide about some tickets, then try it again."
)
REPLACED = "a newer wording replaced this one, or the proposal was decided, before its trial was over"


def begin(session: Session, draft: Draft, *, settings: Settings) -> Replay:
    """The draft's trial waits for a worker, with what it will take, if the caller's transaction commits."""
    made = Replay(draft_id=draft.id, repetitions=REPETITIONS)
    session.add(made)
    session.flush()
    session.refresh(made)
    trial = _read(session, made, draft, most=settings.replay_tickets)
    made.tickets, made.labelled = len(trial.chosen.cases), trial.chosen.labelled
    made.available = trial.chosen.available
    calls = _calls(trial)
    made.calls = sum(calls.values())
    made.estimate_usd = estimates.of(session, calls, choice=choose(settings))
    session.flush()
    _enqueue(session, made.id)
    return made


def replay(deps: Deps, *, replay_id: int) -> None:
    """The trial is done, waits, or cannot be had; the page says which."""
    ready = deps.models.ready()
    if ready is None:
        judged = deps.models.choice().judged_by_model
        return _set_state(deps, replay_id, "waiting" if judged else "failed", WAITS if judged else NO_MODEL)
    trial = _open_trial(deps, replay_id, ready)
    if trial is None:
        return None
    if not trial.chosen.cases:
        return _set_state(deps, replay_id, "failed", NOTHING)
    try:
        comparisons = Judging(deps, trial, ready).comparisons(lambda: _wanted_still(deps, replay_id))
    except CallFailed as failure:
        return _call_failed(deps, replay_id, failure, ready)
    if not comparisons:
        return _set_state(deps, replay_id, "failed", REPLACED)
    with transaction(deps.engine) as session:
        _record(session, replay_id, comparisons)
    log.info("replay.done", replay_id=replay_id, cases=len(comparisons))
    return None


def resume(deps: Deps) -> None:
    """Replays that wait have a job again, if the model can answer now; also what a lost job left behind."""
    if deps.models.ready() is None:
        return
    idle = ~has_job(func.concat("replay:", Replay.id))
    with transaction(deps.engine) as session:
        if deps.models.budget.stopped(session):
            return
        for replay_id in session.scalars(select(Replay.id).where(Replay.state.in_(("waiting", "running")), idle)):
            _enqueue(session, replay_id)


def give_up(deps: Deps, reason: str, *, replay_id: int) -> None:
    """A job that ended without success leaves its replay failed, in sight, with the reason."""
    _set_state(deps, replay_id, "failed", f"the trial stopped: {reason}")


def runs_of(replay: Replay) -> ColumnElement[bool]:
    """The model calls of a replay; by their time too, which has an index."""
    first = replay.id * NUMBERS
    return and_(
        Run.recorded_at >= replay.recorded_at,
        Run.purpose.in_(("replay", "replay_repair")),
        Run.repetition.between(first, first + NUMBERS - 1),
    )


def _enqueue(session: Session, replay_id: int) -> None:
    enqueue(session, "replay", lock=f"replay:{replay_id}", once=f"replay:{replay_id}", replay_id=replay_id)


def _open_trial(deps: Deps, replay_id: int, ready: Ready) -> Trial | None:
    """The trial, marked as running; None where there is nothing to do any more."""
    with transaction(deps.engine) as session:
        row = session.get(Replay, replay_id, with_for_update=True)
        if row is None:
            raise NotFound(f"there is no replay {replay_id}")
        if row.state in {"done", "failed"}:
            return None
        draft = session.get_one(Draft, row.draft_id)
        if not _wanted(session, draft):
            row.state, row.note = "failed", REPLACED
            return None
        row.state, row.note, row.model, row.demonstration = "running", "", ready.model, ready.demonstration
        return _read(session, row, draft, most=deps.settings.replay_tickets)


def _wanted(session: Session, draft: Draft) -> bool:
    """Whether somebody still waits for the trial of this wording."""
    newest = session.scalar(select(func.max(Draft.number)).where(Draft.proposal_id == draft.proposal_id))
    state = session.scalar(select(Proposal.state).where(Proposal.id == draft.proposal_id))
    return state == "open" and newest == draft.number


def _wanted_still(deps: Deps, replay_id: int) -> bool:
    with transaction(deps.engine) as session:
        return _wanted(session, session.get_one(Draft, session.get_one(Replay, replay_id).draft_id))


def _read(session: Session, row: Replay, draft: Draft, *, most: int) -> Trial:
    proposal = session.get_one(Proposal, draft.proposal_id)
    pattern = session.get_one(Pattern, proposal.pattern_id)
    old = releases.load(session, draft.base_version)
    return Trial(
        replay_id=row.id,
        fingerprint=Fingerprint(pattern.agent, pattern.code, pattern.subject, pattern.direction),
        old=old,
        new=releases.load(session, draft.candidate_version),
        chosen=replay_cases.choose(session, pattern.id, base=old, as_of=row.recorded_at, most=row.tickets or most),
    )


def _record(session: Session, replay_id: int, comparisons: Sequence[proof.Comparison]) -> None:
    """Whoever comes second finds it done."""
    row = session.get_one(Replay, replay_id, with_for_update=True)
    if row.state in {"done", "failed"}:
        return
    row.state, row.note, row.finished_at = "done", "", now()
    row.result = result_document(comparisons)
    unpriced = select(Run.id).where(runs_of(row), Run.replied, Run.cost_usd.is_(None)).limit(1)
    if session.scalar(unpriced) is None:
        row.cost_usd = session.scalar(select(func.coalesce(func.sum(Run.cost_usd), 0)).where(runs_of(row)))


def _call_failed(deps: Deps, replay_id: int, failure: CallFailed, ready: Ready) -> None:
    """Nothing is guessed where the model did not answer: the trial waits, or fails where waiting cannot help."""
    if failure.stops_all:
        deps.models.failed(failure, asked=ready)
        return _set_state(deps, replay_id, "waiting", "the model cannot be used; see the banner")
    if isinstance(failure, OverBudget):
        return _set_state(deps, replay_id, "waiting", str(failure))
    if failure.permanent:
        return _set_state(deps, replay_id, "failed", f"the model's server rejected a question: {failure}")
    if _unanswered(deps, replay_id) >= MOST_UNANSWERED:
        return _set_state(deps, replay_id, "failed", f"the model did not answer time and again: {failure}")
    return _set_state(deps, replay_id, "waiting", f"the model did not answer; tried again in a minute ({failure.code})")


def _unanswered(deps: Deps, replay_id: int) -> int:
    with transaction(deps.engine) as session:
        row = session.get_one(Replay, replay_id)
        failed = select(func.count()).select_from(Run).where(runs_of(row), ~Run.replied, Run.outcome != DUPLICATE)
        return session.scalar(failed) or 0


def _set_state(deps: Deps, replay_id: int, state: str, note: str) -> None:
    """Not where it is over already: another worker may have been quicker."""
    over = {"finished_at": now()} if state == "failed" else {}
    changed = update(Replay).where(Replay.id == replay_id, Replay.state.in_(("waiting", "running")))
    with transaction(deps.engine) as session:
        session.execute(changed.values(state=state, note=note, **over))


def _calls(trial: Trial) -> dict[Agent, int]:
    """How many questions each agent will be asked, without those to mend an answer."""
    each = 2 * REPETITIONS * len(trial.chosen.cases)
    unknown = sum(case.triage is None for case in trial.chosen.cases)
    return {"qc": each, "triage": each if trial.triages else unknown}
