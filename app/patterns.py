"""Patterns: the same failure on three tickets within seven days. They open, cool down after a decision, close if quiet.

What counts is when an observation was recorded, to the microsecond and whatever the time zone: a window is 168 hours,
half open, and ends at one of the observations, so that it is found however late somebody looks.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from sqlalchemy import and_, case, func, literal, or_, select, true, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from agents.context import READ_BY
from agents.observation import Fingerprint
from agents.prompt import visible
from app import audit, clock
from app.db import transaction
from app.errors import Conflict, NotFound
from app.queue import enqueue
from app.tables import Label, Observation, Pattern, PatternEvent, Proposal, Revision

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import CTE, ColumnElement, Select
    from sqlalchemy.orm import Session

    from app.audit import Actor
    from app.deps import Deps

log = structlog.get_logger()

TICKETS = 3  # distinct ones; a reason to look, no proof
WINDOW = timedelta(hours=168)
QUIET = timedelta(days=14)  # an open pattern closes where nothing was observed for so long
COOL_DOWN = timedelta(days=14)  # after a decision, which needs time to show
SEALED = "sealed"  # of the splits of labels: no proposal learns from it or is tried on it, so that it can measure
REQUESTERS = 2  # one person's tickets alone must never lead to how everybody's are judged
CALL_AGAIN = timedelta(hours=24)  # after the chief of staff was called
MOST_LOOKED_AT = 1_000  # of a pattern's observations, the newest, to find two requesters
_WINDOW = func.make_interval(0, 0, 0, 0, 168)  # in hours: where clocks change, seven days are not always 168
_SLEEPING = ("closed", "decided")  # what three tickets open again
_FINGERPRINT = Fingerprint._fields


class _Due(NamedTuple):
    """A fingerprint that has its tickets within a window; `at` is when the first such window was full."""

    fingerprint: Fingerprint
    at: datetime
    pattern_id: int | None  # of the same that was there before
    cool_until: datetime | None


def run(deps: Deps) -> None:
    """The hourly job: every pattern is in the state it should be in by now."""
    with transaction(deps.engine) as session:
        sweep(session, now=clock.now())


def sweep(session: Session, *, now: datetime) -> None:
    """What time alone brings about; safe to run late, twice, or in two workers at once.

    1. Cool-downs that are over end.
    2. What `notice` missed opens: a window that time alone filled, after a cool-down or a superseded decision.
    3. Open patterns that have been quiet close, unless a proposal about them waits for a person.
    4. The chief of staff is called about open patterns that have no proposal yet.
    """
    _move(session, _cooled(now), to="closed", note="the 14 days after the decision are over")
    _open(session, _due(session, now=now, states=_SLEEPING))
    _move(session, _quiet(now), to="closed", note="not seen for 14 days")
    _call(session, session.scalars(_uncalled(now)).all())


def notice(session: Session, fingerprints: Iterable[Fingerprint], *, now: datetime) -> None:
    """Those of them that have three tickets by now are open, in the transaction that brought the third.

    Transactions that bring the same failure come one after the other, or two could each take theirs for the second.
    """
    if among := frozenset(fingerprints):
        for one in sorted(among):
            session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("\n".join(one), 0))))
        _open(session, _due(session, now=now, states=_SLEEPING, among=among))


def decided(session: Session, pattern_id: int, *, now: datetime, note: str, actor: Actor) -> None:
    """What is seen in the next 14 days opens nothing: the decision has to show first. A muted pattern stays muted."""
    state = case((Pattern.state == "muted", "muted"), else_="decided")
    changed = update(Pattern).where(Pattern.id == pattern_id).values(state=state, cool_until=now + COOL_DOWN)
    if session.scalar(changed.returning(Pattern.id)) is None:
        raise NotFound(f"there is no pattern {pattern_id}")
    event(session, pattern_id, "decided", note=note, user_id=actor.user_id)


def mute(session: Session, pattern_id: int, *, reason: str, actor: Actor) -> None:
    """Nothing opens this pattern until somebody unmutes it. Raises Conflict where it is muted already."""
    before = _locked(session, pattern_id)
    if before.state == "muted":
        raise Conflict("somebody else has muted this pattern meanwhile; nothing was changed")
    _set_by_person(session, before, state="muted", kind="muted", note=reason, actor=actor)


def unmute(session: Session, pattern_id: int, *, actor: Actor, now: datetime) -> None:
    """As if it had never been muted: it cools down, is open, or is closed. Raises Conflict where it is not muted."""
    before = _locked(session, pattern_id)
    if before.state != "muted":
        raise Conflict("somebody else has unmuted this pattern meanwhile; nothing was changed")
    among = frozenset({Fingerprint(before.agent, before.code, before.subject, before.direction)})
    due = _due(session, now=now, states=("muted",), among=among)
    if due:
        before.opened_at = due[0].at
    cooling = before.cool_until is not None and before.cool_until > now
    state = "decided" if cooling else "open" if due else "closed"
    _set_by_person(session, before, state=state, kind="unmuted", note="", actor=actor)
    if state == "open":
        _call(session, [pattern_id])


def event(session: Session, pattern_id: int, kind: str, *, note: str = "", user_id: int | None = None) -> None:
    """The pattern's history says so if the caller's transaction commits."""
    session.add(PatternEvent(pattern_id=pattern_id, kind=kind, note=note, user_id=user_id))
    session.flush()
    log.info("pattern.changed", pattern_id=pattern_id, kind=kind)


def stands() -> ColumnElement[bool]:
    """What came with a person's decision counts only while that decision is the newest about its revision."""
    newest = select(func.max(Label.id)).where(Label.revision_id == Observation.revision_id).scalar_subquery()
    return or_(Observation.label_id.is_(None), Observation.label_id == newest)


