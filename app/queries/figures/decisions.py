"""What people did: escalations and how long they took, and how often a person and the machine said the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Interval, and_, case, cast, exists, func, literal, select
from sqlalchemy.orm import aliased

from app.queries.figures.tickets import counted, within
from app.queries.figures.verdicts import standing
from app.shares import Share
from app.tables import Escalation, Label, Revision, Ticket, Verdict

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select, Subquery
    from sqlalchemy.orm import Session

    from app.periods import Period


@dataclass(frozen=True)
class Escalations:
    """Verdicts that went to a person, and what became of them by now; `ruled` are open tickets that went to one."""

    decided: int
    superseded: int  # by a newer state of the ticket
    open: int
    ruled: int
    waits: int  # escalations that were decided in the period, whenever they were raised
    median: timedelta | None  # from verdict to decision
    p90: timedelta | None

    @property
    def total(self) -> int:
        return self.decided + self.superseded + self.open


@dataclass(frozen=True)
class Agreement:
    """Decisions of the period that stand. Only those beside a pass or fail say whether people and machine agree."""

    agreed: int
    too_strict: int  # the machine's fail became a pass
    too_lenient: int
    cannot_tell: int
    handed_over: int  # the machine had escalated: that is coverage, no error

    @property
    def share(self) -> Share:
        return Share(self.agreed, self.agreed + self.too_strict + self.too_lenient)


def escalations(session: Session, period: Period, *, history: bool = False) -> Escalations:
    """Raised in the period, and how long those took that were decided in it."""
    verdict = standing(period, history=history)
    labelled = exists().where(Label.revision_id == verdict.c.revision_id)
    became = case((labelled, "decided"), (Ticket.revision_id != verdict.c.revision_id, "superseded"), else_="open")
    rows = session.execute(
        select(became, func.count())
        .select_from(verdict)
        .join(Ticket, Ticket.id == verdict.c.ticket_id)
        .where(verdict.c.outcome == "escalate")
        .group_by(became)
    )
    counts: dict[str, int] = dict(rows.all())
    waits, median, p90 = session.execute(_waits(period, history=history)).one()
    return Escalations(
        decided=counts.get("decided", 0),
        superseded=counts.get("superseded", 0),
        open=counts.get("open", 0),
        ruled=_ruled(session, period, history=history),
        waits=waits,
        median=median,
        p90=p90,
    )


def _waits(period: Period, *, history: bool) -> Select[int, timedelta | None, timedelta | None]:
    """The first decision about each escalated revision, how long after the verdict. A blind one waited for nobody."""
    earlier = aliased(Label)
    first = ~exists().where(earlier.revision_id == Label.revision_id, ~earlier.blind, earlier.id < Label.id)
    took = func.greatest(Label.recorded_at - Verdict.recorded_at, cast(literal(timedelta(0)), Interval))
    return (
        select(
            func.count(),
            func.percentile_cont(0.5).within_group(took.asc()),
            func.percentile_cont(0.9).within_group(took.asc()),
        )
        .select_from(Label)
        .join(Verdict, Verdict.id == Label.verdict_id)
        .join(Revision, Revision.id == Label.revision_id)
        .where(within(Label.recorded_at, period), Verdict.outcome == "escalate", ~Label.blind, first)
        .where(counted(history=history))
    )


def _ruled(session: Session, period: Period, *, history: bool) -> int:
    """Tickets that went to a person before they were finished: by an escalation rule, or because triage failed."""
    judged = exists().where(Verdict.revision_id == Escalation.revision_id)
    found = (
        select(func.count(Escalation.ticket_id.distinct()))
        .join(Revision, Revision.id == Escalation.revision_id)
        .where(within(Escalation.recorded_at, period), counted(history=history), ~judged)
    )
    return session.scalar(found) or 0


def agreement(session: Session, period: Period, *, blind: bool, history: bool = False) -> Agreement:
    """Given before the machine's verdict was seen, or after; who has seen it first is led by it."""
    pairs = _pairs(period, blind=blind, history=history)
    return Agreement(**session.execute(select(*_pair_counts(pairs))).one()._asdict())


def _pairs(period: Period, *, blind: bool, history: bool) -> Subquery:
    """What a person said, the newest of its kind about each revision, beside what the machine had said."""
    later = aliased(Label)
    newer = (later.revision_id == Label.revision_id, later.blind == Label.blind, later.id > Label.id)
    superseded = exists().where(*newer, later.recorded_at < period.end)
    return (
        select(Label.outcome.label("person"), Verdict.outcome.label("machine"))
        .join(Verdict, Verdict.id == Label.verdict_id)
        .join(Revision, Revision.id == Label.revision_id)
        .where(within(Label.recorded_at, period), Label.blind.is_(blind), ~superseded, counted(history=history))
        .subquery()
    )


def _pair_counts(pairs: Subquery) -> tuple[ColumnElement[int], ...]:
    """The columns of Agreement."""
    person, machine = pairs.c.person, pairs.c.machine
    says_which = machine != "escalate"
    cases = {
        "agreed": person == machine,
        "too_strict": and_(machine == "fail", person == "pass"),
        "too_lenient": and_(machine == "pass", person == "fail"),
        "cannot_tell": and_(says_which, person == "cannot_tell"),
        "handed_over": ~says_which,
    }
    return tuple(func.count().filter(one).label(name) for name, one in cases.items())
