"""The job `rescore`: past tickets are judged under another version, beside their verdicts, which stay as they are.

1. No model able to answer yet: it waits. None configured: the checks alone are compared, and the page says so.
2. T: some of its tickets that are left; it is running from here on. A minute's work at a time, so that tickets of
   today, whose jobs come first, never wait long for a worker.
3. Judge each by the same code as a review, but write no row of it except the runs. It asks what a review under that
   version would ask: an answer on record is not paid again, and a review will find the answers that were paid here.
4. T, for each: what it would get, beside what it has; whoever comes second changes nothing.
5. T: another job for the rest, or it is done.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import and_, func, select, update

from agents.gateway import CallFailed
from agents.judge import SECOND_SHARE, Panel, Strong
from app import cases, comparing, releases, reviewing
from app.budget import OverBudget
from app.clock import now
from app.comparing import Before
from app.db import transaction
from app.errors import NotFound
from app.judgements import NO_MODEL
from app.limiter import NotSent
from app.locks import ROW_ONLY
from app.queue import has_job
from app.rescores import OVER, ask_for
from app.runs import DUPLICATE, RunStore
from app.tables import Finding, Rescore, RescoreResult, Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import Session

    from agents.context import Context
    from agents.judge import Judgement
    from agents.question import Ask, Question, Reply
    from app.deps import Deps
    from app.judgements import Case
    from app.models import Ready

log = structlog.get_logger()

TICKETS = 32  # of one job; one of the model on this machine, which has one turn for all and takes minutes
THREADS = 8  # half of the calls that a process has in flight; the others are for tickets of today
MOST_UNANSWERED = 200  # attempts of one re-scoring without a reply, each of them possibly billed
MOST_UNANSWERED_EACH = 12  # of these about one ticket, while others are answered

WAITS = "waiting for the model"
REMOVED = "its texts were removed meanwhile"


class Seconds:
    """How many second runs there may still be; shared by the threads of one job."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._lock = threading.Lock()

    def take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0


@dataclass(frozen=True)
class Part:
    """What one job has read before it starts."""

    rescore_id: int
    context: Context
    revisions: Sequence[int]
    seconds: Seconds


def run(deps: Deps, *, rescore_id: int) -> None:
    """Some tickets further, or it is done, waits, or cannot go on; the page says which."""
    ready = deps.models.ready()
    if ready is None and deps.models.choice().judged_by_model:
        return _set_state(deps, rescore_id, "waiting", WAITS)
    part = _open_part(deps, rescore_id, ready)
    if part is None:
        return None
    try:
        with ThreadPoolExecutor(THREADS, "rescore") as pool:
            list(pool.map(partial(_judge, deps, part, ready), part.revisions))
    except CallFailed as failure:
        return _call_failed(deps, rescore_id, failure, ready)
    return _go_on(deps, rescore_id)


def resume(deps: Deps) -> None:
    """Those that wait have a job again, if the model can answer now and be paid; also what a lost job left behind."""
    ready = deps.models.ready()
    if ready is None and deps.models.choice().judged_by_model:
        return
    idle = ~has_job(func.concat("rescore:", Rescore.id))
    with transaction(deps.engine) as session:
        found = session.scalars(select(Rescore.id).where(Rescore.state.in_(("waiting", "running")), idle)).all()
        if found and not (ready and _short(deps, session)):
            for rescore_id in found:
                ask_for(session, rescore_id)


def give_up(deps: Deps, reason: str, *, rescore_id: int) -> None:
    """A job that ended without success leaves its re-scoring failed, in sight, with the reason."""
    _set_state(deps, rescore_id, "failed", f"it stopped: {reason}")


def _short(deps: Deps, session: Session) -> bool:
    budget = deps.models.budget
    return budget.stopped(session) or budget.warning(session) is not None


