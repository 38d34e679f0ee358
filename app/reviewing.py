"""The jobs that judge: `triage` for open tickets, `review` for finished ones, `resume` for those that had to wait.

A review, step by step; no transaction is open while a model is asked:
1. Read revision, context in force, triage of this intake; stop where it is superseded or has its verdict already.
2. No model able to answer yet: the ticket waits; checks show on its page meanwhile.
3. Judge. Each paid reply is stored on its own before anything may fail on it, and found again by a retry.
4. T: insert the verdict with findings, triage, escalations and observations; whoever comes second changes nothing.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import bindparam, exists, func, literal, or_, select, update
from sqlalchemy.orm import aliased

from agents import triage as triage_agent
from agents.answer import Failed
from agents.gateway import CallFailed
from agents.judge import SECOND_SHARE, Judgement, Panel, Strong, judge, too_long
from agents.ticket import FINISHED
from app import tables
from app.budget import OverBudget
from app.cases import case_of, panel_name, read_case
from app.clock import now
from app.db import autocommit, transaction
from app.judgements import AND, NO_MODEL, Case, escalate_by_code, record, record_intake
from app.locks import Lock, take
from app.queue import TaskName, enqueue, has_job
from app.releases import in_force
from app.runs import DUPLICATE, RunStore, for_its_own_sake
from app.tables import table_of

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, ScalarSelect, Select
    from sqlalchemy.orm import Session
    from sqlalchemy.sql.dml import ReturningUpdate

    from agents.observation import Observation
    from agents.question import Ask, Question, Reply
    from agents.triage import Triage
    from app.deps import Deps
    from app.models import Ready, Role

log = structlog.get_logger()

SECOND_NOTE = "judged a second time"  # why a ticket is running: its second run is allowed and under way
GONE = "the model went away before this ticket's turn came; tried again within minutes"
DAY = func.make_interval(0, 0, 0, 1)
MOST_UNANSWERED = 24  # attempts a day about one revision while others are answered, each of them possibly billed
MEANWHILE = func.make_interval(0, 0, 0, 0, 0, 15)  # minutes before an attempt in which another's answer shows a model
MOST_RESUMED = 2_000  # tickets a time: more than a minute's work for one worker


def review(deps: Deps, *, revision_id: int) -> None:
    """The revision has its verdict under the context in force, or waits, or is superseded."""
    ready = deps.models.ready()
    if ready is None and deps.models.choice().judged_by_model:
        return _wait(deps, revision_id, "waiting for the model")
    with ready.turns if ready else nullcontext():
        return _review(deps, revision_id, ready)


def _review(deps: Deps, revision_id: int, ready: Ready | None) -> None:
    if deps.models.ready() is not ready:
        return _wait(deps, revision_id, GONE)
    case = _open_case(deps, revision_id, ready)
    if case is None:
        return None
    try:
        judgement = judged(case, _panel(deps, case, ready) if ready else None)
    except CallFailed as failure:
        return _call_failed(deps, revision_id, failure, ready)
    with transaction(deps.engine) as session:
        demonstration = ready is not None and ready.demonstration
        record(session, case, judgement, panel=_judges(judgement, ready), demonstration=demonstration)
    log.info("review.done", revision_id=revision_id, outcome=judgement.verdict.outcome)
    return None


def triage(deps: Deps, *, revision_id: int) -> None:
    """The open ticket's intake is triaged once, and its escalations are on record."""
    ready = deps.models.ready()
    if ready is None:
        if deps.models.choice().judged_by_model:
            return _wait(deps, revision_id, "waiting for the model")
        return _triage_by_code(deps, revision_id)
    with ready.turns:
        return _triage_intake(deps, revision_id, ready)


def _triage_by_code(deps: Deps, revision_id: int) -> None:
    """Without a model, the escalation rules that need none."""
    case = _open_case(deps, revision_id, None)
    if case is not None:
        with transaction(deps.engine) as session:
            record_intake(session, case, None, (), model=NO_MODEL)


