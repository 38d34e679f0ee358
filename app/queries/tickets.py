"""The queue page: tickets by urgency, filtered, in pages that cost the same however many tickets there are."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from sqlalchemy import ColumnElement, Select, and_, case, exists, false, func, literal_column, or_, select, tuple_
from sqlalchemy.orm import aliased
from typing_extensions import override

from app.errors import BadRequest
from app.tables import SEARCHED, BlindCheck, Connection, Escalation, Finding, Label, Ticket, User, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from decimal import Decimal

    from sqlalchemy.engine import RowMapping
    from sqlalchemy.orm import InstrumentedAttribute, Session
    from sqlalchemy.sql.base import ReadOnlyColumnCollection
    from sqlalchemy.sql.elements import KeyedColumnElement

    Columns = ReadOnlyColumnCollection[str, KeyedColumnElement[Any]]

PAGE = 50  # rows: two screens
MOST_COUNTED = 1000  # beyond it the page says "1,000+": counting a million rows takes longer than anybody reads them
MOST_NAMES = 200  # options of a select box
MOST_TERMS = 8  # words of a search; more select nothing more
# Name of a ticket's state -> its urgency, as tables.py has the database compute it; the most urgent first.
STATES: Mapping[str, int] = {
    "escalate": 6, "fail": 5, "parked": 4, "waiting": 3, "pass": 2, "open": 1, "decided": 0,
}  # fmt: skip
NEED_DECISION = ("escalate", "fail")  # what the queue shows unless it is asked for something else
ALL = "all"
AGES: Mapping[str, timedelta] = {"1d": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
CLAIMS = ("mine", "nobody")

Choice = TypeVar("Choice")

_LEAST_NEEDING = min(STATES[name] for name in NEED_DECISION)
_NAMES = {urgency: name for name, urgency in STATES.items()}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Filters:
    """What the address of the queue page says; an empty text filters nothing."""

    verdict: str = ""  # a name of STATES, or ALL; empty: what needs a decision, or where one searches, ALL
    criterion: str = ""  # not met in the current verdict
    queue: str = ""
    source: str = ""  # a connection's name
    assignee: str = ""
    claimed: str = ""  # one of CLAIMS
    q: str = ""
    age: str = ""  # a name of AGES: changed within it

    @property
    def given(self) -> dict[str, str]:
        """The filters that filter, for links."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name))}

    @property
    def shown(self) -> str:
        """What `verdict` comes to: whoever searches looks for a ticket, wherever it stands."""
        return self.verdict or (ALL if self.q else "")

    @property
    def urgencies(self) -> tuple[int, ...]:
        """Of the states that are shown, the most urgent first."""
        if not self.shown:
            return tuple(STATES[name] for name in NEED_DECISION)
        return _named({**{name: (urgency,) for name, urgency in STATES.items()}, ALL: (*_NAMES,)}, self.shown)


class Cursor(NamedTuple):
    """The last row of a page: the next page begins after it."""

    urgency: int
    changed_at: datetime
    id: int

    @override
    def __str__(self) -> str:
        return f"{self.urgency}.{(self.changed_at - _EPOCH) // timedelta(microseconds=1)}.{self.id}"

    @classmethod
    def read(cls, given: str) -> Cursor:
        if not re.fullmatch(r"[0-6]\.\d{1,16}\.\d{1,18}", given, re.ASCII):
            raise BadRequest("this address has a page mark that is not ours; start from the first page")
        urgency, micros, row = map(int, given.split("."))
        return cls(urgency, _EPOCH + timedelta(microseconds=micros), row)


@dataclass(frozen=True)
class TicketRow:
    """`reason` is what decided, in the verdict's words; `rule` the escalation rule where intake escalated.

    `decision` is a person's, of the kind that labels know; `decided_by` and `claimed_by` are names.
    """

    id: int
    external_id: str
    subject: str
    queue: str
    assignee: str
    source: str
    state: str
    score: Decimal | None
    reason: str
    rule: str | None
    panel: str | None
    demonstration: bool
    sample: bool
    decision: str | None
    decided_by: str | None
    decided_kind: str | None
    claimant: int | None
    claimed_by: str | None
    claimed_at: datetime | None
    changed_at: datetime
    urgency: int

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.urgency, self.changed_at, self.id)


class Page(NamedTuple):
    rows: tuple[TicketRow, ...]
    after: Cursor | None  # None on the last page


