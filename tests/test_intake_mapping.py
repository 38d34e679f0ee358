"""Field maps: what is refused when a map is made, what a map makes of foreign JSON, and what it cannot read."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from agents.ticket import TicketError, read_ticket
from app.errors import FieldMapError
from app.intake.mapping import MAX_ITEMS, apply, parse_field_map
from app.intake.reading import MAX_TICKETS, read_body

MAPS = Path(__file__).resolve().parent.parent / "docs" / "field-maps"
SMALL: dict[str, Any] = {"external_id": {"path": "id"}, "status": {"path": "state", "values": {"4": "closed"}}}


def problem(**changes: object) -> str:
    with pytest.raises(FieldMapError) as caught:
        parse_field_map({**SMALL, **changes})
    return str(caught.value)


def mapped(document: object, **changes: object) -> dict[str, Any]:
    return apply(parse_field_map({**SMALL, **changes}), document)


def unreadable(document: object, **changes: object) -> str:
    with pytest.raises(TicketError) as caught:
        read_ticket(mapped(document, **changes))
    return str(caught.value)


def test_an_unknown_field_is_named_with_those_there_are() -> None:
    message = problem(title={"path": "name"})
    assert message.startswith("title: there is no such field; known are assignee, category, closed_at")


@pytest.mark.parametrize(
    ("path", "character"), [("a..b", 3), ("a[", 3), ('a."b', 3), ("a b", 3), ("a.#", 3), ("length(", 8)]
)
def test_a_bad_path_is_refused_with_its_place(path: str, character: int) -> None:
    message = problem(subject={"path": path})
    assert message.startswith(f"subject: `{path}` is no JMESPath: ")
    assert message.endswith(f"at character {character}")


@pytest.mark.parametrize("path", ["", "a[?shout(@)]", "shout(a)", "a[].{b: shout(c)}"])
def test_an_empty_path_and_unknown_functions_are_refused(path: str) -> None:
    assert problem(subject={"path": path}).startswith(f"subject: `{path}` ")


@pytest.mark.parametrize("given", ["a.b", None, {}, {"path": 7}, {"Path": "a"}, ["a"]])
def test_a_field_that_is_no_object_with_a_path(given: object) -> None:
    assert problem(subject=given) == 'subject: give {"path": "..."} with a JMESPath'


def test_further_mistakes_each_have_their_line() -> None:
    lines = problem(
        subject={"path": "a", "value": {}},
        priority={"path": "p", "values": ["high"]},
        queue={"path": "q", "values": {"1": 1}},
        entries={"path": "notes"},
        events={"path": "changes", "fields": {"when": {"path": "x"}}},
        resolution={"path": "r", "fields": []},
        status={"path": "s", "values": {"1": "done"}},
    ).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "status", "subject", "priority", "queue", "entries", "events.when", "resolution",
    ]  # fmt: skip
    assert "status: 'done' is none of open, pending, resolved, closed" in lines
    assert 'entries: say what each item holds with "fields"' in lines


@pytest.mark.parametrize("raw", [None, [], "x", {}, {"status": {"path": "s"}}])
def test_external_id_and_status_cannot_be_left_out(raw: object) -> None:
    with pytest.raises(FieldMapError, match="external_id: missing, every ticket needs it"):
        parse_field_map(raw)


def test_values_are_looked_up_as_json_writes_them_without_regard_to_case() -> None:
    values = {"4": "closed", "true": "pending", "null": "open", "Solved": "resolved"}
    status = {"path": "state", "values": values}
    seen = [
        mapped({"id": 1, "state": state}, status=status)["status"] for state in (4, "4", True, "SOLVED", " solved ")
    ]
    assert seen == ["closed", "closed", "pending", "resolved", "resolved"]
    assert mapped({"id": 1}, status=status)["status"] == "open"


def test_a_star_is_every_other_value() -> None:
    status = {"path": "state", "values": {"4": "closed", "*": "open"}}
    assert mapped({"id": 1, "state": "whatever"}, status=status)["status"] == "open"


def test_an_unmapped_status_is_named() -> None:
    assert unreadable({"id": 1, "state": 17}) == 'status: the value 17 is not in the field map; add it to "values"'
    assert '"on \\u0000 hold"' in unreadable({"id": 1, "state": "on \0 hold"})
    assert len(unreadable({"id": 1, "state": "x" * 100_000})) < 200


def test_our_own_words_need_no_values() -> None:
    assert mapped({"id": 1, "state": "Closed"})["status"] == "Closed"
    assert read_ticket(mapped({"id": 1, "state": "Closed"})).status == "closed"


def test_values_of_open_fields_pass_where_they_are_not_listed() -> None:
    priority = {"path": "p", "values": {"1": "high"}}
    assert mapped({"id": 1, "state": 4, "p": "urgent"}, priority=priority)["priority"] == "urgent"


@pytest.mark.parametrize("document", [{"state": 4}, {"id": None, "state": 4}, {"id": "", "state": 4}, [], 7, None])
def test_a_missing_id_names_its_path(document: object) -> None:
    assert unreadable(document) == "external_id: the delivery holds nothing at `id`"


def test_a_missing_status_names_its_path() -> None:
    assert unreadable({"id": 1}) == "status: the delivery holds nothing at `state`"


def test_a_path_that_leads_to_something_else_is_a_reason_not_an_error() -> None:
    assert "subject" in unreadable({"id": 1, "state": 4, "s": {"a": 1}}, subject={"path": "s"})
    entries = {"path": "notes", "fields": {"body": {"path": "text"}}}
    message = unreadable({"id": 1, "state": 4, "notes": "x"}, entries=entries)
    assert message == "entries: `notes` must lead to a list, not str"


def test_a_function_that_cannot_take_the_value_does_not_repeat_it() -> None:
    message = unreadable({"id": 1, "state": 4, "s": "hunter2"}, subject={"path": "sort(s)"})
    assert message == "subject: `sort(s)` cannot be applied here: sort() cannot take this"


def test_lists_and_objects_inside() -> None:
    found = mapped(
        {"id": 1, "state": 4, "notes": [{"text": "a", "own": True}, {"text": None}], "end": {"why": "done"}},
        entries={
            "path": "notes",
            "fields": {
                "body": {"path": "text"},
                "author_role": {"path": "own", "values": {"true": "agent", "*": "other"}},
            },
        },
        resolution={"path": "end", "fields": {"note": {"path": "why"}}},
        events={"path": "none", "fields": {"to": {"path": "x"}}},
    )
    ticket = read_ticket(found)
    assert [(entry.body, entry.author_role) for entry in ticket.entries] == [("a", "agent"), ("", "other")]
    assert ticket.resolution is not None
    assert ticket.resolution.note == "done"
    assert ticket.events == ()


def test_an_unmapped_role_in_an_entry_names_its_field() -> None:
    entries = {"path": "notes", "fields": {"author_role": {"path": "by", "values": {"staff": "agent"}}}}
    message = unreadable({"id": 1, "state": 4, "notes": [{"by": "robot"}]}, entries=entries)
    assert message == 'entries.author_role: the value "robot" is not in the field map; add it to "values"'


def test_too_many_items_are_refused_before_they_cost_anything() -> None:
    entries = {"path": "notes", "fields": {"body": {"path": "a.b.c.d"}}}
    started = time.monotonic()
    message = unreadable({"id": 1, "state": 4, "notes": [0] * 900_000}, entries=entries)
    assert message == f"entries: 900,000 items; a ticket may have {MAX_ITEMS:,}"
    assert time.monotonic() - started < 1


Json = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(),
    lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
    max_leaves=20,
)


@given(document=Json)
def test_any_json_becomes_a_ticket_or_a_reason(document: object) -> None:
    field_map = parse_field_map(json.loads((MAPS / "django-helpdesk.json").read_text()))
    for shaped in (document, {"ticket": document}, {"ticket": {"id": 1, "status": 4, "followup_set": document}}):
        try:
            read_ticket(apply(field_map, shaped))
        except TicketError as error:
            assert str(error)  # noqa: PT017  either way of ending is right; any other exception fails


# Composed after the shape that was recorded from django-helpdesk 2.6.1.
HELPDESK = {
    "ticket": {
        "id": 31,
        "queue": 2,
        "title": "Scanner sends empty files",
        "description": "The scanner in room 4 mails me empty PDF files. Zoë",
        "resolution": "Fixed: new mail password stored on the scanner.",
        "submitter_email": "zoe@customer.example",
        "assigned_to": 2,
        "status": 4,
        "on_hold": False,
        "priority": 3,
        "due_date": None,
        "merged_to": None,
        "followup_set": [
            {
                "id": 70, "ticket": 31, "user": None, "title": "Ticket Opened Via Web",
                "comment": "The scanner in room 4 mails me empty PDF files. Zoë", "public": True, "new_status": None,
                "time_spent": None, "followupattachment_set": [], "date": "2026-11-20T08:54:25.613261Z",
                "message_id": None, "email_recipients": ["zoe@customer.example"],
            },
            {
                "id": 71, "ticket": 31, "user": 2, "title": "Comment", "comment": "Mail password had expired.",
                "public": False, "new_status": None, "time_spent": None, "followupattachment_set": [],
                "date": "2026-11-20T09:30:00Z", "message_id": None, "email_recipients": [],
            },
            {
                "id": 72, "ticket": 31, "user": 2, "title": "Scanner sends empty files and Closed",
                "comment": None, "public": True, "new_status": 4, "time_spent": None, "followupattachment_set": [],
                "date": "2026-11-20T10:00:00Z", "message_id": None, "email_recipients": ["zoe@customer.example"],
            },
        ],
    },
    "queue_slug": "support",
    "followup_id": 72,
}  # fmt: skip


def test_the_field_map_for_django_helpdesk() -> None:
    field_map = parse_field_map(json.loads((MAPS / "django-helpdesk.json").read_text()))
    (ticket,) = read_body(json.dumps(HELPDESK).encode(), field_map=field_map)
    assert (ticket.external_id, ticket.status, ticket.queue, ticket.priority) == ("31", "closed", "support", "normal")
    assert ticket.requester == "zoe@customer.example"
    assert ticket.assignee == "2"
    assert [entry.author_role for entry in ticket.entries] == ["requester", "agent", "agent"]
    assert [entry.visibility for entry in ticket.entries] == ["public", "internal", "public"]
    assert [entry.body for entry in ticket.entries][1:] == ["Mail password had expired.", ""]
    assert ticket.resolution is not None
    assert ticket.resolution.note.startswith("Fixed: ")
    dates = [moment and moment.isoformat() for moment in (ticket.created_at, ticket.closed_at, ticket.updated_at)]
    assert dates == ["2026-11-20T08:54:25.613261+00:00", "2026-11-20T10:00:00+00:00", "2026-11-20T10:00:00+00:00"]
    assert [(event.to, event.from_) for event in ticket.events] == [("closed", "")]


@pytest.mark.parametrize(
    ("state", "expected"), [(1, "open"), (2, "open"), (3, "resolved"), (4, "closed"), (5, "closed")]
)
def test_the_states_of_django_helpdesk(state: int, expected: str) -> None:
    field_map = parse_field_map(json.loads((MAPS / "django-helpdesk.json").read_text()))
    helpdesk = {"ticket": {"id": 1, "status": state, "on_hold": False, "followup_set": []}}
    assert apply(field_map, helpdesk)["status"] == expected
    helpdesk["ticket"]["on_hold"] = True
    assert apply(field_map, helpdesk)["status"] == "pending"


OURS = {"external_id": "INC-1", "status": "closed", "subject": "VPN"}


def test_without_a_map_our_own_json_and_its_envelope() -> None:
    envelope = {"type": "ticket.closed", "timestamp": "2026-11-23T10:00:00Z", "data": OURS}
    for document in (OURS, envelope, [OURS], [envelope], {**envelope, "data": [OURS]}):
        (ticket,) = read_body(json.dumps(document).encode(), field_map=None)
        assert (ticket.external_id, ticket.subject) == ("INC-1", "VPN")


def test_a_list_is_a_ticket_each_and_a_bad_one_names_its_place() -> None:
    two = read_body(json.dumps([OURS, {**OURS, "external_id": 2}]).encode(), field_map=None)
    assert [ticket.external_id for ticket in two] == ["INC-1", "2"]
    with pytest.raises(TicketError, match="ticket 2 of the list: status: "):
        read_body(json.dumps([OURS, {**OURS, "status": "gone"}]).encode(), field_map=None)
    with pytest.raises(TicketError, match="ticket 1 of the list: external_id: the delivery holds nothing at `id`"):
        read_body(b"[[]]", field_map=parse_field_map(SMALL))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is empty"),
        (b" \n", "the body is empty"),
        (b"{", "not valid JSON: .* column 2"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b"\xff\xfe{}", "not UTF-8 at byte 0"),
        ('{"external_id": "1", "status": "closed"}'.encode("utf-16"), "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"external_id": "1", "status": "closed", "x": ' + b"[" * 100 + b"]" * 100 + b"}", "nested too deeply"),
        (b'{"external_id": "1", "status": "closed", "x": 1' + b"0" * 5000 + b"}", "thousands of digits"),
        (b'{"external_id": "1\\u0000", "status": "closed"}', "NUL character"),
        (b'"closed"', "must be a JSON object, not str"),
        (b"[]", "a list of 0 tickets"),
        (b"[" + b",".join([b"{}"] * (MAX_TICKETS + 1)) + b"]", "a list of 501 tickets"),
        (b'{"type": "ping"}', "external_id"),
        (b'{"type": "ping", "data": null}', "must be a JSON object"),
    ],
)
def test_unreadable_bodies_have_their_reason(body: bytes, reason: str) -> None:
    with pytest.raises(TicketError, match=reason):
        read_body(body, field_map=None)


def test_a_byte_order_mark_and_half_a_character_do_no_harm() -> None:
    body = b'\xef\xbb\xbf{"external_id": "1", "status": "closed", "subject": "cut \\ud83d"}'
    (ticket,) = read_body(body, field_map=None)
    assert ticket.subject == "cut \ufffd"
