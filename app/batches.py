"""Tickets that are judged by Message Batches: who waits, who is handed back, what a batch comes to.

A ticket that is judged by batch has a row in `batch_tickets`, and no other job takes it up while it has. Rounds are put
together and sent in app/batch_rounds.py, their results are brought by app/batch_results.py.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from app import reviewing
from app.clock import now
from app.intake.recording import NEXT_BATCH
from app.locks import ROW_ONLY, Lock, take
from app.queries import batches as queries
from app.queue import enqueue
from app.tables import Batch, BatchRequest, BatchTicket, Connection, Reservation, Revision, Ticket

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from agents.message_batches import BatchState

MOST_TRIES = 2  # batches that may bring a ticket no answer; then it is asked on its own
LOOKED_BACK = timedelta(days=7)  # at what batches cost; then they are tried again
OPEN = ("submitting", "waiting")
LIFETIME = timedelta(days=1)
FORGOTTEN = timedelta(hours=1)  # after its time a batch that cannot be looked at will not come
FREE = BatchTicket.batch_id.is_(None)  # waits for the next batch


def add(session: Session, *, source: str = "") -> int:
    """Tickets that wait for their review wait for the next batch instead; how many they are.

    Their jobs, where they have some, find that they are not theirs any more.
    """
    waiting = (Ticket.review_state == "waiting_model", Ticket.revision_id.is_not(None))
    named = [Connection.name == source] if source else []
    found = select(Ticket.revision_id).join(Connection, Connection.id == Ticket.connection_id).where(*waiting, *named)
    made = insert(BatchTicket).from_select(["revision_id"], found).on_conflict_do_nothing()
    taken = session.scalars(made.returning(BatchTicket.revision_id)).all()
    changed = update(Ticket).where(Ticket.revision_id.in_(select(BatchTicket.revision_id).where(FREE)), *waiting)
    session.execute(changed.values(review_note=NEXT_BATCH))
    enqueue(session, "batch_submit", once="batch_submit")
    return len(taken)


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
    """The tickets of this batch wait for the next one, and nothing is set aside for it any more."""
    session.execute(delete(Reservation).where(Reservation.id == batch.reservation_id))
    mine = BatchTicket.batch_id == batch.id
    session.execute(update(BatchTicket).where(mine).values(batch_id=None, reply_key=None))


def lose(session: Session, batch: Batch, note: str, *, tries: int = 0) -> None:
    """Nothing of this batch will come: its requests are gone, and its tickets free, with so many tries less.

    With none left where a person cancelled it, perhaps a moment ago: those are judged one by one. One that is over
    meanwhile stays as it ended.
    """
    take(session, Lock.BATCHES)
    session.refresh(batch, with_for_update=ROW_ONLY)
    if batch.state not in OPEN:
        return
    if batch.cancel_asked_at is not None:
        tries = MOST_TRIES
    batch.state, batch.note, batch.ended_at = "lost", note, now()
    session.execute(delete(BatchRequest).where(BatchRequest.batch_id == batch.id))
    if tries:
        mine = update(BatchTicket).where(BatchTicket.batch_id == batch.id)
        session.execute(mine.values(tries=BatchTicket.tries + tries))
        enqueue(session, "batch_submit", once="batch_submit")
    free(session, batch)


def sent(session: Session, batch_id: int, state: BatchState) -> bool:
    """The vendor has it, under this id; False where that took so long that it was given up meanwhile."""
    batch = session.get_one(Batch, batch_id, with_for_update=ROW_ONLY)
    if batch.state == "lost":
        return False
    if batch.vendor_id is None:
        batch.state, batch.vendor_id, batch.note = "waiting", state.id, ""
        batch.sent_at, batch.expires_at = state.created_at, state.expires_at
        keep_aside(session, batch, until=state.expires_at)
    return True


def keep_aside(session: Session, batch: Batch, *, until: datetime) -> None:
    """What is set aside for it counts for as long as it may still be answered, whoever dies meanwhile."""
    mine = update(Reservation).where(Reservation.id == batch.reservation_id)
    session.execute(mine.values(until=until + FORGOTTEN))
