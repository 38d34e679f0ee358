"""The door for foreign JSON: both forms in, everything unusable out with a sentence, and hashes that hold still."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.masking import revise
from agents.ticket import (
    Revision,
    Ticket,
    TicketError,
    filled_fields,
    parse_jsonl_line,
    pieces,
    read_ticket,
    supplied_fields,
)
from tests.shared import shared_tickets

OURS: dict[str, Any] = {
    "external_id": "INC-1",
    "source": "desk",
    "subject": "VPN drops",
    "description": "Every ten minutes.\n\nSince Monday.",
    "requester": "Ana",
    "priority": "p3",
    "category": "network",
    "status": "Resolved",
    "created_at": "2026-11-09T10:00:00+02:00",
    "closed_at": "2026-11-10T08:00:00Z",
    "url": "https://desk.example.com/1",
    "entries": [
        {"id": 7, "author": "Sam", "author_role": "Agent", "visibility": "internal", "at": "2026-11-09T09:00:00Z",
         "body": "New certificate.", "minutes": 15, "billable": True},
    ],
    "resolution": {"code": "Solved", "note": "Certificate replaced."},
    "events": [{"at": "2026-11-10T08:00:00Z", "from": "open", "to": "resolved"}],
    "customer_tier": "gold",
}  # fmt: skip


def read(**changes: Any) -> Ticket:  # noqa: ANN401  whatever a source might send
    return read_ticket({**OURS, **changes})


def hashed(**changes: Any) -> str:  # noqa: ANN401  whatever a source might send
    return Revision(ticket=read(**changes)).hash


def test_our_form() -> None:
    ticket = read()
    assert (ticket.status, ticket.finished) == ("resolved", True)
    assert ticket.created_at == datetime(2026, 11, 9, 8, tzinfo=UTC)
    entry = ticket.entries[0]
    assert (entry.id, entry.author_role, entry.visibility, entry.minutes, entry.billable) == (
        "7",
        "agent",
        "internal",
        15,
        True,
    )
    assert ticket.extra == {"customer_tier": "gold"}


def test_the_shared_form_means_the_same() -> None:
    entry = {key: value for key, value in OURS["entries"][0].items() if key != "visibility"}
    shared = {key: value for key, value in OURS.items() if key != "entries"}
    assert read_ticket({**shared, "thread": [{**entry, "internal": True}]}) == read()
    assert read_ticket({**shared, "entries": None, "thread": [{**entry, "internal": True}]}) == read()


def test_nulls_are_empty_and_numbers_are_text() -> None:
    ticket = read_ticket(
        {"external_id": 42, "status": "closed", "priority": 3, "description": None, "closed_at": None, "entries": None,
         "thread": [{"body": None, "at": None, "author": None}], "resolution": None, "events": None, "extra": None}
    )  # fmt: skip
    assert (ticket.external_id, ticket.priority, ticket.description, ticket.closed_at) == ("42", "3", "", None)
    assert (ticket.entries[0].body, ticket.entries[0].at, ticket.entries[0].author_role) == ("", None, "other")


def test_a_resolution_as_text_is_its_note() -> None:
    resolution = read(resolution="Certificate replaced.").resolution
    assert resolution is not None
    assert (resolution.code, resolution.note) == ("", "Certificate replaced.")
    assert read(resolution="").resolution is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"external_id": None}, "external_id"),
        ({"external_id": ""}, "external_id"),
        ({"external_id": "x" * 201}, "external_id"),
        ({"external_id": True}, "external_id"),
        ({"status": None}, "status: Input should be 'open', 'pending', 'resolved' or 'closed'"),
        (
            {"status": "waiting"},
            "status: Input should be 'open', 'pending', 'resolved' or 'closed', not 'waiting' (ticket 'INC-1')",
        ),
        ({"status": "w" * 41}, "or 'closed' (ticket"),
        ({"created_at": "yesterday"}, "created_at: Invalid isoformat string: 'yesterday' (ticket"),
        ({"external_id": 7, "queue": []}, "(ticket 7)"),
        ({"created_at": 1700000000}, "give times as ISO 8601"),
        ({"created_at": "0001-01-01T00:00:00+14:00"}, "out of range"),
        ({"subject": ["a"]}, "subject"),
        ({"entries": "text"}, "entries"),
        ({"entries": [{"author_role": "boss"}]}, "entries.0.author_role"),
        ({"entries": [{"minutes": -1}]}, "entries.0.minutes"),
        ({"entries": [{"visibility": "secret"}]}, "entries.0.visibility"),
        ({"entries": [3]}, "entries.0"),
        ({"extra": "text"}, "extra must be an object"),
        ({"extra": 3}, "extra must be an object"),
        ({"events": [{"at": "never"}]}, "events.0.at"),
        ({"status": "x", "created_at": "y"}, "(and 1 more)"),
        ({"subject": "a\x00b"}, "NUL"),
        ({"anything": {"a\x00": 1}}, "NUL"),
        ({"anything": float("nan")}, "not finite"),
        ({"subject": "half \ud800"}, "half of a character"),
    ],
)
def test_bad_fields_are_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(TicketError) as error:
        read(**changes)
    assert says in str(error.value)


@pytest.mark.parametrize("raw", [None, 3, "text", [], [OURS]])
def test_only_an_object_is_a_ticket(raw: object) -> None:
    with pytest.raises(TicketError, match="must be a JSON object"):
        read_ticket(raw)


@pytest.mark.parametrize("missing", ["external_id", "status"])
def test_what_every_ticket_needs(missing: str) -> None:
    with pytest.raises(TicketError, match=f"{missing}: Field required"):
        read_ticket({key: value for key, value in OURS.items() if key != missing})


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("{'external_id': 1}", "not valid JSON"),
        ('{"external_id": "1", "status": "open", "x": NaN}', "NaN"),
        ('{"external_id": "1", "status": "open", "x": 1' + "0" * 5000 + "}", "thousands of digits"),
        ('{"external_id": "1", "status": "open", "x": 1e999}', "not finite"),
        ("[" * 100_000, "nested too deeply"),
        ('{"external_id": "1", "status": "open", "x": ' + "[" * 80 + "]" * 80 + "}", "nested too deeply"),
        (b'{"external_id": "\xff"}', "not UTF-8"),
        ('{"external_id": "1", "status": "open", "subject": "\\u0000"}', "NUL"),
    ],
)
def test_bad_lines(line: str | bytes, says: str) -> None:
    with pytest.raises(TicketError, match=says):
        parse_jsonl_line(line)


def test_text_about_a_nul_is_fine() -> None:
    assert parse_jsonl_line(json.dumps({**OURS, "subject": "\\u0000 in the log"})).subject == "\\u0000 in the log"


def test_a_byte_order_mark_and_half_an_emoji_do_no_harm() -> None:
    line = b"\xef\xbb\xbf" + json.dumps({**OURS, "subject": "cut \U0001f600"[:-1] + "\ud83d"}).encode()
    assert parse_jsonl_line(line).subject == "cut \ufffd"


def test_200_000_characters_are_read() -> None:
    text = "word " * 40_000
    assert read(description=text).description == text


def test_lines_are_numbered_in_reading_order_without_blank_ones() -> None:
    lines = Revision(ticket=read(team="", queue="")).lines
    assert [line.number for line in lines] == list(range(1, 12))
    assert [(line.part, line.text) for line in lines] == [
        ("subject", "VPN drops"),
        ("field", "requester: Ana"),
        ("field", "team: (empty)"),
        ("field", "queue: (empty)"),
        ("field", "category: network"),
        ("field", "priority: p3"),
        ("description", "Every ten minutes."),
        ("description", "Since Monday."),
        ("entry:0", "New certificate."),
        ("resolution", "code: Solved"),
        ("resolution", "Certificate replaced."),
    ]


def test_triage_sees_no_thread() -> None:
    revision = Revision(ticket=read())
    assert revision.intake_lines == revision.lines[:8]


@pytest.mark.parametrize("field", ["subject", "requester", "category"])
@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\u2028", "\x85", "\v"])
def test_a_field_cannot_pass_for_two_lines(field: str, line_break: str) -> None:
    lines = Revision(ticket=read(**{field: f"one{line_break}2| two"})).lines
    assert len(lines) == 11
    assert all(len(line.text.splitlines()) == 1 for line in lines)


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_pieces_lose_nothing_but_line_breaks(text: str) -> None:
    ticket = read(description=text)
    piece = next(piece for piece in pieces(ticket) if piece.part == "description")
    assert all(text[start : start + len(line)] == line for start, line in piece.lines())
    assert [line for _, line in piece.lines()] == text.splitlines()


SAME_HASH: list[dict[str, Any]] = [
    {"status": "closed"},
    {"url": "https://elsewhere.example.com"},
    {"updated_at": "2026-11-20T00:00:00Z"},
    {"source": "other"},
    {"customer_tier": "silver"},
    {"extra": {"a": 1}},
    {"created_at": "2026-11-09T08:00:00Z"},
    # closed by the system three days after it was resolved
    {
        "status": "closed",
        "closed_at": "2026-11-13T08:00:00Z",
        "events": [*OURS["events"], {"at": "2026-11-13T08:00:00Z", "from": "resolved", "to": "closed"}],
    },
    {"events": [{"at": "2026-11-09T10:00:00Z", "from": "new", "to": "open"}, *OURS["events"]]},
]
OTHER_HASH: list[dict[str, Any]] = [
    {"status": "open"},
    {"status": "pending"},
    {"subject": "VPN drop"},
    {"priority": "p2"},
    {"assignee": "Kim"},
    {"entries": []},
    {"entries": [{**OURS["entries"][0], "minutes": 16}]},
    {"resolution": None},
    {"events": [], "closed_at": "2026-11-10T08:00:01Z"},
    {"events": [*OURS["events"], {"at": "2026-11-11T08:00:00Z", "from": "resolved", "to": "open"}]},
]


@pytest.mark.parametrize("changes", SAME_HASH)
def test_the_hash_ignores_what_nobody_judges(changes: dict[str, Any]) -> None:
    assert hashed(**changes) == hashed()


@pytest.mark.parametrize("changes", OTHER_HASH)
def test_the_hash_sees_what_agents_and_checks_read(changes: dict[str, Any]) -> None:
    assert hashed(**changes) != hashed()


def test_the_intake_hash_follows_intake_only() -> None:
    def intake(**changes: Any) -> str:  # noqa: ANN401  whatever a source might send
        return Revision(ticket=read(**changes)).intake_hash

    assert intake(status="open", entries=[], resolution=None) == intake()
    assert intake(description="Every minute.") != intake()


def test_two_secrets_of_one_length_hash_alike_and_the_value_is_in_neither() -> None:
    first, second = (revise(read(description=f"password: {value}")) for value in ("Summer2026!", "Winter2027!"))
    assert first.hash == second.hash


@pytest.mark.parametrize(
    ("changes", "moment"),
    [
        ({"events": []}, datetime(2026, 11, 10, 8, tzinfo=UTC)),
        ({"events": [], "closed_at": None}, None),
        ({"closed_at": "2026-11-13T08:00:00Z"}, datetime(2026, 11, 10, 8, tzinfo=UTC)),
        ({"events": [{"from": "open", "to": "Solved"}]}, datetime(2026, 11, 10, 8, tzinfo=UTC)),
    ],
)
def test_when_work_ended(changes: dict[str, Any], moment: datetime | None) -> None:
    assert read(**changes).finished_at == moment


def test_what_a_source_supplies() -> None:
    bare = read_ticket({"external_id": "2", "status": "open"})
    assert filled_fields(bare) == frozenset()
    assert filled_fields(read()) == {"priority", "category", "minutes", "billable", "events", "resolution"}
    assert supplied_fields([bare, read(events=[], entries=[])]) == {"priority", "category", "resolution"}
    assert filled_fields(read(resolution=None, entries=[{"visibility": "resolution"}])) >= {"resolution"}
    assert supplied_fields([]) == frozenset()


def test_real_tickets_are_read() -> None:
    for raw in shared_tickets():
        ticket = read_ticket(raw)
        assert len(ticket.entries) == len(raw["thread"])
        assert "labels" in ticket.extra
