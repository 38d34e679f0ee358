"""The jobs that judge: `triage` for open tickets, `review` for finished ones, `resume` for those that had to wait.

A review, step by step; no transaction is open while a model is asked:
1. T: read revision, context in force, triage of this intake; stop where it is superseded or has its verdict already.
2. No model able to answer yet: the ticket waits; checks show on its page meanwhile.
3. Judge. Each paid reply is stored on its own before anything may fail on it, and found again by a retry.
4. T: insert the verdict with findings, triage, escalations and observations; whoever comes second changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from sqlalchemy import func, select, update

from agents import triage as triage_agent
from agents.gateway import CallFailed
from agents.judge import ENGINE_VERSION, Panel, judge
from agents.ticket import FINISHED
from app import documents, tables
from app.clock import now
from app.db import transaction
from app.errors import NotFound
from app.judgements import Case, record, record_intake, show
from app.queue import TaskName, enqueue
from app.releases import in_force
from app.runs import RunStore

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from agents.answer import Failed
    from agents.context import Context
    from agents.observation import Observation
    from agents.question import Question, Reply
    from agents.triage import Triage
    from app.deps import Deps
    from app.models import Ready

log = structlog.get_logger()

NO_MODEL = "none"  # panel of a verdict that no model had a part in
SECOND_SHARE = 0.2  # at most this share of the last day's verdicts rests on a second run


def review(deps: Deps, *, revision_id: int) -> None:
    """The revision has its verdict under the context in force, or waits, or is superseded."""
    ready = deps.models.ready()
    if ready is None and deps.models.choice().judged_by_model:
        return _wait(deps, revision_id, "waiting for the model")
    case = _open_case(deps, revision_id, ready)
    if case is None:
        return None
    try:
        judgement = judge(
            case.revision,
            case.context,
            supplied=case.supplied,
            panel=_panel(deps, case, ready) if ready else None,
            triage=case.triage,
        )
    except CallFailed as failure:
        return _call_failed(deps, revision_id, failure)
    with transaction(deps.engine) as session:
        demonstration = ready is not None and ready.demonstration
        record(session, case, judgement, panel=_panel_name(ready), demonstration=demonstration)
    log.info("review.done", revision_id=revision_id, outcome=judgement.verdict.outcome)
    return None


def triage(deps: Deps, *, revision_id: int) -> None:
    """The open ticket's intake is triaged once, and its escalations are on record."""
    ready = deps.models.ready()
    if ready is None:
        return _wait(deps, revision_id, "waiting for the model") if deps.models.choice().judged_by_model else None
    case = _open_case(deps, revision_id, ready)
    if case is None:
        return None
    try:
        answer, observations = _triage(case, _panel(deps, case, ready))
    except CallFailed as failure:
        return _call_failed(deps, revision_id, failure)
    with transaction(deps.engine) as session:
        record_intake(session, case, answer, observations, model=ready.model)
    return None


def _triage(case: Case, panel: Panel) -> tuple[Triage | Failed, tuple[Observation, ...]]:
    """The answer for this intake, asked for only where an earlier revision has none."""
    if case.triage is not None:
        return case.triage, ()
    return triage_agent.triage(case.revision, case.context, ask=panel.ask, model=panel.model, nonce_for=panel.nonce_for)


def resume(deps: Deps) -> None:
    """Every ticket that waits has a job again, if the model can answer now; also what a lost job left behind."""
    if deps.models.ready() is None and deps.models.choice().judged_by_model:
        return
    with transaction(deps.engine) as session:
        for ticket in session.scalars(select(tables.Ticket).where(tables.Ticket.review_state.in_(_UNFINISHED))):
            if ticket.revision_id is not None:
                enqueue_for(session, ticket)


_UNFINISHED = ("waiting_model", "running")


def enqueue_for(session: Session, ticket: tables.Ticket) -> None:
    """The job that the newest revision of a ticket needs: `review` where it is finished, else `triage`."""
    assert ticket.revision_id is not None  # noqa: S101  callers look at tickets with a revision
    task: TaskName = "review" if ticket.status in FINISHED else "triage"
    enqueue(
        session, task, lock=f"ticket:{ticket.id}", once=f"{task}:{ticket.revision_id}", revision_id=ticket.revision_id
    )


def give_up(deps: Deps, reason: str, *, revision_id: int) -> None:
    """A job that ended without success leaves its ticket parked, in sight, with the reason."""
    _set_state(deps, revision_id, "parked", f"reviewing failed: {reason}")


