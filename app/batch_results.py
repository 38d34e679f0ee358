"""The job `batch_collect`, each minute: what became of the batches under way. And a person's word to cancel one.

1. A batch whose sending got no answer is looked for among the vendor's: the API takes no key of ours, so what was made
   at that time with as many requests may be it, and its results say. Only where nothing may be it, it never arrived.
2. A batch that has ended: its results are kept a few at a time, each once, however often this starts anew. They come
   in any order.
3. T: the batch is over and its tickets free for the next round. Who got no answer has one try less.
"""

from __future__ import annotations

from datetime import UTC, timedelta
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import exists, func, select, update

from agents.gateway import CallFailed
from agents.prices import cost
from app import audit, ledger, runs
from app.batches import FORGOTTEN, LIFETIME, MOST_TRIES, OPEN, free, lose, sent
from app.clock import now
from app.db import transaction
from app.errors import Conflict, NotFound
from app.jobs import transient
from app.locks import ROW_ONLY, Lock, take
from app.queue import enqueue
from app.tables import Batch, BatchRequest, BatchTicket

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from agents.message_batches import BatchResult, BatchState, MessageBatches
    from app.audit import Actor
    from app.deps import Deps

log = structlog.get_logger()

KEPT_AT_ONCE = 200  # results a transaction
CLOCKS_APART = timedelta(minutes=5)  # the vendor's and ours
UNDER_WAY = timedelta(minutes=10)  # a batch may take as long to be sent; until then nobody looks for it
NEVER_ARRIVED = "its sending was interrupted, and the vendor has not got it"
NOT_KEPT = "what became of it could not be recorded, and the log says why; tried again each minute"
GIVEN_UP = "its time is over, and what became of it could not be recorded; the log says why"
MAY_BE_THERE = "its sending was interrupted; whether the vendor has it shows when what was sent then has ended"


def collect(deps: Deps) -> None:
    """Everything that the vendor has ready is here; tickets that wait for the next batch have a job."""
    ready = deps.models.ready()
    api = ready.asking.batches if ready else None
    with transaction(deps.engine) as session:
        under_way = session.scalars(select(Batch).where(Batch.state.in_(OPEN)).order_by(Batch.id)).all()
    for batch in under_way:
        try:
            _follow(deps, api, batch)
            if batch.note == NOT_KEPT:
                _note(deps, batch, "")
        except CallFailed as failure:
            log.warning("batch.not_looked_at", batch=batch.id, code=failure.code, message=str(failure))
            if ready is not None and failure.stops_all:
                deps.models.failed(failure, asked=ready)
                break
        except Exception as error:
            if transient(error):
                raise
            log.exception("batch.not_collected", batch=batch.id)
            _not_kept(deps, batch)
    with transaction(deps.engine) as session:
        if session.scalar(select(exists().where(BatchTicket.batch_id.is_(None)))):
            enqueue(session, "batch_submit", once="batch_submit")


def _not_kept(deps: Deps, batch: Batch) -> None:
    """It says so; and is given up where it failed the last time too and its day is over, though it may be paid.

    Whatever comes of that, the others are not to wait for it.
    """
    try:
        if batch.note == NOT_KEPT and _too_late(batch):
            _lost(deps, batch, GIVEN_UP, tries=MOST_TRIES)
        else:
            _note(deps, batch, NOT_KEPT)
    except Exception as error:
        if transient(error):
            raise
        log.exception("batch.not_given_up", batch=batch.id)


def _note(deps: Deps, batch: Batch, note: str) -> None:
    """What people read of it, unless it is over or says something else by now."""
    same = (Batch.id == batch.id, Batch.state.in_(OPEN), Batch.note == batch.note)
    with transaction(deps.engine) as session:
        session.execute(update(Batch).where(*same).values(note=note))


def cancel(session: Session, batch_id: int, *, actor: Actor) -> None:
    """The vendor is told to stop; what is answered by then counts, the other tickets are judged one by one."""
    batch = session.get(Batch, batch_id, with_for_update=ROW_ONLY)
    if batch is None:
        raise NotFound(f"there is no batch {batch_id}")
    if batch.state not in OPEN:
        raise Conflict(f"batch {batch_id} is over; there is nothing left to cancel")
    if batch.cancel_asked_at is not None:
        return
    batch.cancel_asked_at = now()
    audit.record(session, actor, action="batch.cancelled", subject=f"batch:{batch_id}")
    enqueue(session, "batch_collect", once="batch_collect")


def _follow(deps: Deps, api: MessageBatches | None, batch: Batch) -> None:
    """Raises CallFailed where the vendor does not say, unless it is too late for that to matter."""
    try:
        if api is not None:
            return _find(deps, api, batch) if batch.vendor_id is None else _look(deps, api, batch, batch.vendor_id)
        why = "no model that takes batches can be reached"
    except CallFailed as failure:
        if not _too_late(batch):
            raise
        why = str(failure)
    if _too_late(batch):
        _lost(deps, batch, f"its time is over, and the vendor does not say what became of it: {why}", tries=MOST_TRIES)
    return None


def _too_late(batch: Batch) -> bool:
    return now() >= (batch.expires_at or batch.created_at + LIFETIME) + FORGOTTEN


def _look(deps: Deps, api: MessageBatches, batch: Batch, vendor_id: str) -> None:
    state = api.look(vendor_id)
    if state.ended:
        _keep_all(deps, batch, api.results(state.id))
        with transaction(deps.engine) as session:
            _end(session, batch.id)
    elif batch.cancel_asked_at is not None:
        api.cancel(state.id)


