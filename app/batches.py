"""Judging by Message Batches: half the price, and the answers come within a day.

A ticket that is judged by batch has a row in `batch_tickets`, and no other job takes it up while it has. The job
`batch_submit` makes one round; `batch_collect` (app/batch_results.py) brings the answers, and the tickets are free for
the next round.
1. For each free ticket the judge is asked what it would ask of the model now. First questions, triage's and then
   qc's, are put together. What comes after them, a second run, a repair or the verdict itself, is for the job that
   judges live: the ticket is handed over to it, and it finds every reply that came by batch.
2. T: the batch and its requests are rows, before anything is sent. A question that is under way is not asked again.
3. The vendor's cache is filled for an hour, one call for each prefix.
4. The batch is sent. T: its id is stored. Without an answer nobody knows: `batch_collect` finds out, and nothing is
   sent twice meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from agents.gateway import CallFailed
from agents.judge import Panel
from app import reviewing
from app.clock import now
from app.db import transaction
from app.intake.recording import NEXT_BATCH
from app.jobs import transient
from app.queries import batches as queries
from app.queue import enqueue
from app.runs import RunStore
from app.tables import Batch, BatchRequest, BatchTicket, Connection, Revision, Run, Ticket

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from agents.message_batches import BatchState, MessageBatches
    from agents.question import Question, Reply
    from app.deps import Deps
    from app.judgements import Case
    from app.models import Ready

log = structlog.get_logger()

BATCH_LOCK = 7_133_703  # arbitrary; who puts a batch together and who ends one wait for each other
MOST_TRIES = 2  # batches that may bring a ticket no answer; then it is asked on its own
MOST_ASKED = 10_000
MOST_BYTES = (
    64_000_000  # of one batch, which is in memory a few times while it is sent; the vendor takes four times that
)
PAGE = 200  # tickets read at a time
LIVE_AT_ONCE = 1_000  # tickets handed over at a time
LOOKED_BACK = timedelta(days=7)  # at what batches cost; then they are tried again
NO_BATCHES = "the model's server takes no batches, so tickets are judged one by one"
NO_ANSWER = "its batch brought no answer, so it is asked on its own"


class _Unanswered(Exception):  # noqa: N818  a signal
    """The judge cannot go on without this answer; None: it wants what is not asked by batch."""

    def __init__(self, question: Question | None) -> None:
        super().__init__()
        self.question = question


class _Asked(NamedTuple):
    question: Question
    case: Case


@dataclass
class _Round:
    """What the next batch asks, by reply key, and which of it each revision waits for."""

    asked: dict[str, _Asked] = field(default_factory=dict)
    waits: dict[int, str] = field(default_factory=dict)
    size: int = 0

    def add(self, asked: _Asked, *, size: int) -> bool:
        """False where it is full. Tickets that read alike share one question."""
        key = asked.question.key
        if key not in self.asked:
            if len(self.asked) == MOST_ASKED or self.size + size > MOST_BYTES:
                return False
            self.asked[key] = asked
            self.size += size
        self.waits[asked.case.revision_id] = key
        return True


def submit(deps: Deps) -> None:
    """What waits for a batch is in one, or with the job that judges it live; where more waits, there is a job again."""
    ready = deps.models.ready()
    if ready is None and deps.models.choice().judged_by_model:
        return
    api = ready.asking.batches if ready else None
    with transaction(deps.engine) as session:
        why = NO_BATCHES if ready is None or api is None else live_instead(session, model=ready.model, moment=now())
        if why:
            _all_live(session, why)
            return
    assert ready is not None  # noqa: S101  else there was a reason above
    assert api is not None  # noqa: S101
    round_, more = _gather(deps, ready, api)
    claimed = _claim(deps, ready, round_)
    well = claimed is None or _send(deps, ready, api, claimed)
    if more and well:  # else the next minute is soon enough
        with transaction(deps.engine) as session:
            enqueue(session, "batch_submit", once="batch_submit")


def add(session: Session, *, source: str = "") -> int:
    """Tickets that wait for their review wait for the next batch instead; how many they are.

    Their jobs, where they have some, find that they are not theirs any more.
    """
    waiting = (Ticket.review_state == "waiting_model", Ticket.revision_id.is_not(None))
    named = [Connection.name == source] if source else []
    found = select(Ticket.revision_id).join(Connection, Connection.id == Ticket.connection_id).where(*waiting, *named)
    made = insert(BatchTicket).from_select(["revision_id"], found).on_conflict_do_nothing()
    taken = session.scalars(made.returning(BatchTicket.revision_id)).all()
    changed = update(Ticket).where(Ticket.revision_id.in_(select(BatchTicket.revision_id).where(_FREE)), *waiting)
    session.execute(changed.values(review_note=NEXT_BATCH))
    enqueue(session, "batch_submit", once="batch_submit")
    return len(taken)


_FREE = BatchTicket.batch_id.is_(None)


def live_instead(session: Session, *, model: str, moment: datetime) -> str:
    """Why batches are not used although they could be, in words; empty where they are."""
    seen = queries.measured(session, model=model, since=moment - LOOKED_BACK, today=moment.date())
    if seen is None or not seen.dearer:
        return ""
    return (
        f"batches are dearer than live calls: those of the last {LOOKED_BACK.days} days read {seen.read_share:.0%} of "
        f"their repeated text from the vendor's cache and cost ${seen.cost:.4f}, live calls would have cost "
        f"${seen.live_cost:.4f}. Tickets are judged one by one meanwhile."
    )


def hand_over(session: Session, notes: Mapping[int, str]) -> None:
    """These revisions are judged by batch no longer; where they still need it, a job of their own goes on."""
    session.execute(delete(BatchTicket).where(BatchTicket.revision_id.in_(notes)))
    found = (
        select(Ticket)
        .join(Revision, Revision.ticket_id == Ticket.id)
        .where(Revision.id.in_(notes), Ticket.revision_id == Revision.id, Ticket.review_state != "done")
    )
    for ticket in session.scalars(found.order_by(Ticket.id)):
        ticket.review_note = notes[ticket.revision_id or 0]
        reviewing.enqueue_for(session, ticket)


def free(session: Session, batch: Batch) -> None:
    """The tickets of this batch wait for the next one."""
    mine = BatchTicket.batch_id == batch.id
    session.execute(update(BatchTicket).where(mine).values(batch_id=None, reply_key=None))


def lose(session: Session, batch: Batch, note: str, *, last_try: bool = False) -> None:
    """Nothing of this batch will come: its requests are gone, and its tickets free."""
    session.execute(select(func.pg_advisory_xact_lock(BATCH_LOCK)))
    batch.state, batch.note, batch.ended_at = "lost", note, now()
    session.execute(delete(BatchRequest).where(BatchRequest.batch_id == batch.id))
    if last_try:
        session.execute(update(BatchTicket).where(BatchTicket.batch_id == batch.id).values(tries=MOST_TRIES))
        enqueue(session, "batch_submit", once="batch_submit")
    free(session, batch)


def _all_live(session: Session, why: str) -> None:
    found = select(BatchTicket.revision_id).where(_FREE).order_by(BatchTicket.revision_id)
    revisions = list(session.scalars(found.limit(LIVE_AT_ONCE)))
    hand_over(session, dict.fromkeys(revisions, why))
    if len(revisions) == LIVE_AT_ONCE:
        enqueue(session, "batch_submit", once="batch_submit")


def _gather(deps: Deps, ready: Ready, api: MessageBatches) -> tuple[_Round, bool]:
    """The next batch's questions; True where there is more than it can hold. Who asks none is handed over."""
    round_, after = _Round(), 0
    while page := _page(deps, after=after):
        live: dict[int, str] = {}
        for ticket in page:
            after = ticket.revision_id
            asked = None if ticket.tries >= MOST_TRIES else _next(deps, ready, after)
            if asked is None:
                live[after] = NO_ANSWER if ticket.tries >= MOST_TRIES else ""
            elif not round_.add(asked, size=api.size(asked.question)):
                _hand_over(deps, live)
                return round_, True
        _hand_over(deps, live)
    return round_, False


