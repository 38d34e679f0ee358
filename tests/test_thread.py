"""The thread as the page cuts it, and values in the words of the pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.masking import revise
from agents.ticket import Revision, Ticket
from agents.verdict import Evidence, Span
from app.web import words
from app.web.thread import Cite, NumberedLine, Segment, thread

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def _ticket(**values: object) -> Revision:
    return revise(Ticket.model_validate({"external_id": "X", "status": "closed", **values}))


def _cite(name: str, line: int, *spans: tuple[int, int, int]) -> Cite:
    return Cite(f"f-{name}", name, "not_met", (Evidence(line, "q", tuple(Span(*span) for span in spans)),))


def _lines(revision: Revision, *cites: Cite) -> list[NumberedLine]:
    return [line for part in thread(revision, cites) for line in part.lines]


def _line(text: str, *cites: Cite) -> tuple[Segment, ...]:
    (line,) = [line for line in _lines(_ticket(description=text), *cites) if line.number == 6]
    return line.segments


def test_lines_are_numbered_as_agents_cite_them() -> None:
    revision = _ticket(
        subject="S",
        description="one\n\ntwo",
        entries=[{"body": ""}, {"body": "three\n \nfour"}],
        resolution={"code": "Fixed", "note": "five"},
    )
    shown = [(line.number, "".join(segment.text for segment in line.segments)) for line in _lines(revision)]
    assert shown == [(line.number, line.text) for line in revision.lines]
    kinds = [(part.kind, len(part.lines)) for part in thread(revision, ())]
    assert kinds == [("intake", 6), ("description", 2), ("entry", 0), ("entry", 2), ("resolution", 2)]
    assert [line.number for line in _lines(revision) if line.after_blank] == [8, 10]


def test_evidence_marks_its_characters_and_its_line() -> None:
    cite = _cite("cause", 6, (6, 4, 7))
    line = next(line for line in _lines(_ticket(description="the VPN is up"), cite) if line.number == 6)
    assert [(segment.text, segment.cites) for segment in line.segments] == [
        ("the ", ()), ("VPN", (cite,)), (" is up", ()),
    ]  # fmt: skip
    assert line.cites == (cite,)


def test_spans_that_overlap_share_what_is_common() -> None:
    one, two = _cite("one", 6, (6, 0, 5)), _cite("two", 6, (6, 3, 8))
    assert [(segment.text, segment.cites) for segment in _line("abcdefgh", one, two)] == [
        ("abc", (one,)), ("de", (one, two)), ("fgh", (two,)),
    ]  # fmt: skip


def test_a_quote_over_two_lines_marks_both() -> None:
    cite = _cite("cause", 6, (6, 0, 3), (7, 0, 3))
    cited = [line.number for line in _lines(_ticket(description="abc\ndef"), cite) if line.cites]
    assert cited == [6, 7]


def test_a_span_marks_only_what_is_there() -> None:
    cite = _cite("cause", 6, (6, 2, 99), (6, 50, 60), (77, 0, 3))
    assert [(segment.text, segment.cites) for segment in _line("abc", cite)] == [("ab", ()), ("c", (cite,))]


def test_a_masked_secret_is_named() -> None:
    segments = _line("password: hunter2hunter2 ok")
    (masked,) = [segment for segment in segments if segment.secret]
    assert set(masked.text) == {"*"}
    assert "hunter2" not in "".join(segment.text for segment in segments)


def test_what_hides_or_reorders_text_is_named_once_a_run() -> None:
    segments = _line("pay\u202e\u202eeg\U000e0041\x07x")
    assert [(segment.text, segment.hidden) for segment in segments] == [
        ("pay", ""),
        ("\u202e\u202e", "right-to-left override"),
        ("eg", ""),
        ("\U000e0041", "tag latin capital letter a"),
        ("\x07", "control character u+0007"),
        ("x", ""),
    ]


@pytest.mark.parametrize("shown", ["a", "\t", "é", "日", "\U0001f469\u200d\U0001f4bb", "\u0645\u06cc\u200c"])
def test_what_writing_needs_shows_itself(shown: str) -> None:
    assert not any(map(words.hidden, shown))


@given(st.text(max_size=60), st.lists(st.tuples(st.integers(-5, 70), st.integers(-5, 70)), max_size=6))
def test_no_character_is_lost_or_doubled_whatever_is_marked(text: str, spans: list[tuple[int, int]]) -> None:
    revision = _ticket(description="x" + text.replace("\0", ""))
    cites = [_cite(str(place), 6, (6, *span)) for place, span in enumerate(spans)]
    shown = ["".join(segment.text for segment in line.segments) for line in _lines(revision, *cites)]
    assert shown == [line.text for line in revision.lines]


@pytest.mark.parametrize(
    ("passed", "said"),
    [
        (timedelta(seconds=-30), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=23), "23 h"),
        (timedelta(hours=47), "1 d"),
        (timedelta(days=29), "29 d"),
        (timedelta(days=30), "24 Oct 2026"),
    ],
)
def test_ages_have_one_unit(passed: timedelta, said: str) -> None:
    assert words.ago(NOW - passed, NOW) == said


def test_ages_inside_a_sentence() -> None:
    days = [words.since(NOW - timedelta(days=passed), NOW) for passed in (0, 2, 30)]
    assert days == ["just now", "2 d ago", "on 24 Oct 2026"]


def test_exact_times_are_in_the_install_s_zone() -> None:
    assert words.exact(NOW, ZoneInfo("Europe/Berlin")) == "23 Nov 2026, 10:00:00 Europe/Berlin"
    assert words.clock_time(NOW, ZoneInfo("America/New_York")) == "23 Nov 2026, 04:00"


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (None, "price unknown"), ("0", "$0"), ("0.000412", "$0.00041"), ("0.0004199", "$0.00042"),
        ("0.000000000001", "$0.0000000000010"), ("0.012", "$0.012"), ("0.1", "$0.10"), ("0.999", "$1.00"),
        ("1", "$1.00"), ("12.345", "$12.35"), ("1234567.8", "$1,234,567.80"),
    ],
)  # fmt: skip
def test_money_keeps_the_digits_that_count(amount: str | None, said: str) -> None:
    assert words.dollars(None if amount is None else Decimal(amount)) == said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("reason", "evidence_misread", "evidence misread"),
        ("name", "anna_maria", "anna_maria"),
        ("declared", ["resolution_note", "minutes"], "resolution note, minutes"),
        ("declared", [], "nothing"),
        ("findings", {"root_cause": "not_met"}, "root cause: not met"),
        ("version", "ab" * 32, "abababababab"),
        ("since", "2026-11-30T23:00:00.123456+00:00", "1 Dec 2026, 00:00"),
        ("name", "2026-11-30T99:99", "2026-11-30T99:99"),
        ("closed", True, "true"),
        ("numbers", [[1], {"a": None}], "1, a: null"),
        ("numbers", list(range(300)), ", ".join(map(str, range(300)))[:200] + "…"),
    ],
)
def test_what_an_event_says(name: str, value: object, said: str) -> None:
    assert words.audited(name, value, ZoneInfo("Europe/Berlin")) == said


def test_figures() -> None:
    assert words.thousands(1_234_567) == "1\u202f234\u202f567"
    assert (words.capped(1001, 1000), words.capped(1000, 1000)) == ("1,000+", "1,000")
    assert (words.sentence("the disk is full"), words.sentence("Done.")) == ("The disk is full.", "Done.")
    assert (words.seconds(340), words.seconds(61_200)) == ("0.3 s", "61 s")
    assert (words.score(Decimal("79.6")), words.score(None)) == ("79", "")
