"""Message Batches: where they are, what came of them, and whether they pay."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select

from agents.prices import MILLION, price_of
from app.tables import Batch, BatchTicket, Run

if TYPE_CHECKING:
    from datetime import date, datetime

    from sqlalchemy.orm import Session

SHOWN = 20  # batches, the newest
ENOUGH = 50  # answers of batches, before anything is concluded from them


@dataclass(frozen=True)
class BatchRow:
    """`cost` is None where a price is not known; it counts the calls that prepared the vendor's cache."""

    id: int
    model: str
    state: str
    note: str
    requests: int
    succeeded: int
    unanswered: int
    created_at: datetime
    ended_at: datetime | None
    cancel_asked: bool
    cost: Decimal | None

    @property
    def open(self) -> bool:
        return self.state in {"submitting", "waiting"}


class Measured(NamedTuple):
    """What batches cost, and what live calls with a warm cache would have cost for the same tokens."""

    answers: int
    repeated: int  # tokens of the prefix that every call has, read from the cache or not
    read: int  # of these
    cost: Decimal
    live_cost: Decimal

    @property
    def read_share(self) -> float:
        return self.read / self.repeated if self.repeated else 0.0

    @property
    def dearer(self) -> bool:
        """Enough was seen to say that live calls are cheaper."""
        return self.answers >= ENOUGH and self.cost > self.live_cost


def listed(session: Session, *, state: str | None = None) -> tuple[BatchRow, ...]:
    """The newest batches first."""
    newest = select(Batch).order_by(Batch.id.desc()).limit(SHOWN)
    rows = list(session.scalars(newest if state is None else newest.where(Batch.state == state)))
    costs = _costs(session, [row.id for row in rows])
    return tuple(
        BatchRow(
            id=row.id,
            model=row.model,
            state=row.state,
            note=row.note,
            requests=row.requests,
            succeeded=row.succeeded,
            unanswered=row.errored + row.canceled + row.expired,
            created_at=row.created_at,
            ended_at=row.ended_at,
            cancel_asked=row.cancel_asked_at is not None,
            cost=costs.get(row.id, Decimal(0)),
        )
        for row in rows
    )


def _costs(session: Session, batches: list[int]) -> dict[int, Decimal | None]:
    unpriced = func.bool_or(Run.cost_usd.is_(None) & Run.replied)
    rows = session.execute(
        select(Run.batch_id, func.coalesce(func.sum(Run.cost_usd), 0), unpriced)
        .where(Run.batch_id.in_(batches))
        .group_by(Run.batch_id)
    )
    return {batch: None if unknown else total for batch, total, unknown in rows if batch is not None}


def waiting_tickets(session: Session) -> int:
    """Tickets that are judged by batch and have no verdict yet."""
    return session.scalar(select(func.count()).select_from(BatchTicket)) or 0


def measured(session: Session, *, model: str, since: datetime, today: date) -> Measured | None:
    """Of the batches that ended since then; None where the model's price is not known."""
    price = price_of(model, on=today)
    if price is None:
        return None
    answer = Run.purpose != "prime"
    ended = select(Batch.id).where(Batch.state == "ended", Batch.ended_at >= since, Batch.model == model)
    found = session.execute(
        select(
            func.count().filter(answer, Run.replied),
            func.sum(Run.cache_write_5m_tokens + Run.cache_write_1h_tokens).filter(answer),
            func.sum(Run.cache_read_tokens).filter(answer),
            func.sum(Run.input_tokens).filter(answer),
            func.sum(Run.output_tokens).filter(answer),
            func.sum(Run.cost_usd),
        ).where(Run.batch_id.in_(ended))
    ).one()
    answers, written, read, fresh, output, cost = (value or 0 for value in found)
    live = price.cache_read * (written + read) + price.input * fresh + price.output * output
    return Measured(answers, int(written + read), int(read), Decimal(cost), Decimal(live) / MILLION)
