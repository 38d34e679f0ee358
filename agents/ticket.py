"""The ticket as every agent and check reads it, and the one door through which foreign JSON becomes one."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Status = Literal["open", "pending", "resolved", "closed"]
Role = Literal["requester", "agent", "system", "other"]
Visibility = Literal["public", "internal", "resolution"]

FINISHED: frozenset[Status] = frozenset({"resolved", "closed"})
# What a source may leave out altogether; a check that needs one is not applicable where the source never has it.
OPTIONAL_FIELDS = ("priority", "category", "minutes", "billable", "events", "resolution")


class TicketError(ValueError):
    """A ticket that cannot be read; the message says which field and what to do."""


def _utc(value: object) -> object:
    """ISO 8601 in, an aware UTC time out; a time without a zone counts as UTC."""
    if value is None or value == "":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        msg = "give times as ISO 8601, for instance 2026-11-23T09:30:00Z"
        raise ValueError(msg)  # noqa: TRY004  pydantic turns a ValueError into its own
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if isinstance(moment, datetime):
        try:
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except OverflowError:
            msg = "this time is out of range"
            raise ValueError(msg) from None
    return moment


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _text(value: object) -> object:
    """Numbers become text (ids and priorities often are), null becomes empty."""
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


Moment = Annotated[datetime | None, BeforeValidator(_utc)]
Text = Annotated[str, BeforeValidator(_text)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Entry(_Frozen):
    """One contribution to the thread. `minutes` is work time; None means that the source gave none."""

    id: Text = ""
    author: Text = ""
    author_role: Annotated[Role, BeforeValidator(_lower)] = "other"
    visibility: Annotated[Visibility, BeforeValidator(_lower)] = "public"
    at: Moment = None
    body: Text = ""
    minutes: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    billable: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _internal_flag(cls, raw: Any) -> Any:  # noqa: ANN401  whatever the file held
        """The shared data sets say `internal: true` where we say `visibility: internal`."""
        if isinstance(raw, Mapping) and "visibility" not in raw and isinstance(raw.get("internal"), bool):
            return {**raw, "visibility": "internal" if raw["internal"] else "public"}
        return raw


class Resolution(_Frozen):
    code: Text = ""
    note: Text = ""


class StatusChange(_Frozen):
    """One change of status, where the source keeps them; a finished ticket that opened again was reopened."""

    at: Moment = None
    from_: Text = Field(default="", alias="from")
    to: Text = ""

    @property
    def was_finished(self) -> bool:
        return self.from_.strip().lower() in _FINISHED_WORDS

    @property
    def is_finished(self) -> bool:
        return self.to.strip().lower() in _FINISHED_WORDS


# Events keep the source's own words; these are what ticketing systems call a ticket that is done.
_FINISHED_WORDS = frozenset({"resolved", "closed", "solved", "done", "completed", "complete", "finished"})


class Ticket(_Frozen):
    """What the ticketing system holds, in our words. `extra` is kept for people and never shown to a model."""

    external_id: Annotated[str, BeforeValidator(_text), Field(min_length=1, max_length=200)]
    source: Text = ""
    subject: Text = ""
    description: Text = ""
    requester: Text = ""
    assignee: Text = ""
    team: Text = ""
    queue: Text = ""
    priority: Text = ""
    category: Text = ""
    status: Annotated[Status, BeforeValidator(_lower)]
    created_at: Moment = None
    closed_at: Moment = None
    updated_at: Moment = None
    url: Text = ""
    entries: tuple[Entry, ...] = ()
    resolution: Resolution | None = None
    events: tuple[StatusChange, ...] = ()
    extra: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _both_forms(cls, raw: Any) -> Any:  # noqa: ANN401  whatever the file held
        """Our form and the shared data sets' form (`thread`, `resolution` as object) become one."""
        if not isinstance(raw, Mapping):
            return raw
        known = dict(raw)
        if known.get("entries") is None and "thread" in known:
            known["entries"] = known.pop("thread")
        for name in ("entries", "events"):
            known[name] = known.get(name) or ()
        if isinstance(known.get("resolution"), str):
            known["resolution"] = {"note": known["resolution"]} if known["resolution"] else None
        if not isinstance(known.get("extra") or {}, Mapping):
            msg = "extra must be an object"
            raise ValueError(msg)  # noqa: TRY004  pydantic turns a ValueError into its own
        extra = dict(known.get("extra") or {})
        for name in [name for name in known if name not in cls.model_fields]:
            extra[name] = known.pop(name)
        return {**known, "extra": extra}

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @property
    def crossings(self) -> tuple[StatusChange, ...]:
        """The changes of status between unfinished and finished, either way."""
        return tuple(event for event in self.events if event.was_finished != event.is_finished)

    @property
    def finished_at(self) -> datetime | None:
        """When work ended: the last change into a finished status where events tell, else `closed_at`."""
        ended = [event.at for event in self.crossings if event.is_finished and event.at is not None]
        return max(ended) if ended else self.closed_at