def _page(deps: Deps, *, after: int) -> Sequence[BatchTicket]:
    found = select(BatchTicket).where(_FREE, BatchTicket.revision_id > after)
    with transaction(deps.engine) as session:
        return session.scalars(found.order_by(BatchTicket.revision_id).limit(PAGE)).all()


def _hand_over(deps: Deps, notes: Mapping[int, str]) -> None:
    if notes:
        with transaction(deps.engine) as session:
            hand_over(session, notes)


def _next(deps: Deps, ready: Ready, revision_id: int) -> _Asked | None:
    """The first question that this revision still needs; None where it is not for a batch to go on with it."""
    try:
        with transaction(deps.engine) as session:
            case = reviewing.read_case(session, revision_id, ready)
        question = None if case is None else _question(deps, ready, case)
    except Exception as error:
        if transient(error):
            raise
        log.exception("batch.ticket_failed", revision_id=revision_id)  # its own job fails alike, and parks it
        return None
    return None if case is None or question is None else _Asked(question, case)


def _question(deps: Deps, ready: Ready, case: Case) -> Question | None:
    store = reviewing.store_for(deps, case, ready)

    def ask(question: Question) -> Reply:
        if (known := store.find(question)) is not None:
            return known
        raise _Unanswered(question if question.purpose == "review" else None)

    panel = Panel(ready.model, ask, deps.vault.nonce, ready.token_limit, _no_second)
    try:
        if case.revision.ticket.finished:
            reviewing.judged(case, panel)
        else:
            reviewing.triaged(case, panel)
    except _Unanswered as signal:
        return signal.question
    return None


