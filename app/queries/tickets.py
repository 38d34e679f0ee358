"""The queue page: tickets by urgency, filtered, in pages that cost the same however many tickets there are."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from sqlalchemy import ColumnElement, Select, exists, false, func, literal_column, select, tuple_
from typing_extensions import override

from app.errors import BadRequest
from app.tables import SEARCHED, Connection, Escalation, Finding, Ticket, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from decimal import Decimal

    from sqlalchemy.engine import RowMapping
    from sqlalchemy.orm import Session
    from sqlalchemy.sql.base import ReadOnlyColumnCollection
    from sqlalchemy.sql.elements import KeyedColumnElement

    Columns = ReadOnlyColumnCollection[str, KeyedColumnElement[Any]]

PAGE = 50  # rows: two screens
MOST_COUNTED = 1000  # beyond it the page says "1,000+": counting a million rows takes longer than anybody reads them
MOST_QUEUES = 200  # options of a select box
MOST_TERMS = 8  # words of a search; more select nothing more
# Name of a ticket's state -> its urgency, as tables.py has the database compute it; the most urgent first.
STATES: Mapping[str, int] = {"escalate": 6, "fail": 5, "parked": 4, "waiting": 3, "pass": 2, "open": 1}
AGES: Mapping[str, timedelta] = {"1d": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}

Choice = TypeVar("Choice")

_NAMES = {urgency: name for name, urgency in STATES.items()}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Filters:
    """What the address of the queue page says; an empty text filters nothing."""

    verdict: str = ""  # a name of STATES
    criterion: str = ""  # not met in the current verdict
    queue: str = ""
    source: str = ""  # a connection's name
    q: str = ""
    age: str = ""  # a name of AGES: changed within it

    @property
    def given(self) -> dict[str, str]:
        """The filters that filter, for links."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name))}


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
        if not re.fullmatch(r"[1-6]\.\d{1,16}\.\d{1,18}", given, re.ASCII):
            raise BadRequest("this address has a page mark that is not ours; start from the first page")
        urgency, micros, row = map(int, given.split("."))
        return cls(urgency, _EPOCH + timedelta(microseconds=micros), row)


@dataclass(frozen=True)
class TicketRow:
    """`reason` is what decided, in the verdict's words; `rule` the escalation rule where intake escalated."""

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
    changed_at: datetime
    urgency: int

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.urgency, self.changed_at, self.id)


class Page(NamedTuple):
    rows: tuple[TicketRow, ...]
    after: Cursor | None  # None on the last page


def page(session: Session, filters: Filters, *, now: datetime, after: Cursor | None = None, size: int = PAGE) -> Page:
    """One page of tickets, the most urgent first and within that the latest changed."""
    found = session.execute(page_query(filters, now=now, after=after, size=size)).mappings()
    rows = tuple(map(_row, found))
    return Page(rows[:size], rows[size - 1].cursor if len(rows) > size else None)


def page_query(filters: Filters, *, now: datetime, after: Cursor | None, size: int) -> Select[*tuple[Any, ...]]:
    """The page and one row more; ids are chosen from the index first, so that joins touch only what is shown."""
    chosen = _matching(filters, now=now, limit=size + 1, after=after).subquery()
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
            Ticket.changed_at,
            Ticket.urgency,
        )
        .join(chosen, chosen.c.id == Ticket.id)
        .join(Connection, Connection.id == Ticket.connection_id)
        .outerjoin(Verdict, Verdict.id == Ticket.verdict_id)
        .order_by(*_order(Ticket.__table__.c))
    )


def counts(session: Session, *, now: datetime) -> dict[str, int]:
    """State -> how many tickets, counted up to one more than MOST_COUNTED."""
    return {name: count(session, Filters(verdict=name), now=now) for name in STATES}


def count(session: Session, filters: Filters, *, now: datetime) -> int:
    """How many tickets the filters leave, counted up to one more than MOST_COUNTED."""
    found = _matching(filters, now=now, limit=MOST_COUNTED + 1)
    return session.scalar(select(func.count()).select_from(found.subquery())) or 0


def queues(session: Session) -> tuple[str, ...]:
    """The names of queues in use; each is one step in the index, however many tickets it has."""
    names = select(func.min(Ticket.queue).label("queue")).cte("names", recursive=True)
    following = select(func.min(Ticket.queue)).where(Ticket.queue > names.c.queue).scalar_subquery()
    names = names.union_all(select(following).where(names.c.queue.is_not(None)))
    rows = session.scalars(select(names.c.queue).where(names.c.queue != "").limit(MOST_QUEUES))
    return tuple(rows)


def sources(session: Session) -> tuple[str, ...]:
    """The names of all connections."""
    return tuple(session.scalars(select(Connection.name).order_by(Connection.name)))


def _matching(filters: Filters, *, now: datetime, limit: int, after: Cursor | None = None) -> Select[int]:
    """The ids of the first tickets that the filters leave, in order even where they are only counted: the index has it.

    A search first finds all its tickets by its own index: how often a word occurs cannot be guessed, and walking a
    million tickets in order for one that hardly does takes ten seconds.
    """
    columns: Columns = Ticket.__table__.c
    conditions = list(_conditions(filters, now=now))
    if filters.q:
        found = select(Ticket.id, Ticket.urgency, Ticket.changed_at).where(*conditions).cte("found")
        columns, conditions = found.prefix_with("MATERIALIZED").c, []
    if after is not None:
        conditions.append(tuple_(columns.urgency, columns.changed_at, columns.id) < tuple_(*after))
    return select(columns.id).where(*conditions).order_by(*_order(columns)).limit(limit)


def _order(columns: Columns) -> tuple[ColumnElement[Any], ...]:
    return columns.urgency.desc(), columns.changed_at.desc(), columns.id.desc()


def _conditions(filters: Filters, *, now: datetime) -> Iterator[ColumnElement[bool]]:
    if filters.verdict:
        yield Ticket.urgency == _named(STATES, filters.verdict)
    if filters.criterion:
        failed = Finding.criterion == filters.criterion, Finding.result == "not_met"
        yield exists().where(Finding.verdict_id == Ticket.verdict_id, *failed)
    if filters.queue:
        yield Ticket.queue == filters.queue
    if filters.source:
        named = select(Connection.id).where(Connection.name == filters.source)
        yield Ticket.connection_id == named.scalar_subquery()
    if filters.age:
        yield Ticket.changed_at >= now - _named(AGES, filters.age)
    if filters.q:
        yield _found(filters.q)


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