def unsealed() -> ColumnElement[bool]:
    """The observation may be told to a proposer and tried on: it did not come with a decision of the sealed split."""
    held_back = select(Label.id).where(Label.id == Observation.label_id, Label.split == literal(SEALED))
    return ~held_back.exists()


def same() -> ColumnElement[bool]:
    """The observation is one of the pattern's."""
    return and_(*(getattr(Observation, name) == getattr(Pattern, name) for name in _FINGERPRINT))


def since_opened() -> ColumnElement[bool]:
    """The observation is one of those that the pattern is open for: from its first window on, after any cool-down."""
    cooled = or_(Pattern.cool_until.is_(None), Observation.recorded_at >= Pattern.cool_until)
    return and_(Observation.recorded_at > Pattern.opened_at - _WINDOW, cooled)


def callable_among(session: Session, pattern_ids: Iterable[int]) -> frozenset[int]:
    """Those that two requesters or more show since they opened, in what a proposer may see; others need a person."""
    newest = (
        select(Revision.document["ticket"]["requester"].astext.label("requester"))
        .join(Observation, Observation.revision_id == Revision.id)
        .where(same(), since_opened(), stands(), unsealed())
        .order_by(Observation.recorded_at.desc())
        .limit(MOST_LOOKED_AT)
        .correlate(Pattern)
        .lateral("newest")
    )
    found = select(Pattern.id, newest.c.requester).join(newest, true()).where(Pattern.id.in_(list(pattern_ids)))
    named: dict[int, set[str]] = {}
    for pattern_id, requester in session.execute(found.distinct()):
        named.setdefault(pattern_id, set()).add(_normal(requester or ""))
    return frozenset(pattern_id for pattern_id, names in named.items() if len(names) >= REQUESTERS)


def _normal(name: str) -> str:
    """One person however written: case, width, blanks and what nobody can see make no second requester."""
    return " ".join(visible(unicodedata.normalize("NFKC", name)).casefold().split())


def _due(
    session: Session, *, now: datetime, states: Sequence[str], among: frozenset[Fingerprint] = frozenset()
) -> list[_Due]:
    """Fingerprints that have no pattern, or one in these states, and a window that was full in the last 14 days."""
    seen = _sightings(now=now, states=states, among=among)
    last, within = seen.alias("last"), seen.alias("within")
    shared = [last.c[name] == within.c[name] for name in _FINGERPRINT]
    window = and_(within.c.recorded_at > last.c.recorded_at - _WINDOW, within.c.recorded_at <= last.c.recorded_at)
    pattern = [*(last.c[name] for name in _FINGERPRINT), last.c.pattern_id, last.c.cool_until]
    full = (
        select(*pattern, last.c.recorded_at)
        .join(within, and_(*shared, window))
        .where(last.c.recorded_at > now - QUIET)
        .group_by(*pattern, last.c.recorded_at)
        .having(func.count(within.c.ticket_id.distinct()) >= TICKETS)
        .subquery()
    )
    named = [full.c[name] for name in _FINGERPRINT]
    known = [full.c.pattern_id, full.c.cool_until]
    first = func.min(full.c.recorded_at)
    rows = session.execute(select(first, *known, *named).group_by(*named, *known).order_by(*named))
    return [_Due(Fingerprint(*named), at, pattern_id, cool_until) for at, pattern_id, cool_until, *named in rows]


