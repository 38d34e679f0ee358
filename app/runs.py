"""Replies and attempts in the `runs` table: a Store for one revision, or for a question about none, in the service."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import structlog
from sqlalchemy import Engine, and_, bindparam, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import TimeoutError as PoolTimeout

from agents.prices import cost
from agents.question import Outcome, Question, Reply, Usage
from app import ledger
from app.clock import now
from app.db import autocommit, transaction
from app.errors import DatabaseUnavailable
from app.queue import enqueue
from app.tables import Release, Reuse, Run, bound, table_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    from sqlalchemy import ColumnElement, Connection, Row
    from sqlalchemy.orm import Session

    from agents.gateway import CallFailed

log = structlog.get_logger()

DUPLICATE = "duplicate"  # outcome of a paid reply that another worker had recorded first
PROBE = "probe"  # agent and purpose of the call that finds out whether a key works again
SHADOW_EVERY = 100  # one reused first answer in so many is asked for again in the shadow
KEEP_AGAIN = (
    1.0,
    2.0,
    4.0,
    8.0,
    15.0,
    30.0,
)  # seconds: a database that restarts is back by then, and the reply is paid


class RunStore:
    """Keeps each reply in a transaction of its own, before anything may fail on it."""

    def __init__(  # noqa: PLR0913  what every run pins
        self,
        engine: Engine,
        *,
        revision_id: int | None,
        context_version: str,
        today: Callable[[], date],
        demonstration: bool,
        batch_id: int | None = None,
        rescore_id: int | None = None,
    ) -> None:
        self._engine = engine
        self._pinned = {
            "revision_id": revision_id,
            "context_version": context_version,
            "batch_id": batch_id,
            "rescore_id": rescore_id,
        }
        self._today = today
        self._demonstration = demonstration

    def look(self, question: Question) -> Reply | None:
        """What there is, by somebody who would not pay for it now."""
        with autocommit(self._engine) as connection:
            run = _found(connection, question.key)
        return None if run is None else _reply(run)

    def find(self, question: Question) -> Reply | None:
        """What was paid for another case and need not be paid again is on record as saved.

        Not what this case was asked before: a job that is tried again, or a batch that was sent for it, saves nothing.
        """
        with autocommit(self._engine) as connection:
            run = _found(connection, question.key)
        if run is None:
            return None
        if not self._own(run):
            with transaction(self._engine) as session:
                self._reused(session, question, run)
        return _reply(run)

    def _own(self, run: Row[Any]) -> bool:
        """It was asked about the same revision under the same context."""
        mine = self._pinned["revision_id"], self._pinned["context_version"]
        return (run.revision_id, run.context_version) == mine

    def _reused(self, session: Session, question: Question, run: Row[Any]) -> None:
        """Once for each case, however often its job is tried; one in SHADOW_EVERY is asked again in the shadow."""
        revision_id = self._pinned["revision_id"]
        if revision_id is None:
            return
        row = {
            "revision_id": revision_id,
            "context_version": self._pinned["context_version"],
            "reply_key": question.key,
            "agent": question.agent,
            "saved_usd": run.cost_usd,
        }
        made = insert(_REUSES).values(**row).on_conflict_do_nothing().returning(_REUSES.c.id)
        reuse_id = session.scalar(made)
        if reuse_id is not None and not self._demonstration and _drawn(question, int(revision_id)):
            enqueue(session, "shadow", reuse_id=reuse_id)

    def keep(self, question: Question, reply: Reply) -> Reply:
        """Recorded also where the database is away for a moment."""
        for seconds in KEEP_AGAIN:
            try:
                return self._keep(question, reply)
            except (DatabaseUnavailable, PoolTimeout):
                log.warning("model.reply_not_kept_yet", agent=question.agent, again_in_seconds=seconds)
                time.sleep(seconds)
        return self._keep(question, reply)

    def _keep(self, question: Question, reply: Reply) -> Reply:
        row = _row(self._asked(question), reply, cost_usd=self._cost(question.model, reply))
        with autocommit(self._engine) as connection:
            if connection.scalar(_KEEP_AND_BOOK, row) is not None:
                return reply
        with transaction(self._engine) as session:
            kept = _second(session, row, reply)
            if kept.paid:
                ledger.book(session, agent=question.agent, cost_usd=row["cost_usd"])
            return kept.reply

    def failed(self, question: Question, failure: CallFailed) -> None:
        row = {**self._asked(question), "replied": False, "outcome": failure.code, "cost_usd": None}
        with transaction(self._engine) as session:
            session.execute(insert(Run).values(**row))
        log.warning("model.attempt_failed", agent=question.agent, code=failure.code, message=str(failure))

    def _asked(self, question: Question) -> dict[str, Any]:
        return {
            **self._pinned,
            "reply_key": question.key,
            "agent": question.agent,
            "purpose": question.purpose,
            "repetition": question.repetition,
            "agent_hash": question.agent_hash,
            "model": question.model,
        }

    def _cost(self, model: str, reply: Reply) -> Decimal | None:
        return Decimal(0) if self._demonstration else cost(model, reply.usage, on=self._today(), geo=reply.geo)


def _drawn(question: Question, revision_id: int) -> bool:
    """One first question in SHADOW_EVERY, of each agent alike."""
    return question.purpose == "review" and (int(question.key[:8], 16) + revision_id) % SHADOW_EVERY == 0


def for_its_own_sake() -> ColumnElement[bool]:
    """The run was made to judge; those that try texts, models or reuse say nothing of what it costs or how it goes."""
    trying = (Run.purpose.not_like("replay%"), Run.purpose.not_like("shadow%"), Run.rescore_id.is_(None))
    return and_(*trying, not_evaluating())


def not_evaluating() -> ColumnElement[bool]:
    """The run was no part of comparing models: other models' calls say nothing of those that are at work."""
    return Run.purpose.not_like("eval%")