def _triage_intake(deps: Deps, revision_id: int, ready: Ready) -> None:
    if deps.models.ready() is not ready:
        return _wait(deps, revision_id, GONE)
    case = _open_case(deps, revision_id, ready)
    if case is None:
        return None
    try:
        answer, observations = triaged(case, _panel(deps, case, ready))
    except CallFailed as failure:
        return _call_failed(deps, revision_id, failure, ready)
    with transaction(deps.engine) as session:
        record_intake(session, case, answer, observations, model=ready.model)
    return None


def judged(case: Case, panel: Panel | None) -> Judgement:
    """A finished ticket's judgement. Raises what the panel's `ask` raises."""
    return judge(case.revision, case.context, supplied=case.supplied, panel=panel, triage=case.triage)


def triaged(case: Case, panel: Panel) -> tuple[Triage | Failed, tuple[Observation, ...]]:
    """The answer for this intake, asked for only where an earlier revision has none, and it is short enough."""
    revision = case.revision
    if case.triage is not None:
        return case.triage, ()
    if why := too_long(revision, panel.token_limit, lines=revision.intake_lines):
        return Failed("context_exceeded", why), ()
    return triage_agent.triage(revision, case.context, ask=panel.ask, model=panel.model, nonce_for=panel.nonce_for)


def resume(deps: Deps) -> None:
    """Tickets that wait have a job again, if the model can answer now and be paid; also what a lost job left behind.

    And what was judged while no model was configured, once there is one. A ticket that has a job keeps that one, and
    one that waits for a batch goes on waiting.
    """
    ready = deps.models.ready()
    if ready is None and deps.models.choice().judged_by_model:
        return
    ticket = tables.Ticket
    due = [ticket.review_state.in_(_UNFINISHED), *([ticket.id.in_(_JUDGED_WITHOUT_MODEL)] if ready else [])]
    idle = ~has_job(func.concat("ticket:", ticket.id))
    with transaction(deps.engine) as session:
        if ready and deps.models.budget.stopped(session):
            return
        found = select(ticket).where(or_(*due), ticket.revision_id.is_not(None), idle, ~_BATCHED)
        for waiting in session.scalars(found.order_by(ticket.id).limit(MOST_RESUMED)):
            enqueue_for(session, waiting)


_UNFINISHED = ("waiting_model", "running")
_TICKETS, _BATCH_TICKETS = table_of(tables.Ticket), table_of(tables.BatchTicket)
_BATCHED = exists().where(_BATCH_TICKETS.c.revision_id == _TICKETS.c.revision_id)
_JUDGED_WITHOUT_MODEL = (
    select(tables.Ticket.id)
    .join(tables.Revision, tables.Revision.ticket_id == tables.Ticket.id)
    .join(tables.Verdict, tables.Verdict.revision_id == tables.Revision.id)
    .where(
        tables.Verdict.panel == literal(NO_MODEL, literal_execute=True), tables.Verdict.id == tables.Ticket.verdict_id
    )
    .where(tables.Ticket.review_state == "done", ~tables.Revision.document.has_key("removed"))
)


def enqueue_for(session: Session, ticket: tables.Ticket) -> None:
    """The job that the newest revision of a ticket needs: `review` where it is finished, else `triage`."""
    assert ticket.revision_id is not None  # noqa: S101  callers look at tickets with a revision
    task: TaskName = "review" if ticket.status in FINISHED else "triage"
    enqueue(
        session, task, lock=f"ticket:{ticket.id}", once=f"{task}:{ticket.revision_id}", revision_id=ticket.revision_id
    )


def give_up(deps: Deps, reason: str, *, revision_id: int) -> None:
    """A job that ended without success leaves its ticket parked, in sight, with the reason; its text is not read."""
    with transaction(deps.engine) as session:
        _unjudged_state(session, revision_id, "parked", f"reviewing failed: {reason}")