def read_ticket(raw: object) -> Ticket:
    """A decoded JSON object in either accepted form -> Ticket. Raises TicketError naming field and remedy."""
    if not isinstance(raw, Mapping):
        raise TicketError(f"a ticket must be a JSON object, not {type(raw).__name__}")
    _refuse_unstorable(raw)
    try:
        return Ticket.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "ticket"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise TicketError(f"{where}: {_said(first)}{more}{_which(raw)}") from None


LONGEST_SHOWN = 40  # characters of a value in a message


def _said(problem: ErrorDetails) -> str:
    """Pydantic's words without its own jargon; of a choice also what was given instead."""
    said = problem["msg"].removeprefix("Value error, ")
    given = problem["input"]
    named = problem["type"] == "literal_error" and isinstance(given, str) and len(given) <= LONGEST_SHOWN
    return f"{said}, not {given!r}" if named else said


def _which(raw: Mapping[Any, Any]) -> str:
    """The ticket's own id, by which people find it where it came from."""
    given = raw.get("external_id")
    shown = isinstance(given, str | int) and not isinstance(given, bool) and 0 < len(str(given)) <= LONGEST_SHOWN
    return f" (ticket {given!r})" if shown else ""


MAX_DEPTH = 64  # a ticket needs about five levels; deeper is an attack on whoever reads it recursively
_HALF = re.compile(r"[\ud800-\udfff]")


def _values(raw: object) -> Iterator[object]:
    """Every key and value inside, without recursion. Raises TicketError beyond MAX_DEPTH."""
    level: list[object] = [raw]
    for _ in range(MAX_DEPTH):
        yield from level
        inner: list[object] = []
        for value in level:
            if isinstance(value, Mapping):
                inner += [*value.keys(), *value.values()]
            elif isinstance(value, list | tuple):
                inner += value
        level = inner
        if not level:
            return
    raise TicketError(f"JSON nested too deeply (more than {MAX_DEPTH} levels)")


def _refuse_unstorable(raw: object) -> None:
    """What neither database nor hash can hold stops at the door."""
    for value in _values(raw):
        if isinstance(value, str) and "\0" in value:
            raise TicketError("the ticket contains a NUL character (\\u0000); remove it at the source")
        if isinstance(value, str) and _HALF.search(value):
            raise TicketError("the ticket contains half of a character (a lone surrogate); remove it at the source")
        if isinstance(value, float) and not math.isfinite(value):
            raise TicketError("the ticket contains a number that is not finite; remove it at the source")


class Line(NamedTuple):
    """One citable line. `part` is subject, field, description, entry:<index> or resolution."""

    number: int
    part: str
    text: str


class Masked(NamedTuple):
    """Where a secret stood: characters start..end of a line, and what kind it was. Never the value."""

    line: int
    start: int
    end: int
    kind: str


FIELD_LINES = ("requester", "team", "queue", "category", "priority")


_BREAK = re.compile("[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")  # where str.splitlines splits


class Piece(NamedTuple):
    """One text of a ticket as it is cited: a label that we add, the text, and whether it is one line by nature."""

    part: str
    text: str
    label: str = ""
    one_line: bool = False

    def lines(self) -> list[tuple[int, str]]:
        """Each line with where in `text` it starts. A break inside a one-line text becomes a space.

        Otherwise a subject could pass off its second half as another, numbered line.
        """
        if self.one_line:
            return [(-len(self.label), self.label + _BREAK.sub(" ", self.text))]
        found, position = [], 0
        for whole in self.text.splitlines(keepends=True):
            found.append((position, _BREAK.sub("", whole)))
            position += len(whole)
        return found


