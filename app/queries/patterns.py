"""The patterns' pages: how often each is seen, among how many runs, on which tickets, and what was done about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, case, func, select
from sqlalchemy.dialects.postgresql import distinct_on

from app import documents
from app.errors import NotFound
from app.patterns import WINDOW, callable_among, same, stands
from app.queries.failures import Chances, chances, rate
from app.tables import (
    Finding,
    Label,
    LabelFinding,
    Observation,
    Pattern,
    PatternEvent,
    Proposal,
    Revision,
    Ticket,
    User,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from agents.verdict import Evidence

STATES = ("open", "decided", "muted", "closed")  # the order of the list
MOST_PATTERNS = 200
MOST_SIGHTINGS = 100
MOST_EVENTS = 100
MOST_VERSIONS = 20


@dataclass(frozen=True)
class PatternRow:
    """`seen`, `tickets` and `possible` are of the last 168 hours; `one_source` is said of open patterns only."""

    id: int
    agent: str
    code: str
    subject: str
    direction: str
    state: str
    opened_at: datetime
    cool_until: datetime | None
    seen: int
    tickets: int
    last_seen: datetime | None
    proposal_id: int | None  # the open one
    possible: int
    one_source: bool

    @property
    def rate(self) -> float | None:
        return rate(self.seen, self.possible)


@dataclass(frozen=True)
class SightingRow:
    """One observation, on the state of the ticket that it was made on."""

    id: int
    ticket_id: int
    external_id: str
    subject: str
    revision_id: int
    observer: str
    evidence: tuple[Evidence, ...]
    context_version: str
    recorded_at: datetime


@dataclass(frozen=True)
class JudgedRow:
    """What the machine found on the criterion of an observation, under the same context."""

    result: str
    reason: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class SaidRow:
    """What a person decided instead; `result` is None where only the verdict was overruled."""

    result: str | None
    outcome: str
    reason: str
    note: str
    by: str


@dataclass(frozen=True)
class EventRow:
    kind: str
    note: str
    by: str | None  # None: the machine
    at: datetime


@dataclass(frozen=True)
class VersionRow:
    """A context version under which it was seen since the pattern opened."""

    version: str
    seen: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class ProposalRow:
    id: int
    agent: str
    kind: str
    why: str
    state: str
    decided_by: str | None
    decided_at: datetime | None
    decision_note: str
    recorded_at: datetime


def listed(session: Session, *, now: datetime) -> tuple[PatternRow, ...]:
    """Every pattern, open ones first and of those the most frequent."""
    return _rows(session, now=now, possible=chances(session, after=now - WINDOW))


def pattern(session: Session, pattern_id: int, *, now: datetime) -> PatternRow:
    """Raises NotFound."""
    rows = _rows(session, Pattern.id == pattern_id, now=now, possible=chances(session, after=now - WINDOW))
    if not rows:
        raise NotFound("there is no such pattern; it may have been in another database")
    return rows[0]


def _rows(
    session: Session, *conditions: ColumnElement[bool], now: datetime, possible: Chances
) -> tuple[PatternRow, ...]:
    mine = select(Observation.recorded_at).where(same(), stands()).correlate(Pattern)
    recent = (
        select(func.count().label("seen"), func.count(Revision.ticket_id.distinct()).label("tickets"))
        .select_from(Observation)
        .join(Revision, Revision.id == Observation.revision_id)
        .where(same(), stands(), Observation.recorded_at > now - WINDOW)
        .correlate(Pattern)
        .lateral("recent")
    )
    last = mine.order_by(Observation.recorded_at.desc()).limit(1).scalar_subquery()
    waiting = select(Proposal.id).where(Proposal.pattern_id == Pattern.id, Proposal.state == "open").scalar_subquery()
    order = case({state: place for place, state in enumerate(STATES)}, value=Pattern.state)
    rows = session.execute(
        select(
            Pattern.id,
            Pattern.agent,
            Pattern.code,
            Pattern.subject,
            Pattern.direction,
            Pattern.state,
            Pattern.opened_at,
            Pattern.cool_until,
            recent.c.seen,
            recent.c.tickets,
            last.label("last_seen"),
            waiting.label("proposal_id"),
        )
        .where(*conditions)
        .order_by(order, recent.c.tickets.desc(), Pattern.opened_at.desc(), Pattern.id)
        .limit(MOST_PATTERNS)
    ).all()
    several = callable_among(session, [row.id for row in rows if row.state == "open"])
    return tuple(
        PatternRow(
            **row._asdict(),
            possible=possible.of(row.agent, row.code),
            one_source=row.state == "open" and row.id not in several,
        )
        for row in rows
    )


def sightings(session: Session, pattern_id: int) -> tuple[SightingRow, ...]:
    """The newest observations of a pattern that stand, newest first, whatever state it was in."""
    rows = session.execute(
        select(
            Observation.id,
            Ticket.id.label("ticket_id"),
            Ticket.external_id,
            Ticket.subject,
            Observation.revision_id,
            Observation.observer,
            Observation.evidence,
            Observation.context_version,
            Observation.recorded_at,
        )
        .select_from(Pattern)
        .join(Observation, same())
        .join(Revision, Revision.id == Observation.revision_id)
        .join(Ticket, Ticket.id == Revision.ticket_id)
        .where(Pattern.id == pattern_id, stands())
        .order_by(Observation.recorded_at.desc(), Observation.id.desc())
        .limit(MOST_SIGHTINGS)
    )
    return tuple(SightingRow(**{**row._asdict(), "evidence": documents.evidence(row.evidence)}) for row in rows)


def judged(session: Session, observations: Iterable[int]) -> Mapping[int, JudgedRow]:
    """By observation: the newest finding of its criterion on its revision under its context, if there is one."""
    rows = session.execute(
        select(Observation.id, Finding.result, Finding.reason, Finding.evidence)
        .join(
            Verdict,
            and_(
                Verdict.revision_id == Observation.revision_id,
                Verdict.context_version == Observation.context_version,
            ),
        )
        .join(Finding, and_(Finding.verdict_id == Verdict.id, Finding.criterion == Observation.subject))
        .where(Observation.id.in_(list(observations)))
        .ext(distinct_on(Observation.id))
        .order_by(Observation.id, Verdict.id.desc())
    )
    return {row.id: JudgedRow(row.result, row.reason, documents.evidence(row.evidence)) for row in rows}


def said(session: Session, observations: Iterable[int]) -> Mapping[int, SaidRow]:
    """By observation: the decision that it came with, if it came with one."""
    found = and_(LabelFinding.label_id == Label.id, LabelFinding.criterion == Observation.subject)
    rows = session.execute(
        select(Observation.id, LabelFinding.result, Label.outcome, Label.reason, Label.note, User.name)
        .join(Label, Label.id == Observation.label_id)
        .join(User, User.id == Label.user_id)
        .outerjoin(LabelFinding, found)
        .where(Observation.id.in_(list(observations)))
    )
    return {key: SaidRow(*rest) for key, *rest in rows}


def versions(session: Session, pattern_id: int) -> tuple[VersionRow, ...]:
    """The range of context versions since the pattern opened, oldest first."""
    first, last = func.min(Observation.recorded_at), func.max(Observation.recorded_at)
    rows = session.execute(
        select(Observation.context_version, func.count(), first, last)
        .select_from(Pattern)
        .join(Observation, same())
        .where(Pattern.id == pattern_id, stands(), Observation.recorded_at > Pattern.opened_at - WINDOW)
        .group_by(Observation.context_version)
        .order_by(first)
        .limit(MOST_VERSIONS)
    )
    return tuple(VersionRow(*row) for row in rows)


def events(session: Session, pattern_id: int) -> tuple[EventRow, ...]:
    """What happened to a pattern, newest first."""
    rows = session.execute(
        select(PatternEvent.kind, PatternEvent.note, User.name, PatternEvent.recorded_at)
        .outerjoin(User, User.id == PatternEvent.user_id)
        .where(PatternEvent.pattern_id == pattern_id)
        .order_by(PatternEvent.id.desc())
        .limit(MOST_EVENTS)
    )
    return tuple(EventRow(*row) for row in rows)


def proposals(session: Session, *conditions: ColumnElement[bool], most: int) -> tuple[ProposalRow, ...]:
    """What was proposed, newest first, and how it ended."""
    rows = session.execute(
        select(
            Proposal.id,
            Pattern.agent,
            Proposal.kind,
            Proposal.why,
            Proposal.state,
            User.name,
            Proposal.decided_at,
            Proposal.decision_note,
            Proposal.recorded_at,
        )
        .join(Pattern, Pattern.id == Proposal.pattern_id)
        .outerjoin(User, User.id == Proposal.decided_by)
        .where(*conditions)
        .order_by(Proposal.id.desc())
        .limit(most)
    )
    return tuple(ProposalRow(*row) for row in rows)