def _open_case(deps: Deps, revision_id: int, ready: Ready | None) -> Case | None:
    """The case, and the ticket marked as running; None where there is nothing to do any more, or a batch does it.

    What code alone escalates waits for no batch.
    """
    with autocommit(deps.engine) as connection:
        case = read_case(connection, revision_id, ready)
        if case is None or _state(connection, revision_id, "running", "", change=_CHANGE_OWN):
            return case
    with transaction(deps.engine) as session:
        escalate_by_code(session, case)
    return None


def store_for(deps: Deps, case: Case, ready: Ready) -> RunStore:
    """Where replies about this case are kept and found."""
    return RunStore(
        deps.engine,
        revision_id=case.revision_id,
        context_version=case.context.version,
        today=lambda: now().date(),
        demonstration=ready.demonstration,
    )


def _judges(judgement: Judgement, ready: Ready | None) -> str:
    """All who judged, as verdicts pin it."""
    return AND.join(filter(None, (panel_name(ready), judgement.strong)))


def _panel(deps: Deps, case: Case, ready: Ready) -> Panel:
    return Panel(
        ready.model,
        _asking(deps, case, ready),
        deps.vault.nonce,
        ready.token_limit,
        lambda: _second_allowed(deps, case, ready),
        strong=_strong(deps, case, worker=ready),
    )


def strong_tier(deps: Deps, *, worker: Ready) -> Ready | None:
    """The strong tier where it is wanted, can answer now, and is another model than the worker."""
    ready = deps.models.ready("strong") if deps.settings.strong_on_abstention else None
    return None if ready is None or ready.model == worker.model else ready


def _strong(deps: Deps, case: Case, *, worker: Ready) -> Strong | None:
    ready = strong_tier(deps, worker=worker)
    return None if ready is None else Strong(ready.model, _asking(deps, case, ready, role="strong"))


def _asking(deps: Deps, case: Case, ready: Ready, *, role: Role = "worker") -> Ask:
    store = store_for(deps, case, ready)

    def ask(question: Question) -> Reply:
        try:
            return ready.asking.ask(question, store).reply
        except CallFailed as failure:
            if role == "strong" and failure.stops_all:  # of the worker's, whoever runs the job says so
                deps.models.failed(failure, asked=ready, role=role)
            raise

    return ask


def _second_allowed(deps: Deps, case: Case, ready: Ready) -> bool:
    """True while second runs stay within their share of the last 24 hours' tickets; one on record costs nothing.

    The note on a ticket's row is the reservation: whoever asks next counts it, in whatever worker.
    """
    mine = {"revision": case.revision_id, "context": case.context.version, "with_model": ready.model}
    with transaction(deps.engine) as session:
        take(session, Lock.SECOND_RUNS)
        recorded, seconds, tickets = session.execute(_SECONDS, mine).one()
        if recorded:
            return True
        if seconds + 1 > SECOND_SHARE * (tickets + 1):
            return False
        return _state(session, case.revision_id, "running", SECOND_NOTE)


def _seconds() -> Select[bool, int, int]:
    """Whether this panel's second run of a revision is on record, how many there were of late, and on how many tickets.

    Those under way count.
    """
    run, verdict, ticket = tables.Run, tables.Verdict, tables.Ticket
    day = func.now() - DAY
    recorded = select(run.id).where(run.purpose == "second", run.replied)
    mine = recorded.where(
        run.revision_id == bindparam("revision"),
        run.context_version == bindparam("context"),
        run.model == bindparam("with_model"),
    )
    live = recorded.where(for_its_own_sake(), run.recorded_at > day)
    under_way = select(ticket.id).where(ticket.review_state == "running", ticket.review_note == SECOND_NOTE)
    tickets = select(verdict.id).where(verdict.recorded_at > day)
    return select(mine.exists(), _counted(live) + _counted(under_way), _counted(tickets))