class Kept(NamedTuple):
    """The reply that counts for its question; `paid`: a row was written for the one that came."""

    reply: Reply
    paid: bool


def record(session: Session, asked: Mapping[str, Any], reply: Reply, *, cost_usd: Decimal | None) -> Kept:
    """A paid reply's row. `asked` are the columns that say what was asked; the caller books what it cost."""
    row = _row(asked, reply, cost_usd=cost_usd)
    return _second(session, row, reply) if session.scalar(_KEEP, row) is None else Kept(reply, paid=True)


def _second(session: Session, row: dict[str, Any], reply: Reply) -> Kept:
    """Where a reply is on record already.

    Two workers asked the same at the same moment: both were billed, the first one's answer counts. Or it is our own,
    and only the word that it had been recorded was lost.
    """
    run = _found(session, row["reply_key"])
    first = None if run is None else _reply(run)
    if first == reply:
        return Kept(reply, paid=False)
    session.execute(insert(Run).values(**{**row, "replied": False, "reply": None, "outcome": DUPLICATE}))
    return Kept(first or reply, paid=True)


def record_probe(session: Session, *, model: str, reply: Reply) -> None:
    """The call that found out whether a key works again is paid like any other; nobody will ask for its reply."""
    paid = cost(model, reply.usage, on=now().date(), geo=reply.geo)
    ledger.book(session, agent=PROBE, cost_usd=paid)
    in_force = session.scalar(select(Release.context_version).order_by(Release.id.desc()).limit(1))
    if in_force is None:
        return
    row = {"agent": PROBE, "purpose": PROBE, "repetition": 0, "reply_key": PROBE, "agent_hash": "", "model": model}
    kept = {**_answered(reply), "reply": None, "replied": True, "cost_usd": paid}
    session.execute(insert(Run).values(context_version=in_force, **row, **kept))


_RUNS, _REUSES = table_of(Run), table_of(Reuse)
_KEEP = insert(_RUNS).on_conflict_do_nothing().returning(_RUNS.c.id)
_EVERY = bound(_RUNS, without=("id", "recorded_at"))
_KEPT = insert(_RUNS).values(_EVERY).on_conflict_do_nothing().returning(_RUNS.c.id).cte("kept")
# Built once: it is a part of every call. A reply and what it cost, or nothing where its question has one.
_KEEP_AND_BOOK = select(_KEPT.c.id).add_cte(ledger.booking(_KEPT).cte("booked"))
_FIND = select(_RUNS).where(_RUNS.c.reply_key == bindparam("key"), _RUNS.c.reply.is_not(None))


def _found(connection: Session | Connection, key: str) -> Row[Any] | None:
    return connection.execute(_FIND, {"key": key}).first()


def _row(asked: Mapping[str, Any], reply: Reply, *, cost_usd: Decimal | None) -> dict[str, Any]:
    return {**asked, **_answered(reply), "replied": True, "cost_usd": cost_usd}


def _answered(reply: Reply) -> dict[str, Any]:
    return {
        "answered_by": reply.model,
        "outcome": reply.outcome,
        "stop_reason": reply.stop_reason,
        "reply": reply.text,
        "request_id": reply.request_id,
        "latency_ms": reply.latency_ms,
        **{f"{kind}_tokens": getattr(reply.usage, kind) for kind in Usage.__dataclass_fields__},
    }


def _reply(run: Row[Any]) -> Reply:
    usage = Usage(**{kind: getattr(run, f"{kind}_tokens") for kind in Usage.__dataclass_fields__})
    return Reply(
        text=run.reply or "",
        outcome=cast("Outcome", run.outcome),  # only _answered writes rows with a reply
        stop_reason=run.stop_reason,
        usage=usage,
        model=run.answered_by,
        request_id=run.request_id,
        latency_ms=run.latency_ms,
    )
