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
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import structlog
from sqlalchemy import delete, select, update

from agents.gateway import CallFailed
from agents.judge import Panel
from agents.prices import worst
from app import cases, reviewing
from app.batches import FREE, LIFETIME, MOST_TRIES, hand_over, keep_aside, live_instead, lose, sent
from app.budget import OverBudget
from app.clock import now
from app.db import transaction
from app.jobs import transient
from app.locks import Lock, take
from app.queue import enqueue
from app.runs import RunStore
from app.tables import Batch, BatchRequest, BatchTicket, Reservation, Revision, Run, Ticket

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from agents.message_batches import MessageBatches
    from agents.question import Question, Reply
    from app.deps import Deps
    from app.judgements import Case
    from app.models import Ready

log = structlog.get_logger()

MOST_ASKED = 10_000
MOST_BYTES = 64_000_000  # of one batch, in memory a few times while it is sent; the vendor takes four times that
PAGE = 200  # tickets read at a time
LIVE_AT_ONCE = 1_000  # tickets handed over at a time
NO_BATCHES = "the model's server takes no batches, so tickets are judged one by one"
CANCELLED = "it was cancelled before it was sent"
NO_ANSWER = "its batch brought no answer, so it is asked on its own"


_Prefix = tuple[str, tuple[str, ...]]


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

    def cut(self, keys: Sequence[str]) -> None:
        """Only these questions are asked."""
        self.asked = {key: self.asked[key] for key in keys}
        self.waits = {revision: key for revision, key in self.waits.items() if key in self.asked}


def submit(deps: Deps) -> None:
    """What waits for a batch is in one, or with the job that judges it live; where more waits, there is a job again."""
    ready = deps.models.ready()
    if ready is None and deps.models.choice().judged_by_model:
        return
    api = ready.asking.batches if ready else None
    with transaction(deps.engine) as session:
        if ready and deps.models.budget.stopped(session):
            return
        why = NO_BATCHES if ready is None or api is None else live_instead(session, model=ready.model, moment=now())
        if why:
            _all_live(session, why)
            return
    assert ready is not None  # noqa: S101  else there was a reason above
    assert api is not None  # noqa: S101
    round_, more = _gather(deps, ready, api)
    try:
        whole, reservation = _set_aside(deps, round_)
    except OverBudget as refusal:
        _say_free(deps, str(refusal))
        return
    claimed = _claim(deps, ready, round_, reservation=reservation)
    well = claimed is None or _send(deps, ready, api, claimed)
    if more and whole and well:  # else the next minute is soon enough
        with transaction(deps.engine) as session:
            enqueue(session, "batch_submit", once="batch_submit")


def _all_live(session: Session, why: str) -> None:
    found = select(BatchTicket.revision_id).where(FREE).order_by(BatchTicket.revision_id)
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
    found = select(BatchTicket).where(FREE, BatchTicket.revision_id > after)
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
            case = cases.read_case(session, revision_id, ready)
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
        if (known := store.look(question)) is not None:
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


def _set_aside(deps: Deps, round_: _Round) -> tuple[bool, int | None]:
    """What the round may cost at the most is set aside of today's budget, by the number; None: there is no budget.

    With the calls that fill the vendor's cache before it, which are paid like any other.

    The round is cut to what there is room for: False. Raises OverBudget where that is nothing.
    """
    budget = deps.models.budget
    if budget.limit is None or not round_.asked:
        return True, None
    with transaction(deps.engine) as session:
        room = budget.room(session)
    fits, total = list[str](), Decimal(0)
    primed = set[_Prefix]()
    for key, one in round_.asked.items():
        needed = _at_most(one.question, first=_prefix(one.question) not in primed)
        primed.add(_prefix(one.question))
        if fits and total + needed > room:
            break
        fits.append(key)
        total += needed
    whole = len(fits) == len(round_.asked)
    round_.cut(fits)
    return whole, budget.reserve(total)


def _at_most(question: Question, *, first: bool) -> Decimal:
    """US$ for one question of a batch, with the call before it where it is the first of its prefix."""
    today = now().date()
    before = worst(replace(question, turns=(), max_tokens=1), on=today) if first else None
    return (worst(question, on=today, batch=True) or Decimal(0)) + (before or Decimal(0))


def _prefix(question: Question) -> _Prefix:
    """What its calls have in common, in the vendor's cache."""
    return question.schema_hash, question.system


def _say_free(deps: Deps, note: str) -> None:
    """Who waits for the next batch says why there is none."""
    waiting = select(Revision.ticket_id).join(BatchTicket, BatchTicket.revision_id == Revision.id).where(FREE)
    changed = update(Ticket).where(Ticket.id.in_(waiting), Ticket.review_note != note)
    with transaction(deps.engine) as session:
        session.execute(changed.values(review_note=note))


def _claim(deps: Deps, ready: Ready, round_: _Round, *, reservation: int | None) -> _Claimed | None:
    """The round's rows; None where there is nothing left to ask: others may have been quicker since it was gathered."""
    with transaction(deps.engine) as session:
        take(session, Lock.BATCHES)
        still = FREE, BatchTicket.revision_id.in_(round_.waits)
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
        batch = _record(session, ready, asked, reservation=reservation) if asked else None
        if batch is None:
            session.execute(delete(Reservation).where(Reservation.id == reservation))
        else:
            keep_aside(session, batch, until=now() + LIFETIME)
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


def _record(session: Session, ready: Ready, asked: Sequence[_Asked], *, reservation: int | None) -> Batch:
    batch = Batch(model=ready.model, requests=len(asked), reservation_id=reservation)
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
    if not _goes_out(deps, claimed.batch_id):
        return False
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


def _goes_out(deps: Deps, batch_id: int) -> bool:
    """The time to look for it begins now: priming may take minutes. False where it was given up or cancelled meanwhile.

    Whoever cancels it later finds it sent.
    """
    mine = update(Batch).where(Batch.id == batch_id, Batch.state == "submitting", Batch.cancel_asked_at.is_(None))
    with transaction(deps.engine) as session:
        if session.scalar(mine.values(created_at=now()).returning(Batch.id)) is not None:
            return True
    with transaction(deps.engine) as session:
        batch = session.get_one(Batch, batch_id)
        if batch.state == "submitting":
            lose(session, batch, CANCELLED)
    return False


def _prime(deps: Deps, ready: Ready, claimed: _Claimed) -> None:
    """One call for each prefix; the ledger counts it to the batch."""
    prefixes = {_prefix(one.question): one for one in claimed.asked}
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
        tries = MOST_TRIES if refused else 0
        lose(session, session.get_one(Batch, batch_id), f"it was not sent: {failure}", tries=tries)
    return False