def _no_second() -> NoReturn:
    """Who deserves a second run is handed over."""
    raise _Unanswered(None)


class _Claimed(NamedTuple):
    batch_id: int
    asked: tuple[_Asked, ...]


def _claim(deps: Deps, ready: Ready, round_: _Round) -> _Claimed | None:
    """The round's rows; None where there is nothing left to ask: others may have been quicker since it was gathered."""
    with transaction(deps.engine) as session:
        session.execute(select(func.pg_advisory_xact_lock(BATCH_LOCK)))
        still = _FREE, BatchTicket.revision_id.in_(round_.waits)
        answered = set(
            session.scalars(select(Run.reply_key).where(Run.reply_key.in_(round_.asked), Run.reply.is_not(None)))
        )
        tickets = [
            ticket
            for ticket in session.scalars(select(BatchTicket).where(*still).with_for_update())
            if round_.waits[ticket.revision_id] not in answered
        ]
        under_way = _under_way(session, round_.asked)
        keys = dict.fromkeys(round_.waits[ticket.revision_id] for ticket in tickets)
        asked = tuple(round_.asked[key] for key in keys if key not in under_way)
        batch = _record(session, ready, asked) if asked else None
        for ticket in tickets:
            ticket.reply_key = round_.waits[ticket.revision_id]
            ticket.batch_id = under_way.get(ticket.reply_key, batch.id if batch else None)
        _say(session, tickets)
        return None if batch is None else _Claimed(batch.id, asked)


def _under_way(session: Session, keys: Iterable[str]) -> dict[str, int]:
    """Which of these questions are in a batch that has not ended."""
    found = select(BatchRequest.reply_key, BatchRequest.batch_id)
    rows = session.execute(found.where(BatchRequest.reply_key.in_(keys), BatchRequest.state == "asked"))
    return {row.reply_key: row.batch_id for row in rows}