def _open_part(deps: Deps, rescore_id: int, ready: Ready | None) -> Part | None:
    """The next tickets, and the row says that it is running; None where there is nothing to do any more."""
    name = ready.model if ready else NO_MODEL
    with transaction(deps.engine) as session:
        row = session.get(Rescore, rescore_id, with_for_update=ROW_ONLY)
        if row is None:
            raise NotFound(f"there is no re-scoring {rescore_id}")
        if row.state in OVER:
            return None
        if row.model not in {"", name}:
            row.state, row.note, row.finished_at = "failed", _other_model(row.model, name), now()
            return None
        row.state, row.note, row.model = "running", "", name
        row.demonstration = ready is not None and ready.demonstration
        left = _left(rescore_id).order_by(RescoreResult.revision_id).limit(1 if row.demonstration else TICKETS)
        made = session.scalar(select(func.count(Run.revision_id.distinct())).where(_seconds_of(rescore_id))) or 0
        return Part(
            rescore_id,
            releases.load(session, row.context_version),
            session.scalars(left.with_only_columns(RescoreResult.revision_id)).all(),
            Seconds(int(row.tickets * SECOND_SHARE) - made),
        )


def _other_model(before: str, name: str) -> str:
    return f"it was begun with {before}, and {name} judges now: the two are not to be mixed. Begin it again"


def _left(rescore_id: int) -> Select[RescoreResult]:
    """The tickets that are neither judged nor given up."""
    result = RescoreResult
    return select(result).where(result.rescore_id == rescore_id, result.outcome.is_(None), result.note == "")


def _seconds_of(rescore_id: int) -> ColumnElement[bool]:
    return and_(Run.rescore_id == rescore_id, Run.purpose == "second", Run.replied)


def _judge(deps: Deps, part: Part, ready: Ready | None, revision_id: int) -> None:
    """One ticket. Raises CallFailed where the others had better not be asked about now either."""
    with ready.turns if ready else nullcontext():
        case = _open_case(deps, part, ready, revision_id)
        if case is None:
            return
        try:
            judgement = reviewing.judged(case, _panel(deps, part, case, ready) if ready else None)
        except CallFailed as failure:
            _note(deps, part, revision_id, _hopeless(deps, part, revision_id, failure, ready))
            return
    with transaction(deps.engine) as session:
        _record(session, part, revision_id, judgement, by_model=ready is not None)


def _open_case(deps: Deps, part: Part, ready: Ready | None, revision_id: int) -> Case | None:
    """None where nobody waits for it any more, or its texts are gone, which is noted."""
    with transaction(deps.engine) as session:
        if session.scalar(select(Rescore.state).where(Rescore.id == part.rescore_id)) != "running":
            return None
        case = cases.case_of(session, revision_id, part.context, ready)
    if case is None:
        _note(deps, part, revision_id, REMOVED)
    return case


def _hopeless(deps: Deps, part: Part, revision_id: int, failure: CallFailed, ready: Ready | None) -> str:
    """Why this one ticket cannot be judged. Raises the failure where that is not about the ticket."""
    if ready is None or failure.stops_all or isinstance(failure, NotSent):
        raise failure
    if failure.permanent:
        return f"the model's server rejected the question: {failure}"
    mine = Run.rescore_id == part.rescore_id
    if reviewing.unanswerable(deps, revision_id, ready, among=mine, most=MOST_UNANSWERED_EACH):
        return f"the model answers about other tickets, but not about this one: {failure}"
    raise failure


def _panel(deps: Deps, part: Part, case: Case, ready: Ready) -> Panel:
    """The same questions as of a review, so that the same answers serve."""
    strong = reviewing.strong_tier(deps, worker=ready)
    return Panel(
        ready.model,
        _asking(deps, part, case, ready),
        deps.vault.nonce,
        ready.token_limit,
        partial(_second_allowed, deps, part, case, ready),
        strong=None if strong is None else Strong(strong.model, _asking(deps, part, case, strong)),
    )


def _asking(deps: Deps, part: Part, case: Case, ready: Ready) -> Ask:
    """What is on record is only read: it would not have been paid for otherwise, and so is no saving."""
    store = RunStore(
        deps.engine,
        revision_id=case.revision_id,
        context_version=case.context.version,
        today=lambda: now().date(),
        demonstration=ready.demonstration,
        rescore_id=part.rescore_id,
    )

    def ask(question: Question) -> Reply:
        if (known := store.look(question)) is not None:
            return known
        _leave_the_rest(deps)
        return ready.asking.ask(question, store).reply

    return ask


def _leave_the_rest(deps: Deps) -> None:
    """Raises OverBudget where what is left of today's budget is for tickets that come in."""
    with transaction(deps.engine) as session:
        today = deps.models.budget.warning(session)
    if today is not None:
        raise OverBudget(
            f"four fifths of today's budget are spent, and the rest is for tickets that come in; "
            f"it goes on by itself {today.again}"
        )


