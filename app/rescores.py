"""What is judged again, under which version, and what it may cost: made, confirmed and cancelled here.

The window is about when a ticket's state came in, by our clock. The tickets, and the verdict of each, are pinned when
the re-scoring begins; nothing that it does touches them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, exists, func, insert, literal, or_, select
from sqlalchemy.orm import aliased

from agents.judge import SECOND_SHARE
from agents.ticket import FINISHED
from app import audit, estimates, periods, releases
from app.errors import BadRequest, Conflict, NotFound
from app.judgements import NO_MODEL
from app.locks import ROW_ONLY
from app.models import LOCAL, NONE, Choice, choose
from app.queue import enqueue
from app.tables import (
    Escalation,
    Finding,
    ModelState,
    Rescore,
    RescoreResult,
    Revision,
    Run,
    Ticket,
    Triage,
    Verdict,
)

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal
    from zoneinfo import ZoneInfo

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import Session

    from agents.context import Context
    from agents.question import Agent, Purpose
    from app.audit import Actor
    from app.models import Role
    from app.settings import Settings

OVER = ("done", "failed", "cancelled")
TIMES = "give an age such as 30d, 12h or 2w, or a date such as 2026-11-01"


class Order(NamedTuple):
    """A window, half open, and the version that its tickets are judged under."""

    version: str
    since: datetime
    until: datetime


@dataclass(frozen=True)
class Plan:
    """What an order takes. `known` answers are on record and cost nothing; `seconds` are those second runs that may
    come on top, and so may calls of the strong model; `unjudged` and `removed` tickets of the window are left out.
    """

    order: Order
    judge: Judge
    tickets: int
    unjudged: int
    removed: int
    calls: int
    known: int
    estimate_usd: Decimal | None
    seconds: int
    seconds_usd: Decimal | None
    strong: Strong | None


class Strong(NamedTuple):
    """The model that is asked too where the worker leaves open what decides; nobody knows how often that will be.

    Of `most` tickets at the most. Of `likely`, if those are left open that were: whose standing verdict is the strong
    model's, or went to a person with something unscored and by no rule.
    """

    model: str
    most: int
    most_usd: Decimal | None
    likely: int
    likely_usd: Decimal | None


class Judge(NamedTuple):
    """Who judges: a model's id, or 'none' for checks only."""

    model: str
    demonstration: bool

    @property
    def by_model(self) -> bool:
        return self.model != NONE

    @property
    def choice(self) -> Choice:
        """As prices know it: the model on this machine costs nothing, whatever it is called."""
        return Choice("worker", LOCAL if self.demonstration else self.model)


class _Window(NamedTuple):
    judged: int
    unjudged: int
    removed: int


def order(  # noqa: PLR0913  a form has these fields, and the time is passed in
    session: Session, *, since: str, until: str, version: str, now: datetime, zone: ZoneInfo
) -> Order:
    """What somebody wrote, in one clear line where it cannot be. Raises BadRequest, or NotFound for the version."""
    start = _moment("since", since, now=now, zone=zone)
    end = min(_moment("until", until, now=now, zone=zone), now) if until.strip() else now
    if start >= end:
        raise BadRequest(f"the window is empty: it would begin at {_told(start, zone)} and end at {_told(end, zone)}")
    return Order(releases.find(session, version), start, end)


def _moment(name: str, given: str, *, now: datetime, zone: ZoneInfo) -> datetime:
    found = periods.moment_of(given, now=now, zone=zone)
    if found is None:
        raise BadRequest(f"{name}: {given[:40]!r} is no time; {TIMES}")
    return found


def _told(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M}"