def _record(session: Session, ready: Ready, asked: Sequence[_Asked]) -> Batch:
    batch = Batch(model=ready.model, requests=len(asked))
    session.add(batch)
    session.flush()
    session.add_all(
        BatchRequest(
            batch_id=batch.id,
            reply_key=question.key,
            revision_id=case.revision_id,
            context_version=case.context.version,
            agent=question.agent,
            purpose=question.purpose,
            repetition=question.repetition,
            agent_hash=question.agent_hash,
        )
        for question, case in asked
    )
    return batch


def _say(session: Session, tickets: Iterable[BatchTicket]) -> None:
    """Their tickets' rows say which batch they wait for, and since when."""
    by_batch: dict[int, list[int]] = {}
    for ticket in tickets:
        by_batch.setdefault(ticket.batch_id or 0, []).append(ticket.revision_id)
    for batch_id, revisions in by_batch.items():
        sent = f"{session.get_one(Batch, batch_id).created_at:%Y-%m-%d %H:%M} UTC"
        note = f"waiting for batch {batch_id} of {sent}; most answer within an hour, all within a day"
        mine = select(Revision.ticket_id).where(Revision.id.in_(revisions))
        changed = update(Ticket).where(Ticket.id.in_(mine), Ticket.revision_id.in_(revisions))
        session.execute(changed.values(review_note=note))


def _send(deps: Deps, ready: Ready, api: MessageBatches, claimed: _Claimed) -> bool:
    """True where the vendor has it for sure."""
    try:
        _prime(deps, ready, claimed)
    except CallFailed as failure:
        return _not_sent(deps, ready, claimed.batch_id, failure)
    try:
        state = api.submit([one.question for one in claimed.asked])
    except CallFailed as failure:
        if failure.possibly_billed:
            log.warning("batch.sent_without_answer", batch=claimed.batch_id, code=failure.code)
            return False
        return _not_sent(deps, ready, claimed.batch_id, failure)
    with transaction(deps.engine) as session:
        wanted = sent(session, claimed.batch_id, state)
    log.info("batch.sent", batch=claimed.batch_id, requests=len(claimed.asked), wanted=wanted)
    if not wanted:
        api.cancel(state.id)
    return wanted


def sent(session: Session, batch_id: int, state: BatchState) -> bool:
    """The vendor has it, under this id; False where that took so long that it was given up meanwhile."""
    batch = session.get_one(Batch, batch_id, with_for_update=True)
    if batch.state == "lost":
        return False
    if batch.vendor_id is None:
        batch.state, batch.vendor_id, batch.note = "waiting", state.id, ""
        batch.sent_at, batch.expires_at = now(), state.expires_at
    return True


def _prime(deps: Deps, ready: Ready, claimed: _Claimed) -> None:
    """One call for each prefix; the ledger counts it to the batch."""
    prefixes = {(one.question.schema_hash, one.question.system): one for one in claimed.asked}
    for question, case in prefixes.values():
        store = RunStore(
            deps.engine,
            revision_id=None,
            context_version=case.context.version,
            today=lambda: now().date(),
            demonstration=False,
            batch_id=claimed.batch_id,
        )
        asked = replace(question, purpose="prime", revision_hash="", repetition=claimed.batch_id)
        if (reply := ready.asking.prime(asked, store, ttl="1h")) is not None:
            store.keep(asked, reply)


def _not_sent(deps: Deps, ready: Ready, batch_id: int, failure: CallFailed) -> bool:
    """False: the vendor has not taken it. The next minute tries again, or its tickets are asked on their own."""
    log.warning("batch.not_sent", batch=batch_id, code=failure.code, message=str(failure))
    if failure.stops_all:
        deps.models.failed(failure, asked=ready)
    with transaction(deps.engine) as session:
        refused = failure.permanent and not failure.stops_all
        lose(session, session.get_one(Batch, batch_id), f"it was not sent: {failure}", last_try=refused)
    return False