def page(  # noqa: PLR0913  what the address of a page says
    session: Session,
    filters: Filters,
    *,
    now: datetime,
    me: int | None = None,
    after: Cursor | None = None,
    size: int = PAGE,
) -> Page:
    """One page of tickets, the most urgent first. What needs a decision: the longest waiting first; else the latest.

    `me` is who asks: what this person still has to check blind is left out.
    """
    rows: list[TicketRow] = []
    for part in _parts(filters, after=after):
        if len(rows) <= size:
            chosen = _matching(filters, part=part, now=now, me=me, after=after, limit=size + 1 - len(rows))
            rows += map(_row, session.execute(_shown(chosen, part)).mappings())
    return Page(tuple(rows[:size]), rows[size - 1].cursor if len(rows) > size else None)


def _parts(filters: Filters, *, after: Cursor | None = None) -> Iterator[tuple[int, ...]]:
    """The urgencies that one statement reads: each by itself, because each lies in the index in its own order.

    A search finds all its tickets by another index first, and so reads all at once.
    """
    urgencies = tuple(one for one in filters.urgencies if after is None or one <= after.urgency)
    if filters.q and urgencies:
        yield urgencies
    elif not filters.q:
        yield from ((one,) for one in urgencies)


def _shown(chosen: Select[int], part: Sequence[int]) -> Select[*tuple[Any, ...]]:
    """What a page shows of the chosen tickets: ids first, so that joins touch only these."""
    ids = chosen.subquery()
    claimant, decider = aliased(User), aliased(User)
    rule = select(Escalation.rule).where(Escalation.ticket_id == Ticket.id).order_by(Escalation.id.desc()).limit(1)
    return (
        select(
            Ticket.id,
            Ticket.external_id,
            Ticket.subject,
            Ticket.queue,
            Ticket.assignee,
            Connection.name.label("source"),
            Ticket.score,
            Ticket.review_note,
            Ticket.outcome,
            rule.scalar_subquery().label("rule"),
            Verdict.reasons[0].astext.label("decided"),
            Verdict.panel,
            func.coalesce(Verdict.demonstration, false()).label("demonstration"),
            Ticket.sample,
            Ticket.decision,
            decider.name.label("decided_by"),
            Label.kind.label("decided_kind"),
            Ticket.claimed_by.label("claimant"),
            claimant.name.label("claimed_by"),
            Ticket.claimed_at,
            Ticket.changed_at,
            Ticket.urgency,
        )
        .join(ids, ids.c.id == Ticket.id)
        .join(Connection, Connection.id == Ticket.connection_id)
        .outerjoin(Verdict, Verdict.id == Ticket.verdict_id)
        .outerjoin(Label, Label.id == Ticket.label_id)
        .outerjoin(decider, decider.id == Label.user_id)
        .outerjoin(claimant, claimant.id == Ticket.claimed_by)
        .order_by(*_order(Ticket.__table__.c, part))
    )


def counts(session: Session, *, now: datetime, me: int | None = None) -> dict[str, int]:
    """State -> how many tickets, counted up to one more than MOST_COUNTED."""
    return {name: count(session, Filters(verdict=name), now=now, me=me) for name in STATES}


def count(session: Session, filters: Filters, *, now: datetime, me: int | None = None) -> int:
    """How many tickets the filters leave, counted up to one more than MOST_COUNTED."""
    found = 0
    for part in _parts(filters):
        some = _matching(filters, part=part, now=now, me=me, limit=MOST_COUNTED + 1 - found)
        found += session.scalar(select(func.count()).select_from(some.subquery())) or 0
    return found


def queues(session: Session) -> tuple[str, ...]:
    """The names of queues in use."""
    return _in_use(session, Ticket.queue)


def assignees(session: Session) -> tuple[str, ...]:
    """The names of those whom tickets are assigned to."""
    return _in_use(session, Ticket.assignee)


def _in_use(session: Session, column: InstrumentedAttribute[str]) -> tuple[str, ...]:
    """Each name is one step in the index, however many tickets it has."""
    names = select(func.min(column).label("name")).cte("names", recursive=True)
    following = select(func.min(column)).where(column > names.c.name).scalar_subquery()
    names = names.union_all(select(following).where(names.c.name.is_not(None)))
    return tuple(session.scalars(select(names.c.name).where(names.c.name != "").limit(MOST_NAMES)))


def sources(session: Session) -> tuple[str, ...]:
    """The names of all connections."""
    return tuple(session.scalars(select(Connection.name).order_by(Connection.name)))