def plan(session: Session, wanted: Order, *, settings: Settings) -> Plan:
    """What the order takes as things stand. Raises BadRequest where there is nothing to judge."""
    window = _counted(session, wanted)
    if not window.judged:
        raise BadRequest(_nothing(wanted, window))
    judge, context = _judge(session, settings, "worker"), releases.load(session, wanted.version)
    known = _known(session, wanted, context, judge) if judge.by_model else {}
    calls: dict[Agent, int] = {agent: window.judged - number for agent, number in known.items()}
    seconds: dict[Agent, int] = {"qc": min(int(window.judged * SECOND_SHARE), calls.get("qc", 0))}
    return Plan(
        wanted,
        judge,
        *window,
        calls=sum(calls.values()),
        known=sum(known.values()),
        estimate_usd=estimates.of(session, calls, choice=judge.choice),
        seconds=seconds["qc"],
        seconds_usd=estimates.of(session, seconds, choice=judge.choice),
        strong=_strong(session, wanted, context, judge, settings=settings),
    )


def _judge(session: Session, settings: Settings, role: Role) -> Judge:
    """As the workers last said, whose settings may be other than this process'; until they did, by these."""
    told = session.get(ModelState, role)
    if told is None:
        choice = choose(settings, role)
        return Judge(choice.model, choice.local)
    return Judge(NONE if told.state == "none" else told.model, told.demonstration)


def _strong(session: Session, wanted: Order, context: Context, worker: Judge, *, settings: Settings) -> Strong | None:
    """None where no strong model is wanted, it is none other than the worker, or all its answers are on record."""
    strong = _judge(session, settings, "strong")
    if not (settings.strong_on_abstention and worker.by_model and strong.by_model) or strong.model == worker.model:
        return None
    unknown = ~_answered("qc", Run.revision_id == Revision.id, context, strong, purpose="strong")
    columns = func.count().filter(unknown), func.count().filter(unknown, _left_open())
    most, likely = session.execute(_chosen(wanted).with_only_columns(*columns)).one()
    most_usd, likely_usd = (
        estimates.of(session, {"qc": number}, choice=strong.choice, like=worker.model) for number in (most, likely)
    )
    return Strong(strong.model, most, most_usd, likely, likely_usd) if most else None


def _nothing(wanted: Order, window: _Window) -> str:
    span = f"between {wanted.since:%Y-%m-%d %H:%M} and {wanted.until:%Y-%m-%d %H:%M} UTC"
    left = [
        f"{number} {why}"
        for number, why in ((window.unjudged, "without a verdict"), (window.removed, "whose texts were removed"))
        if number
    ]
    return f"no finished ticket with a verdict came in {span}" + (f" (there are {' and '.join(left)})" if left else "")


def begin(session: Session, made: Plan, *, actor: Actor) -> Rescore:
    """It waits for a worker, its tickets and their verdicts pinned, if the caller's transaction commits."""
    version, since, until = made.order
    row = Rescore(
        context_version=version,
        since=since,
        until=until,
        tickets=made.tickets,
        unjudged=made.unjudged,
        removed=made.removed,
        calls=made.calls,
        estimate_usd=made.estimate_usd,
        actor=actor.name,
    )
    session.add(row)
    session.flush()
    pinned = _chosen(made.order).with_only_columns(literal(row.id), Revision.id, Ticket.id, Verdict.id)
    columns = ["rescore_id", "revision_id", "ticket_id", "verdict_id"]
    session.execute(insert(RescoreResult).from_select(columns, pinned))
    row.tickets = session.scalar(select(func.count()).where(RescoreResult.rescore_id == row.id)) or 0
    after = {"version": version, "since": since.isoformat(), "until": until.isoformat(), "tickets": row.tickets}
    audit.record(session, actor, action="rescore.begun", subject=f"rescore:{row.id}", after=after)
    ask_for(session, row.id)
    return row


def ask_for(session: Session, rescore_id: int) -> None:
    """A worker takes up, or goes on with it, if the caller's transaction commits."""
    name = f"rescore:{rescore_id}"
    enqueue(session, "rescore", lock=name, once=name, rescore_id=rescore_id)