def _sightings(*, now: datetime, states: Sequence[str], among: frozenset[Fingerprint]) -> CTE:
    """Every observation that may be in such a window: standing, recent enough, not from before a cool-down's end."""
    columns = [getattr(Observation, name) for name in _FINGERPRINT]
    query = (
        select(
            *columns, Observation.recorded_at, Revision.ticket_id, Pattern.id.label("pattern_id"), Pattern.cool_until
        )
        .join(Revision, Revision.id == Observation.revision_id)
        .outerjoin(Pattern, same())
        .where(Observation.recorded_at > now - QUIET - WINDOW, stands())
        .where(or_(Pattern.id.is_(None), Pattern.state.in_(states)))
        .where(or_(Pattern.cool_until.is_(None), Observation.recorded_at >= Pattern.cool_until))
    )
    if among:
        query = query.where(tuple_(*columns).in_(sorted(among)))
    return query.cte("sightings")


def _open(session: Session, found: Sequence[_Due]) -> None:
    """Each is open once, whoever comes first; in one order for all, so that two who open several do not deadlock."""
    opened: list[int] = []
    for due in found:
        row = insert(Pattern).values(**due.fingerprint._asdict(), state="open", opened_at=due.at)
        changed = row.on_conflict_do_update(
            index_elements=list(_FINGERPRINT),
            set_={"state": "open", "opened_at": due.at},
            # As it was when we looked: one that was decided meanwhile cools down.
            where=and_(Pattern.state.in_(_SLEEPING), Pattern.cool_until.is_not_distinct_from(due.cool_until)),
        )
        pattern_id = session.scalar(changed.returning(Pattern.id))
        if pattern_id is not None:
            event(session, pattern_id, "opened" if due.pattern_id is None else "reopened")
            opened.append(pattern_id)
    if opened:
        _call(session, opened)


def _call(session: Session, pattern_ids: Sequence[int]) -> None:
    """The chief of staff is called about those that may be given to it."""
    for pattern_id in sorted(callable_among(session, pattern_ids)):
        # With a lock, so that a call that takes minutes is not paid for a second time by the next hour's.
        lock = f"propose:{pattern_id}"
        enqueue(session, "propose", lock=lock, once=lock, pattern_id=pattern_id)


def _move(session: Session, which: ColumnElement[bool], *, to: str, note: str) -> None:
    """By one statement, which finds nothing where another worker was first."""
    moved = update(Pattern).where(which).values(state=to).returning(Pattern.id)
    for pattern_id in session.scalars(moved.execution_options(synchronize_session=False)).all():
        event(session, pattern_id, to, note=note)


def _cooled(now: datetime) -> ColumnElement[bool]:
    return and_(Pattern.state == "decided", Pattern.cool_until <= now)


def _quiet(now: datetime) -> ColumnElement[bool]:
    seen = select(Observation.id).where(same(), Observation.recorded_at > now - QUIET, stands())
    return and_(Pattern.state == "open", ~seen.exists(), ~_has_open_proposal())


def _has_open_proposal() -> ColumnElement[bool]:
    return select(Proposal.id).where(Proposal.pattern_id == Pattern.id, Proposal.state == "open").exists()


def _uncalled(now: datetime) -> Select[int]:
    called = select(PatternEvent.id).where(
        PatternEvent.pattern_id == Pattern.id,
        PatternEvent.kind.in_(("called", "no_answer")),
        PatternEvent.recorded_at > now - CALL_AGAIN,
    )
    # Of an agent without files, itself for one, it says once that it can propose nothing.
    idle = and_(Pattern.state == "open", Pattern.agent.in_(READ_BY), ~called.exists(), ~_has_open_proposal())
    return select(Pattern.id).where(idle).order_by(Pattern.id)


def _locked(session: Session, pattern_id: int) -> Pattern:
    found = session.scalar(select(Pattern).where(Pattern.id == pattern_id).with_for_update())
    if found is None:
        raise NotFound(f"there is no pattern {pattern_id}; it may have been in another database")
    return found


def _set_by_person(  # noqa: PLR0913  a person's change has these parts
    session: Session, pattern: Pattern, *, state: str, kind: str, note: str, actor: Actor
) -> None:
    before: dict[str, Any] = {"state": pattern.state}
    pattern.state = state
    subject = f"pattern:{pattern.id}"
    event(session, pattern.id, kind, note=note, user_id=actor.user_id)
    audit.record(
        session, actor, action=f"pattern.{kind}", subject=subject, before=before, after={"state": state}, note=note
    )