def _matching(  # noqa: PLR0913  what the address of a page says
    filters: Filters,
    *,
    part: Sequence[int],
    now: datetime,
    me: int | None,
    limit: int,
    after: Cursor | None = None,
) -> Select[int]:
    """The ids of the first tickets that the filters leave, in order even where they are only counted: the index has it.

    A search first finds all its tickets by its own index: how often a word occurs cannot be guessed, and walking a
    million tickets in order for one that hardly does takes ten seconds.
    """
    columns: Columns = Ticket.__table__.c
    conditions = [*_conditions(filters, now=now, me=me), _of(columns, part)]
    if filters.q:
        found = select(Ticket.id, Ticket.urgency, Ticket.changed_at).where(*conditions).cte("found")
        columns, conditions = found.prefix_with("MATERIALIZED").c, []
    if after is not None and after.urgency in part:
        conditions.append(_beyond(columns, part, after))
    return select(columns.id).where(*conditions).order_by(*_order(columns, part)).limit(limit)


def _of(columns: Columns, part: Sequence[int]) -> ColumnElement[bool]:
    return columns.urgency == part[0] if len(part) == 1 else columns.urgency.in_(part)


def _beyond(columns: Columns, part: Sequence[int], after: Cursor) -> ColumnElement[bool]:
    place, mark = tuple_(columns.changed_at, columns.id), tuple_(after.changed_at, after.id)
    same = place > mark if after.urgency >= _LEAST_NEEDING else place < mark
    if len(part) == 1:
        return same
    return or_(columns.urgency < after.urgency, and_(columns.urgency == after.urgency, same))


def _order(columns: Columns, part: Sequence[int]) -> tuple[ColumnElement[Any], ...]:
    """What needs a decision: the longest waiting first; anything else: the latest. Both ways through one index."""
    if min(part) >= _LEAST_NEEDING:
        return columns.urgency.desc(), columns.changed_at, columns.id
    if max(part) < _LEAST_NEEDING:
        return columns.urgency.desc(), columns.changed_at.desc(), columns.id.desc()
    needs = columns.urgency >= _LEAST_NEEDING
    oldest, newest = case((needs, columns.changed_at)), case((~needs, columns.changed_at))
    return columns.urgency.desc(), oldest, newest.desc(), case((needs, columns.id), else_=-columns.id)


def _conditions(filters: Filters, *, now: datetime, me: int | None) -> Iterator[ColumnElement[bool]]:
    if filters.criterion:
        failed = Finding.criterion == filters.criterion, Finding.result == "not_met"
        yield exists().where(Finding.verdict_id == Ticket.verdict_id, *failed)
    if filters.queue:
        yield Ticket.queue == filters.queue
    if filters.source:
        named = select(Connection.id).where(Connection.name == filters.source)
        yield Ticket.connection_id == named.scalar_subquery()
    if filters.assignee:
        yield Ticket.assignee == filters.assignee
    if filters.claimed:
        mine, nobody = Ticket.claimed_by == me, Ticket.claimed_by.is_(None)
        yield _named(dict(zip(CLAIMS, (mine, nobody), strict=True)), filters.claimed)
    if me is not None:
        yield ~_to_check_blind(me)
    if filters.age:
        yield Ticket.changed_at >= now - _named(AGES, filters.age)
    if filters.q:
        yield _found(filters.q)


def _to_check_blind(me: int) -> ColumnElement[bool]:
    """Even the list that it is in would tell what the machine said."""
    mine = BlindCheck.user_id == me, BlindCheck.label_id.is_(None)
    return exists().where(BlindCheck.revision_id == Ticket.revision_id, *mine)


def _named(choices: Mapping[str, Choice], given: str) -> Choice:
    if given not in choices:
        raise BadRequest(f"this address asks for {given[:40]!r}; it may be one of {', '.join(choices)}")
    return choices[given]


def _found(given: str) -> ColumnElement[bool]:
    """Every word of the search begins a word of the ticket's id or subject."""
    terms = re.findall(r"[^\W_]+", given)[:MOST_TERMS]
    query = func.to_tsquery("simple", " & ".join(f"'{term}':*" for term in terms))
    return literal_column(SEARCHED).op("@@")(query) if terms else false()


def _row(row: RowMapping) -> TicketRow:
    values = {name: row[name] for name in row if name not in {"outcome", "review_note", "decided"}}
    state = _NAMES[row["urgency"]]
    return TicketRow(**values, state=state, reason=_reason(row, state) or "")


def _reason(row: RowMapping, state: str) -> str | None:
    """In the words of what put the ticket where it stands; none where intake's rule did, or nothing has happened."""
    if state in {"parked", "waiting"}:
        return cast("str", row["review_note"])
    return cast("str | None", row["decided"]) if row["outcome"] == state else None