def cancel(session: Session, rescore_id: int, *, actor: Actor, now: datetime) -> None:
    """No further ticket is judged; what was judged by then stays to be read. Raises Conflict where it is over."""
    row = session.get(Rescore, rescore_id, with_for_update=ROW_ONLY)
    if row is None:
        raise NotFound("there is no such re-scoring; it may have been in another database")
    if row.state in OVER:
        raise Conflict("this re-scoring is over already; there is nothing left to cancel")
    row.state, row.note, row.finished_at = "cancelled", "", now
    audit.record(session, actor, action="rescore.cancelled", subject=f"rescore:{rescore_id}")


_FINISHED = Revision.document["ticket"]["status"].astext.in_(FINISHED)
_REMOVED = Revision.document.has_key("removed")


def _in_window(wanted: Order) -> Select[int]:
    """The finished tickets whose newest state came in within the window, with their verdict where they have one."""
    standing = and_(Verdict.id == Ticket.verdict_id, Verdict.revision_id == Revision.id, Ticket.review_state == "done")
    return (
        select(Ticket.id)
        .select_from(Revision)
        .join(Ticket, Ticket.revision_id == Revision.id)
        .outerjoin(Verdict, standing)
        .where(Revision.recorded_at >= wanted.since, Revision.recorded_at < wanted.until, _FINISHED)
    )


def _chosen(wanted: Order) -> Select[int]:
    return _in_window(wanted).where(Verdict.id.is_not(None), ~_REMOVED)


def _counted(session: Session, wanted: Order) -> _Window:
    judged = Verdict.id.is_not(None)
    groups: tuple[ColumnElement[bool], ...] = (and_(judged, ~_REMOVED), and_(~judged, ~_REMOVED), _REMOVED)
    columns = [func.count().filter(group) for group in groups]
    return _Window._make(session.execute(_in_window(wanted).with_only_columns(*columns)).one())


def _known(session: Session, wanted: Order, context: Context, judge: Judge) -> dict[Agent, int]:
    """How many of each agent's answers are on record: those need no call."""
    columns = (
        func.count().filter(_answered("qc", Run.revision_id == Revision.id, context, judge)),
        func.count().filter(_triaged(context, judge)),
    )
    qc, triage = session.execute(_chosen(wanted).with_only_columns(*columns)).one()
    return {"qc": qc, "triage": triage}


def _left_open() -> ColumnElement[bool]:
    """Whether the verdict that stands is one that a strong model was asked for, or would have been."""
    unscored = exists().where(Finding.verdict_id == Verdict.id, Finding.result == "unscored")
    by_rule = exists().where(Escalation.revision_id == Revision.id)
    abstained = and_(Verdict.outcome == "escalate", Verdict.panel != NO_MODEL, unscored, ~by_rule)
    return or_(Verdict.route == "strong", abstained)


def _answered(
    agent: Agent, about: ColumnElement[bool], context: Context, judge: Judge, *, purpose: Purpose = "review"
) -> ColumnElement[bool]:
    """Whether there is a reply that a judgement under this version would find by its key."""
    asked = (Run.agent == agent, Run.agent_hash == context.agent_hash(agent), Run.model == judge.model)
    return exists().where(about, *asked, Run.purpose == purpose, Run.repetition == 0, Run.reply.is_not(None))


def _triaged(context: Context, judge: Judge) -> ColumnElement[bool]:
    """Triage is asked once per intake, which several states of a ticket may share."""
    state = aliased(Revision)
    same = (state.ticket_id == Ticket.id, state.intake_hash == Revision.intake_hash)
    stored = exists().where(
        Triage.ticket_id == Ticket.id,
        Triage.intake_hash == Revision.intake_hash,
        Triage.agent_hash == context.agent_hash("triage"),
        Triage.model == judge.model,
    )
    return or_(stored, _answered("triage", and_(Run.revision_id == state.id, *same), context, judge))