def _second_allowed(deps: Deps, part: Part, case: Case, ready: Ready) -> bool:
    """True within the share that reviews keep to, of this re-scoring's tickets; one on record costs nothing.

    Not where somebody else had asked the first time and not the second: that is the verdict that this version gave.
    """
    about = select(Run.id).where(
        Run.revision_id == case.revision_id, Run.agent_hash == case.context.agent_hash("qc"), Run.model == ready.model
    )
    recorded = about.where(Run.purpose == "second", Run.reply.is_not(None)).limit(1)
    asked_first = about.where(Run.purpose == "review", Run.rescore_id == part.rescore_id, Run.replied).limit(1)
    with transaction(deps.engine) as session:
        if session.scalar(recorded) is not None:
            return True
        mine = session.scalar(asked_first) is not None
    return mine and part.seconds.take()


def _record(session: Session, part: Part, revision_id: int, judgement: Judgement, *, by_model: bool) -> None:
    """Whoever comes second finds it there."""
    key = (RescoreResult.rescore_id == part.rescore_id, RescoreResult.revision_id == revision_id)
    verdict_id = session.scalars(select(RescoreResult.verdict_id).where(*key)).one()
    columns = (Finding.criterion, Finding.text_hash, Finding.kind, Finding.result)
    rows = session.execute(select(*columns).where(Finding.verdict_id == verdict_id).order_by(Finding.id))
    before = [Before(*row) for row in rows]
    found = comparing.compare(before, judgement, part.context.rubric, by_model=by_model)
    session.execute(
        update(RescoreResult)
        .where(*key, RescoreResult.outcome.is_(None))
        .values(
            outcome=judgement.verdict.outcome,
            score=judgement.verdict.score,
            comparison=comparing.document(found),
            moved=bool(found.moves),
        )
    )


def _note(deps: Deps, part: Part, revision_id: int, note: str) -> None:
    """This ticket is given up; the others go on."""
    mine = (RescoreResult.rescore_id == part.rescore_id, RescoreResult.revision_id == revision_id)
    with transaction(deps.engine) as session:
        session.execute(update(RescoreResult).where(*mine, RescoreResult.outcome.is_(None)).values(note=note))


def _go_on(deps: Deps, rescore_id: int) -> None:
    """A job of its own for what is left, behind everything that waits by now."""
    with transaction(deps.engine) as session:
        row = session.get_one(Rescore, rescore_id, with_for_update=ROW_ONLY)
        if row.state != "running":
            return
        if session.scalar(_left(rescore_id).with_only_columns(RescoreResult.revision_id).limit(1)) is not None:
            ask_for(session, rescore_id)
            return
        row.state, row.finished_at = "done", now()
    log.info("rescore.done", rescore_id=rescore_id)


def _call_failed(deps: Deps, rescore_id: int, failure: CallFailed, ready: Ready | None) -> None:
    """Nothing is guessed where the model did not answer: it waits, or fails where that has cost enough."""
    if failure.stops_all and ready is not None:
        deps.models.failed(failure, asked=ready)
        return _set_state(deps, rescore_id, "waiting", "the model cannot be used; see the banner")
    if isinstance(failure, OverBudget):
        return _set_state(deps, rescore_id, "waiting", str(failure))
    if _unanswered(deps, rescore_id) >= MOST_UNANSWERED:
        note = f"the model did not answer time and again: {failure}. What it did answer is not paid again"
        return _set_state(deps, rescore_id, "failed", note)
    return _set_state(
        deps, rescore_id, "waiting", f"the model did not answer; tried again in a minute ({failure.code})"
    )


def _unanswered(deps: Deps, rescore_id: int) -> int:
    failed = select(func.count()).where(Run.rescore_id == rescore_id, ~Run.replied, Run.outcome != DUPLICATE)
    with transaction(deps.engine) as session:
        return session.scalar(failed) or 0


def _set_state(deps: Deps, rescore_id: int, state: str, note: str) -> None:
    """Not where it is over already: it may have been cancelled, or another worker was quicker."""
    over = {"finished_at": now()} if state == "failed" else {}
    changed = update(Rescore).where(Rescore.id == rescore_id, Rescore.state.in_(("waiting", "running")))
    with transaction(deps.engine) as session:
        session.execute(changed.values(state=state, note=note, **over))
