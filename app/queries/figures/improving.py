"""What the system did about its own failures: patterns, proposals, releases, and whether a release helped."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  pydantic reads it
from dataclasses import dataclass
from datetime import datetime, timedelta  # noqa: TC003  pydantic reads it
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from agents.observation import Fingerprint
from app.patterns import stands
from app.periods import WEEK, Period
from app.queries.failures import INSTANT, chances, rate
from app.queries.figures.tickets import within
from app.shares import Share
from app.tables import Observation, Pattern, PatternEvent, Proposal, Release

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

WATCHED = 4 * WEEK  # after a release, for so long reports tell whether it helped


@dataclass(frozen=True)
class PatternRow:
    """What happened to a pattern in the period, each kind of event once, in order."""

    id: int
    failure: Fingerprint
    events: tuple[str, ...]


@dataclass(frozen=True)
class Patterns:
    changed: tuple[PatternRow, ...]
    open: int  # now

    def count(self, kind: str) -> int:
        return sum(kind in row.events for row in self.changed)


@dataclass(frozen=True)
class Proposals:
    """Made and decided in the period; `open` ones wait for a person now."""

    made: Mapping[str, int]  # by kind
    approved: int
    rejected: int
    open: int

    @property
    def total(self) -> int:
        return sum(self.made.values())


@dataclass(frozen=True)
class Failures:
    """So many of one failure, among so many runs in which it could have shown."""

    count: int
    runs: int

    @property
    def per_hundred(self) -> float | None:
        return rate(self.count, self.runs)

    @property
    def share(self) -> Share:
        return Share(min(self.count, self.runs), self.runs)


@dataclass(frozen=True)
class ReleaseRow:
    """A context version that went live; `failure` is what it was about, and None where nobody proposed it.

    `before` and `after` are the seven days on each side; `watched` is how much of the seven days after is over.
    """

    version: str
    kind: str
    note: str
    released_at: datetime
    proposal_id: int | None
    failure: Fingerprint | None
    before: Failures | None
    after: Failures | None
    watched: timedelta


def patterns(session: Session, period: Period) -> Patterns:
    kinds = func.array_agg(PatternEvent.kind.distinct())
    named = (Pattern.id, Pattern.agent, Pattern.code, Pattern.subject, Pattern.direction)
    rows = session.execute(
        select(*named, kinds)
        .join(PatternEvent, PatternEvent.pattern_id == Pattern.id)
        .where(within(PatternEvent.recorded_at, period))
        .group_by(Pattern.id)
        .order_by(Pattern.id)
    )
    changed = tuple(PatternRow(number, Fingerprint(*names), tuple(sorted(kinds))) for number, *names, kinds in rows)
    return Patterns(changed, session.scalar(select(func.count()).where(Pattern.state == "open")) or 0)


def proposals(session: Session, period: Period) -> Proposals:
    made = select(Proposal.kind, func.count()).where(within(Proposal.recorded_at, period)).group_by(Proposal.kind)
    decided = within(Proposal.decided_at, period)
    counts = (
        func.count().filter(decided, Proposal.state == "approved"),
        func.count().filter(decided, Proposal.state == "rejected"),
        func.count().filter(Proposal.state == "open"),
    )
    by_kind = dict(session.execute(made.order_by(Proposal.kind)).all())
    approved, rejected, waiting = session.execute(select(*counts).select_from(Proposal)).one()
    return Proposals(by_kind, approved, rejected, waiting)


def releases(session: Session, period: Period, *, now: datetime) -> tuple[ReleaseRow, ...]:
    """Those of the period and the four weeks before, newest first; each with what it was about, before and after."""
    failure = (Pattern.agent, Pattern.code, Pattern.subject, Pattern.direction)
    rows = session.execute(
        select(Release.context_version, Release.kind, Release.note, Release.released_at, Release.proposal_id, *failure)
        .outerjoin(Proposal, Proposal.id == Release.proposal_id)
        .outerjoin(Pattern, Pattern.id == Proposal.pattern_id)
        .where(within(Release.released_at, Period(period.start - WATCHED, period.end)))
        .order_by(Release.released_at.desc(), Release.id.desc())
    ).all()
    return tuple(_release(session, tuple(row), now=now) for row in rows)


def _release(session: Session, row: tuple[Any, ...], *, now: datetime) -> ReleaseRow:
    version, kind, note, at, proposal_id, *named = row
    about = Fingerprint(*named) if named[0] is not None else None
    after = Period(at, max(min(at + WEEK, now), at))
    return ReleaseRow(
        version, kind, note, at, proposal_id, about,
        before=failures(session, about, Period(at, at).back(WEEK)) if about else None,
        after=failures(session, about, after) if about else None,
        watched=after.end - after.start,
    )  # fmt: skip


def failures(session: Session, about: Fingerprint, period: Period) -> Failures:
    """How often it was observed, and in how many runs it could have been."""
    seen = [getattr(Observation, name) == value for name, value in about._asdict().items()]
    number = select(func.count()).where(within(Observation.recorded_at, period), *seen, stands())
    possible = chances(session, after=period.start - INSTANT, until=period.end - INSTANT)
    return Failures(session.scalar(number) or 0, possible.of(about.agent, about.code))
