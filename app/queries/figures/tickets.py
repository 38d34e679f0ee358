"""How many tickets came, were finished and judged; what was not judged, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, exists, func, select, true
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import aliased

from agents.ticket import FINISHED
from app.judgements import NO_MODEL
from app.tables import Delivery, Revision, Ticket, Verdict

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, SQLColumnExpression, Subquery
    from sqlalchemy.orm import Session

    from app.periods import Period

TOO_LONG = "too long to judge"  # how the reason of such a verdict begins; see agents.judge.too_long


@dataclass(frozen=True)
class Volume:
    """Tickets. `finished` is the sum of what follows it, each ticket in its newest finished state of the period."""

    came: int
    finished: int
    judged: int
    too_long: int
    no_model: int
    waiting: int
    parked: int
    superseded: int  # by a newer state, before their turn came
    unread: int  # deliveries that could not be read; no ticket came of them
    imported: int  # tickets of imported history, counted nowhere else here

    @property
    def skipped(self) -> dict[str, int]:
        """Finished and not judged, by the reason in words; only what there is."""
        reasons = {
            "too long for the model": self.too_long,
            "checks only, no model was configured": self.no_model,
            "still waiting for their review": self.waiting,
            "parked, see operations": self.parked,
            "changed again before their turn": self.superseded,
        }
        return {reason: number for reason, number in reasons.items() if number}


def volume(session: Session, period: Period, *, history: bool = False) -> Volume:
    """What became of a ticket is told as of now: one that waited at the end of the period may be judged since."""
    states = _finished(period, history=history)
    became = _became(states)
    rows = session.execute(
        select(became, func.count()).select_from(states).join(Ticket, Ticket.id == states.c.ticket_id).group_by(became)
    )
    counts = dict(rows.all())
    kinds = ("judged", "too_long", "no_model", "waiting", "parked", "superseded")
    return Volume(
        came=_came(session, period, live=None if history else True),
        finished=sum(counts.values()),
        **{kind: counts.get(kind, 0) for kind in kinds},
        unread=_unread(session, period),
        imported=_came(session, period, live=False),
    )


def within(column: SQLColumnExpression[Any], period: Period) -> ColumnElement[bool]:
    return and_(column >= period.start, column < period.end)


def counted(*, history: bool) -> SQLColumnExpression[bool]:
    """The revisions that figures are about."""
    return true() if history else Revision.live


def _finished(period: Period, *, history: bool) -> Subquery:
    """The newest finished state of each ticket."""
    at = func.coalesce(Revision.updated_at, Revision.recorded_at)
    return (
        select(Revision.id, Revision.ticket_id)
        .ext(distinct_on(Revision.ticket_id))
        .where(within(Revision.recorded_at, period), counted(history=history))
        .where(Revision.document["ticket"]["status"].astext.in_(FINISHED))
        .order_by(Revision.ticket_id, at.desc(), Revision.id.desc())
        .subquery()
    )


def _became(states: Subquery) -> ColumnElement[str]:
    def verdict(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
        return exists().where(Verdict.revision_id == states.c.id, *conditions)

    return case(
        (verdict(Verdict.reasons[0].astext.startswith(TOO_LONG)), "too_long"),
        (verdict(Verdict.panel != NO_MODEL), "judged"),
        (verdict(), "no_model"),
        (Ticket.revision_id != states.c.id, "superseded"),
        (Ticket.review_state == "parked", "parked"),
        else_="waiting",
    )


def _came(session: Session, period: Period, *, live: bool | None) -> int:
    """Tickets whose first state came in the period."""
    earlier = aliased(Revision)
    before = exists().where(earlier.ticket_id == Revision.ticket_id, earlier.id < Revision.id)
    which = true() if live is None else Revision.live.is_(live)
    return session.scalar(select(func.count()).where(within(Revision.recorded_at, period), which, ~before)) or 0


def _unread(session: Session, period: Period) -> int:
    parked = select(func.count()).where(within(Delivery.received_at, period), Delivery.state == "parked")
    return session.scalar(parked) or 0
