"""What is kept for how long. Bodies go, rows stay: verdicts, findings, labels and money are never deleted.

1. Deliveries lose their body after TICKETQC_RETENTION_DAYS; a parked one can then no longer be replayed.
2. Runs lose the model's reply after 180 days; tokens and cost stay.
3. Revisions lose the ticket's text after 400 days, and with it go the quotes taken from it. The newest revision of a
   ticket that is still open or waits for its review is kept whole.
4. The clock's keys go after 30 days, jobs that have ended after 7.
5. The requests of a batch go 30 days after it was made; the batch and its money stay.
6. A browser's sign-in goes when it is over, a link 30 days after it was used or became too old, a wrong password after
   one.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from sqlalchemy import cast, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import JSONB

from app import queue, sign_ins
from app.clock import now
from app.db import transaction
from app.documents import REMOVED_SUBJECT
from app.tables import (
    Batch,
    BatchRequest,
    Delivery,
    Escalation,
    FailedSignIn,
    Finding,
    Invitation,
    Observation,
    Revision,
    Run,
    SignIn,
    Tick,
    Ticket,
    Triage,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Engine, Select
    from sqlalchemy.orm import Session

    from app.deps import Deps

log = structlog.get_logger()

REPLIES = timedelta(days=180)
REVISIONS = timedelta(days=400)
TICKS = timedelta(days=30)
JOBS = timedelta(days=7)
LINKS = timedelta(days=30)
FAILURES = timedelta(days=1)
REQUESTS = timedelta(days=30)
BATCH = 500  # rows a transaction, so that nobody waits long for a lock

# What is left of a ticket: enough to be read as one, and nothing that a person wrote.
KEPT = ("external_id", "source", "assignee", "team", "queue", "priority", "category", "status",
        "created_at", "closed_at", "updated_at")  # fmt: skip


class Removed(NamedTuple):
    deliveries: int
    replies: int
    revisions: int
    ticks: int
    jobs: int
    sign_ins: int
    links: int
    failures: int
    requests: int


def run(deps: Deps) -> None:
    """The daily job."""
    removed = remove(deps.engine, moment=now(), deliveries=timedelta(days=deps.settings.retention_days))
    log.info("retention.done", **removed._asdict())


def remove(engine: Engine, *, moment: datetime, deliveries: timedelta) -> Removed:
    """Nothing is kept longer than it should be; the same call again removes nothing."""
    return Removed(
        _batches(engine, lambda session: _empty_deliveries(session, before=moment - deliveries)),
        _batches(engine, lambda session: _empty_replies(session, before=moment - REPLIES)),
        _batches(engine, lambda session: _empty_revisions(session, before=moment - REVISIONS)),
        _batches(engine, lambda session: _delete_ticks(session, before=moment - TICKS)),
        _batches(engine, lambda session: queue.delete_finished(session, older_than=JOBS, most=BATCH)),
        _batches(engine, lambda session: _delete_sign_ins(session, moment=moment)),
        _batches(engine, lambda session: _delete_links(session, before=moment - LINKS)),
        _batches(engine, lambda session: _delete_failures(session, before=moment - FAILURES)),
        _batches(engine, lambda session: _delete_requests(session, before=moment - REQUESTS)),
    )


def _batches(engine: Engine, step: Callable[[Session], int]) -> int:
    total = 0
    while True:
        with transaction(engine) as session:
            done = step(session)
        total += done
        if done < BATCH:
            return total


def _empty_deliveries(session: Session, *, before: datetime) -> int:
    old = select(Delivery.id).where(Delivery.received_at < before, Delivery.body.is_not(None)).limit(BATCH)
    return _count(session, update(Delivery).where(Delivery.id.in_(old)).values(body=None).returning(Delivery.id))


def _empty_replies(session: Session, *, before: datetime) -> int:
    old = select(Run.id).where(Run.recorded_at < before, Run.reply.is_not(None)).limit(BATCH)
    return _count(session, update(Run).where(Run.id.in_(old)).values(reply=None).returning(Run.id))


def _delete_ticks(session: Session, *, before: datetime) -> int:
    old = select(Tick.key).where(Tick.at < before).limit(BATCH)
    return _count(session, delete(Tick).where(Tick.key.in_(old)).returning(Tick.key))


def _delete_sign_ins(session: Session, *, moment: datetime) -> int:
    over = or_(SignIn.seen_at <= moment - sign_ins.IDLE, SignIn.created_at <= moment - sign_ins.LONGEST)
    old = select(SignIn.token_hash).where(over).limit(BATCH)
    return _count(session, delete(SignIn).where(SignIn.token_hash.in_(old)).returning(SignIn.token_hash))


def _delete_links(session: Session, *, before: datetime) -> int:
    old = select(Invitation.token_hash).where(or_(Invitation.used_at < before, Invitation.expires_at < before))
    gone = delete(Invitation).where(Invitation.token_hash.in_(old.limit(BATCH)))
    return _count(session, gone.returning(Invitation.token_hash))


def _delete_failures(session: Session, *, before: datetime) -> int:
    old = select(FailedSignIn.id).where(FailedSignIn.at < before).limit(BATCH)
    return _count(session, delete(FailedSignIn).where(FailedSignIn.id.in_(old)).returning(FailedSignIn.id))


def _delete_requests(session: Session, *, before: datetime) -> int:
    over = select(Batch.id).where(Batch.created_at < before, Batch.state.in_(("ended", "lost")))
    row = tuple_(BatchRequest.batch_id, BatchRequest.reply_key)
    old = select(BatchRequest.batch_id, BatchRequest.reply_key).where(BatchRequest.batch_id.in_(over)).limit(BATCH)
    return _count(session, delete(BatchRequest).where(row.in_(old)).returning(BatchRequest.reply_key))


def _count(session: Session, statement: Any) -> int:  # noqa: ANN401  SQLAlchemy's types for returning() differ
    return len(session.execute(statement).all())


def _empty_revisions(session: Session, *, before: datetime) -> int:
    """Texts and quotes of these revisions go together."""
    revisions = session.scalars(_old_revisions(before).limit(BATCH)).all()
    if not revisions:
        return 0
    session.execute(update(Revision).where(Revision.id.in_(revisions)).values(document=_skeleton()))
    session.execute(update(Ticket).where(Ticket.revision_id.in_(revisions)).values(subject=REMOVED_SUBJECT))
    verdicts = select(Verdict.id).where(Verdict.revision_id.in_(revisions))
    session.execute(update(Finding).where(Finding.verdict_id.in_(verdicts)).values(evidence=[]))
    for table in (Escalation, Observation):
        session.execute(update(table).where(table.revision_id.in_(revisions)).values(evidence=[]))
    _empty_triages(session, revisions)
    return len(revisions)


def _old_revisions(before: datetime) -> Select[int]:
    finished = Ticket.review_state.in_(("done", "parked"))
    return (
        select(Revision.id)
        .join(Ticket, Ticket.id == Revision.ticket_id)
        .where(Revision.recorded_at < before, ~Revision.document.has_key("removed"))
        .where(or_(Ticket.revision_id.is_distinct_from(Revision.id), finished))
    )


def _skeleton() -> Any:  # noqa: ANN401  an SQL expression
    """{"version": 1, "removed": true, "ticket": {what is kept}, "masked": []}"""
    ticket = Revision.document["ticket"]
    kept = func.jsonb_build_object(*(part for name in KEPT for part in (name, ticket[name])))
    return func.jsonb_build_object("version", 1, "removed", True, "ticket", kept, "masked", cast([], JSONB))  # noqa: FBT003


def _empty_triages(session: Session, revisions: Sequence[int]) -> None:
    """Category, priority and states stay; quotes go, and with them the questions, which repeat the ticket."""
    for triage in session.scalars(select(Triage).where(Triage.revision_id.in_(revisions))):
        triage.answer = {**_without_quotes(triage.answer), "ask": []}


def _without_quotes(value: Any) -> Any:  # noqa: ANN401  JSON
    if isinstance(value, list):
        return [_without_quotes(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "quote" in value:
        return {"line": value["line"], "quote": "", "spans": []}
    return {name: _without_quotes(item) for name, item in value.items()}