def _open_case(deps: Deps, revision_id: int, ready: Ready | None) -> Case | None:
    """The case, and the ticket marked as running; None where there is nothing to do any more."""
    with transaction(deps.engine) as session:
        row = session.get(tables.Revision, revision_id)
        if row is None:
            raise NotFound(f"there is no revision {revision_id}")
        ticket = session.get_one(tables.Ticket, row.ticket_id)
        context = in_force(session)
        if ticket.revision_id != revision_id:
            log.info("review.superseded", revision_id=revision_id)
            return None
        if (known := _verdict_of(session, revision_id, context, ready)) is not None:
            show(session, ticket.id, known)
            return None
        _state(session, revision_id, "running", "")
        connection = session.get_one(tables.Connection, ticket.connection_id)
        return Case(
            revision_id=revision_id,
            ticket_id=ticket.id,
            revision=documents.revision(row.document),
            live=row.live,
            supplied=frozenset(connection.supplied if connection.declared is None else connection.declared),
            context=context,
            triage=_known_triage(session, row, context, ready),
        )


def _verdict_of(session: Session, revision_id: int, context: Context, ready: Ready | None) -> tables.Verdict | None:
    return session.scalar(
        select(tables.Verdict).where(
            tables.Verdict.revision_id == revision_id,
            tables.Verdict.context_version == context.version,
            tables.Verdict.engine_version == ENGINE_VERSION,
            tables.Verdict.panel == _panel_name(ready),
        )
    )


def _known_triage(session: Session, row: tables.Revision, context: Context, ready: Ready | None) -> Triage | None:
    """Triage runs once per intake: an earlier revision with the same intake has its answer."""
    stored = session.scalar(
        select(tables.Triage).where(
            tables.Triage.ticket_id == row.ticket_id,
            tables.Triage.intake_hash == row.intake_hash,
            tables.Triage.agent_hash == context.agent_hash("triage"),
            tables.Triage.model == _panel_name(ready),
        )
    )
    return None if stored is None else documents.triage(stored.answer)


def _panel_name(ready: Ready | None) -> str:
    """Who judges, as verdicts and triages pin it."""
    return ready.model if ready else NO_MODEL


def _panel(deps: Deps, case: Case, ready: Ready) -> Panel:
    store = RunStore(
        deps.engine,
        revision_id=case.revision_id,
        context_version=case.context.version,
        today=lambda: now().date(),
        demonstration=ready.demonstration,
    )

    def ask(question: Question) -> Reply:
        return ready.asking.ask(question, store).reply

    return Panel(ready.model, ask, deps.vault.nonce, ready.token_limit, lambda: _second_allowed(deps))


def _second_allowed(deps: Deps) -> bool:
    """True while second runs stay within their share of the last 24 hours' verdicts."""
    day = func.now() - func.make_interval(0, 0, 0, 1)
    with transaction(deps.engine) as session:
        seconds = session.scalar(
            select(func.count()).where(tables.Run.purpose == "second", tables.Run.recorded_at > day)
        )
        verdicts = session.scalar(select(func.count()).where(tables.Verdict.recorded_at > day))
    return (seconds or 0) < SECOND_SHARE * ((verdicts or 0) + 1)


def _call_failed(deps: Deps, revision_id: int, failure: CallFailed) -> None:
    """Nothing is guessed where the model did not answer: the ticket waits, or is parked where waiting cannot help."""
    if failure.stops_all:
        deps.models.failed(failure)
        return _wait(deps, revision_id, "the model cannot be used; see the banner")
    if failure.permanent:
        return _set_state(deps, revision_id, "parked", f"the model's server rejected the question: {failure}")
    return _wait(deps, revision_id, f"the model did not answer; tried again within minutes ({failure.code})")


def _wait(deps: Deps, revision_id: int, note: str) -> None:
    _set_state(deps, revision_id, "waiting_model", note)


def _set_state(deps: Deps, revision_id: int, state: str, note: str) -> None:
    with transaction(deps.engine) as session:
        _state(session, revision_id, state, note)


def _state(session: Session, revision_id: int, state: str, note: str) -> None:
    """Only the newest revision speaks for its ticket."""
    session.execute(
        update(tables.Ticket)
        .where(tables.Ticket.revision_id == revision_id)
        .values(review_state=state, review_note=note)
    )