def pieces(ticket: Ticket) -> Iterator[Piece]:
    """Everything that can be cited, in reading order."""
    yield Piece("subject", ticket.subject, one_line=True)
    for name in FIELD_LINES:
        yield Piece("field", getattr(ticket, name) or "(empty)", label=f"{name}: ", one_line=True)
    yield Piece("description", ticket.description)
    for index, entry in enumerate(ticket.entries):
        yield Piece(f"entry:{index}", entry.body)
    if ticket.resolution is not None:
        if ticket.resolution.code:
            yield Piece("resolution", ticket.resolution.code, label="code: ", one_line=True)
        yield Piece("resolution", ticket.resolution.note)


class Revision(_Frozen):
    """One immutable state of a ticket, secrets already masked. Build it with `agents.masking.revise`."""

    ticket: Ticket
    masked: tuple[Masked, ...] = ()

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """Every non-blank line, numbered from 1 in reading order; triage's lines come first and keep their numbers."""
        kept = ((piece.part, text) for piece in pieces(self.ticket) for _, text in piece.lines() if text.strip())
        return tuple(Line(number, part, text) for number, (part, text) in enumerate(kept, start=1))

    @cached_property
    def intake_lines(self) -> tuple[Line, ...]:
        """What triage may see: subject, fields and description, never the thread."""
        return tuple(line for line in self.lines if line.part in {"subject", "field", "description"})

    @cached_property
    def hash(self) -> str:
        """Content hash over what agents and checks read; resolved and closed count as one value.

        A system that closes resolved tickets by itself days later must not have each of them judged and paid again.
        """
        ticket = self.ticket
        read = ticket.model_dump(mode="json", exclude={"extra", "url", "updated_at", "source", "events"})
        finished_at = ticket.finished_at.isoformat() if ticket.finished_at else None
        crossings = [event.model_dump(mode="json") for event in ticket.crossings]
        status = "finished" if ticket.finished else ticket.status
        return _digest({**read, "status": status, "closed_at": finished_at, "events": crossings})

    @cached_property
    def intake_hash(self) -> str:
        """Content hash over what triage reads."""
        return _digest([line.text for line in self.intake_lines])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def supplied_fields(tickets: Iterable[Ticket]) -> frozenset[str]:
    """Which optional fields at least one of these tickets fills; the rest are fields their source never supplies."""
    found: set[str] = set()
    for ticket in tickets:
        found |= filled_fields(ticket)
    return frozenset(found)


def filled_fields(ticket: Ticket) -> frozenset[str]:
    """The optional fields that this one ticket fills."""
    filled = {name for name in ("priority", "category") if getattr(ticket, name).strip()}
    if any(entry.minutes is not None for entry in ticket.entries):
        filled.add("minutes")
    if any(entry.billable is not None for entry in ticket.entries):
        filled.add("billable")
    if ticket.events:
        filled.add("events")
    has_note = ticket.resolution is not None and (ticket.resolution.note or ticket.resolution.code).strip()
    if has_note or any(entry.visibility == "resolution" for entry in ticket.entries):
        filled.add("resolution")
    return frozenset(filled)


def parse_jsonl_line(line: str | bytes) -> Ticket:
    """One JSONL line -> Ticket; malformed JSON and wrong encodings become TicketError like any other bad field."""
    return read_ticket(read_json(line))


def read_json(data: str | bytes) -> Any:  # noqa: ANN401  whatever was sent
    """JSON text -> value, without halves of characters (systems that cut texts leave them). Raises TicketError."""
    try:
        raw = json.loads(data.decode("utf-8-sig") if isinstance(data, bytes) else data, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise TicketError(f"not UTF-8 at byte {error.start}; save or send it as UTF-8") from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise TicketError(f"not valid JSON: {error.msg} at {line}column {error.colno}") from None
    except RecursionError:
        raise TicketError("JSON nested too deeply") from None
    except TicketError:
        raise
    except ValueError:  # Python converts no whole number of more than 4,300 digits
        raise TicketError("not valid JSON: a number with thousands of digits") from None
    if [value for value in _values(raw) if isinstance(value, str) and _HALF.search(value)]:  # a list: depth is checked
        raw = json.loads(_HALF.sub("\ufffd", json.dumps(raw, ensure_ascii=False)))
    return raw


def _no_constant(name: str) -> None:
    raise TicketError(f"not valid JSON: {name} is not a number")