def _counted(found: Select[int]) -> ScalarSelect[int]:
    return select(func.count()).select_from(found.subquery()).scalar_subquery()


_SECONDS = _seconds()  # built once: it is a part of many reviews


def _call_failed(deps: Deps, revision_id: int, failure: CallFailed, ready: Ready | None) -> None:
    """Nothing is guessed where the model did not answer: the ticket waits, or is parked where waiting cannot help."""
    if failure.stops_all and ready is not None:
        deps.models.failed(failure, asked=ready)
        return _wait(deps, revision_id, "the model cannot be used; see the banner")
    if isinstance(failure, OverBudget):
        return _wait(deps, revision_id, str(failure))
    if failure.permanent:
        return _set_state(deps, revision_id, "parked", f"the model's server rejected the question: {failure}")
    if ready is not None and unanswerable(deps, revision_id, ready, among=for_its_own_sake(), most=MOST_UNANSWERED):
        note = f"the model answers about other tickets, but not about this one: {failure}"
        return _set_state(deps, revision_id, "parked", note)
    return _wait(deps, revision_id, f"the model did not answer; tried again within minutes ({failure.code})")


def unanswerable(deps: Deps, revision_id: int, ready: Ready, *, among: ColumnElement[bool], most: int) -> bool:
    """True where these attempts about this revision fail time and again although the model is there for others."""
    mine, other = tables.Run, aliased(tables.Run)
    meanwhile = select(other.id).where(
        other.replied,
        other.model == ready.model,
        other.revision_id != revision_id,
        other.recorded_at.between(mine.recorded_at - MEANWHILE, mine.recorded_at),
    )
    failed = select(mine.id).where(
        mine.revision_id == revision_id,
        mine.model == ready.model,
        among,
        ~mine.replied,
        mine.outcome != DUPLICATE,
        mine.recorded_at > func.now() - DAY,
        meanwhile.exists(),
    )
    with transaction(deps.engine) as session:
        return (session.scalar(select(_counted(failed))) or 0) >= most


def _wait(deps: Deps, revision_id: int, note: str) -> None:
    _set_state(deps, revision_id, "waiting_model", note)


def _set_state(deps: Deps, revision_id: int, state: str, note: str) -> None:
    """What code alone escalates does not wait with the ticket. One that waits for a batch goes on saying so."""
    with transaction(deps.engine) as session:
        if not _unjudged_state(session, revision_id, state, note) and not _in_batch(session, revision_id):
            return
        if case := case_of(session, revision_id, in_force(session), None):
            escalate_by_code(session, case)


def _unjudged_state(session: Session, revision_id: int, state: str, note: str) -> bool:
    """Not where the verdict came meanwhile: another worker may have been quicker, or this job a second one."""
    return _state(session, revision_id, state, note, change=_CHANGE_UNJUDGED)


def _in_batch(session: Session, revision_id: int) -> bool:
    mine = select(_BATCH_TICKETS.c.revision_id).where(_BATCH_TICKETS.c.revision_id == revision_id)
    return session.scalar(mine) is not None


# Built once: they are a part of every review. Of a ticket that no batch judges; and that is not judged by now.
_CHANGE = (
    update(_TICKETS)
    .where(_TICKETS.c.revision_id == bindparam("of_revision"))
    .values(review_state=bindparam("to_state"), review_note=bindparam("with_note"))
    .returning(_TICKETS.c.id)
)
_CHANGE_OWN = _CHANGE.where(~_BATCHED)
_CHANGE_UNJUDGED = _CHANGE_OWN.where(_TICKETS.c.review_state != "done")


def _state(
    session: Session | Connection, revision_id: int, state: str, note: str, *, change: ReturningUpdate[int] = _CHANGE
) -> bool:
    """Only the newest revision speaks for its ticket; False where this is not it."""
    changed = {"of_revision": revision_id, "to_state": state, "with_note": note}
    return session.scalar(change, changed) is not None