def _find(deps: Deps, api: MessageBatches, batch: Batch) -> None:
    """The vendor has it under this id, may have it, or has not got it."""
    if now() < batch.created_at + UNDER_WAY:
        return
    candidates = _candidates(deps, api, batch)
    ended = [one for one in candidates if one.ended]
    mine = next((one for one in ended if _is_mine(deps, batch, api.results(one.id))), None)
    if mine is not None:
        with transaction(deps.engine) as session:
            sent(session, batch.id, mine)
        log.info("batch.found_again", batch=batch.id)
    elif len(ended) == len(candidates):
        _lost(deps, batch, NEVER_ARRIVED, tries=1)  # a server that takes none must not keep tickets for ever
    else:
        with transaction(deps.engine) as session:
            session.get_one(Batch, batch.id).note = MAY_BE_THERE


def _candidates(deps: Deps, api: MessageBatches, batch: Batch) -> list[BatchState]:
    """The vendor's batches of that time and size that are none of our others."""
    with transaction(deps.engine) as session:
        known = set(session.scalars(select(Batch.vendor_id).where(Batch.vendor_id.is_not(None))))
    latest = batch.created_at + UNDER_WAY + CLOCKS_APART
    return [
        one
        for one in api.recent(since=batch.created_at - CLOCKS_APART)
        if one.created_at <= latest and one.total == batch.requests and one.id not in known
    ]


def _is_mine(deps: Deps, batch: Batch, results: Iterator[BatchResult]) -> bool:
    first = next((one for one in results if one.custom_id), None)
    if first is None:
        return False
    with transaction(deps.engine) as session:
        return session.get(BatchRequest, (batch.id, first.custom_id)) is not None


def _lost(deps: Deps, batch: Batch, note: str, *, tries: int) -> None:
    log.warning("batch.lost", batch=batch.id)
    with transaction(deps.engine) as session:
        lose(session, session.get_one(Batch, batch.id), note, tries=tries)


def _keep_all(deps: Deps, batch: Batch, results: Iterator[BatchResult]) -> None:
    """A line that does not say whose it is leaves its request without an answer."""
    while some := list(islice(results, KEPT_AT_ONCE)):
        if nobodys := sum(not one.custom_id for one in some):
            log.warning("batch.lines_not_read", batch=batch.id, lines=nobodys)
        with transaction(deps.engine) as session:
            _keep(session, batch, some)


def _keep(session: Session, batch: Batch, results: Iterable[BatchResult]) -> None:
    """What is kept already, and what is not ours, changes nothing. The prices are those of the day it was sent."""
    sent_on = (batch.sent_at or batch.created_at).astimezone(UTC).date()
    booked: dict[str, list[Decimal | None]] = {}
    told = {result.custom_id: result for result in results}
    mine = select(BatchRequest).where(BatchRequest.batch_id == batch.id, BatchRequest.reply_key.in_(told))
    for request in session.scalars(mine.where(BatchRequest.state == "asked").with_for_update()):
        result = told[request.reply_key]
        request.state, request.note = "refused" if result.final else result.kind, result.problem
        if result.reply is not None:
            price = cost(batch.model, result.reply.usage, on=sent_on, batch=True, geo=result.reply.geo)
            if runs.record(session, _columns(request, batch), result.reply, cost_usd=price).paid:
                booked.setdefault(request.agent, []).append(price)
    for agent in sorted(booked):  # at the end, because others wait for these rows
        total = sum((price for price in booked[agent] if price is not None), Decimal(0))
        ledger.book(session, agent=agent, cost_usd=total, calls=len(booked[agent]))


def _columns(request: BatchRequest, batch: Batch) -> dict[str, object]:
    """Of a run, what says what was asked."""
    names = ("reply_key", "revision_id", "context_version", "agent", "purpose", "repetition", "agent_hash")
    return {"model": batch.model, "batch_id": batch.id, **{name: getattr(request, name) for name in names}}


def _end(session: Session, batch_id: int) -> None:
    """The batch is over, once: whoever comes second finds it so."""
    take(session, Lock.BATCHES)
    batch = session.get_one(Batch, batch_id, with_for_update=ROW_ONLY)
    if batch.state not in OPEN:
        return
    mine = BatchRequest.batch_id == batch_id
    left_out = update(BatchRequest).where(mine, BatchRequest.state == "asked")
    session.execute(left_out.values(state="expired", note="the results say nothing of it"))
    found = select(BatchRequest.state, func.count()).where(mine).group_by(BatchRequest.state)
    counts: dict[str, int] = {state: count for state, count in session.execute(found)}  # noqa: C416  rows are no pairs to mypy
    batch.state, batch.note, batch.ended_at = "ended", "", now()
    batch.succeeded, batch.canceled = counts.get("succeeded", 0), counts.get("canceled", 0)
    batch.errored, batch.expired = counts.get("errored", 0) + counts.get("refused", 0), counts.get("expired", 0)
    _one_try_less(session, batch_id)
    free(session, batch)
    enqueue(session, "batch_submit", once="batch_submit")
    log.info("batch.ended", batch=batch_id, **counts)


def _one_try_less(session: Session, batch_id: int) -> None:
    """Asking again may help after an error or where time ran out; not where the request or a person was the reason."""
    tickets = update(BatchTicket).where(BatchTicket.batch_id == batch_id)

    def asked(*states: str) -> ColumnElement[bool]:
        keys = select(BatchRequest.reply_key).where(BatchRequest.batch_id == batch_id, BatchRequest.state.in_(states))
        return BatchTicket.reply_key.in_(keys)

    session.execute(tickets.where(asked("errored", "expired")).values(tries=BatchTicket.tries + 1))
    session.execute(tickets.where(asked("refused", "canceled")).values(tries=MOST_TRIES))
