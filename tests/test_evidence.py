"""Citations against the ticket: what is found, where, and what never is."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.evidence import normalise, verify
from agents.ticket import Line
from agents.verdict import Span

LINES = (
    Line(1, "subject", "VPN drops on laptop LT-204"),
    Line(2, "field", "priority: P3"),
    Line(3, "description", "Since Monday the VPN drops every ten minutes."),
    Line(4, "description", "I work from home; the router is new."),
    Line(5, "entry:0", "Replaced the certificate on the gateway and"),
    Line(6, "entry:0", "restarted the service. Ana confirmed that it holds."),
    Line(7, "entry:1", "Thanks!"),
    Line(8, "entry:2", "Since Monday the VPN drops every ten minutes. Again."),
)


def spans(line: int, quote: str, lines: tuple[Line, ...] = LINES) -> list[tuple[int, str]]:
    evidence = verify(lines, line=line, quote=quote)
    texts = {one.number: one.text for one in lines}
    return [(span.line, texts[span.line][span.start : span.end]) for span in evidence.spans] if evidence else []


def test_found_on_the_cited_line() -> None:
    evidence = verify(LINES, line=3, quote="the VPN drops every ten minutes")
    assert evidence is not None
    assert (evidence.line, evidence.quote) == (3, "the VPN drops every ten minutes")
    assert evidence.spans == (Span(3, 13, 44),)


def test_the_cited_line_comes_before_an_earlier_one() -> None:
    assert spans(8, "the VPN drops every") == [(8, "the VPN drops every")]


def test_another_line_is_named_where_the_citation_is_off() -> None:
    assert spans(1, "the router is new") == [(4, "the router is new")]
    assert spans(99, "the VPN drops every") == [(8, "the VPN drops every")]
    assert spans(0, "the VPN drops every") == [(3, "the VPN drops every")]


def test_across_lines_of_one_part_each_line_has_its_span() -> None:
    assert spans(5, "on the gateway and restarted the service") == [
        (5, "on the gateway and"),
        (6, "restarted the service"),
    ]


def test_never_across_two_parts() -> None:
    assert spans(6, "confirmed that it holds. Thanks") == []
    assert spans(1, "laptop LT-204 priority: P3") == []


@pytest.mark.parametrize(
    "quote",
    [
        "“the router is new”",
        "'the router is new.'",
        "...the router is new...",
        "… the router is new …",
        '"... the router is new"',
        "the  router\u00a0is\nnew",
        "the rou\u200bter is new",
        "The Router Is New",
    ],
)
def test_frames_white_space_and_case_do_not_matter(quote: str) -> None:
    assert spans(4, quote) == [(4, "the router is new")]


@pytest.mark.parametrize(
    "quote",
    [
        "the router is old",
        "the ... router is new",
        "router is new the",
        "he router is ne",
        "the VPN drops",
        "router is",
        "",
        "...",
        " ' ",
        "Since Monday the VPN drops every ten minutes. I work from home; the router",
    ],
)
def test_never_verified(quote: str) -> None:
    lines = (LINES[3],) if "VPN drops" in quote and len(quote) < 20 else LINES
    assert verify(lines, line=4, quote=quote) is None


def test_case_as_written_wins_over_a_nearer_line_in_another_case() -> None:
    lines = (Line(1, "subject", "restart THE print spooler"), Line(2, "description", "restart the print spooler"))
    assert spans(1, "restart the print spooler", lines) == [(2, "restart the print spooler")]
    assert spans(2, "Restart The Print Spooler", lines) == [(2, "restart the print spooler")]


@pytest.mark.parametrize(
    ("line", "text", "quote", "found"),
    [
        (2, "priority: P3", "P3", "P3"),
        (2, "priority: P3", "priority: P3", "priority: P3"),
        (2, "category: (empty)", "(empty)", "(empty)"),
        (2, "Thanks!", "Thanks!", "Thanks!"),
        (2, "done", "Done.", "done"),
        (2, "Fixed it.", "Fixed it", "Fixed it"),
    ],
)
def test_a_short_line_may_be_quoted_whole(line: int, text: str, quote: str, found: str) -> None:
    part = "field" if ": " in text else "entry:0"
    assert spans(line, quote, (Line(line, part, text),)) == [(line, found)]


@pytest.mark.parametrize("quote", ["Thanks", "Fixed"])
def test_a_short_piece_of_a_longer_line_is_no_evidence(quote: str) -> None:
    assert verify((Line(1, "entry:0", "Thanks, Fixed for now"),), line=1, quote=quote) is None


@pytest.mark.parametrize(
    ("text", "quote", "found"),
    [
        ("It doesn\u2019t start \u2013 again and again", "doesn't start - again", "doesn\u2019t start \u2013 again"),
        ("Rufen Sie Herrn Mu\u0308ller morgen an", "Sie Herrn M\u00fcller morgen", "Sie Herrn Mu\u0308ller morgen"),
        ("\ufb01nd the \uff21\uff22 switch", "find the AB switch", "\ufb01nd the \uff21\uff22 switch"),
        ("wait\u2026 it works now", "wait... it works now", "wait\u2026 it works now"),
        ("the stra\u00dfe is closed today", "THE STRASSE IS CLOSED", "the stra\u00dfe is closed"),
        (  # "replaced the printer's paper", in a script without spaces
            "\u30d7\u30ea\u30f3\u30bf\u30fc\u306e\u7d19\u3092\u4ea4\u63db\u3057\u307e\u3057\u305f",
            "\u7d19\u3092\u4ea4\u63db\u3057\u307e",
            "\u7d19\u3092\u4ea4\u63db\u3057\u307e",
        ),
    ],
)
def test_unicode_forms_are_one_and_the_span_is_the_original(text: str, quote: str, found: str) -> None:
    assert spans(1, quote, (Line(1, "description", text),)) == [(1, found)]


@pytest.mark.parametrize(
    "quote", ["nothing else changed, says Jérô", "nothing else changed, says Je\u0301r", "यह नया हिन", "िन्दी पाठ यहाँ है"]
)
def test_a_word_is_not_cut_at_a_letter_with_a_mark(quote: str) -> None:
    """Folded, its accent is a character of its own, and the word goes on behind it."""
    lines = (
        Line(1, "description", "nothing else changed, says Jérôme"),
        Line(2, "description", "यह नया हिन्दी पाठ यहाँ है"),
    )
    assert spans(1, quote, lines) == []
    assert spans(1, "changed, says Jérôme", lines) == [(1, "changed, says Jérôme")]
    assert spans(1, "यह नया हिन्दी", lines) == [(2, "यह नया हिन्दी")]


def test_a_number_is_not_cut() -> None:
    lines = (Line(1, "description", "updated to version 10.2 at 1.5 hours past noon"),)
    assert verify(lines, line=1, quote="updated to version 10") is None
    assert verify(lines, line=1, quote="5 hours past noon") is None
    assert verify(lines, line=1, quote="updated to version 10.2.") is not None


texts = st.text(st.characters(exclude_characters="\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), max_size=60)
tickets = st.lists(texts, min_size=1, max_size=6).map(
    lambda lines: tuple(Line(number, f"entry:{number // 3}", text) for number, text in enumerate(lines, start=1))
)


@given(tickets, st.text(max_size=40), st.integers(-2, 9))
def test_what_is_verified_stands_there(lines: tuple[Line, ...], quote: str, line: int) -> None:
    evidence = verify(lines, line=line, quote=quote)
    if evidence is not None:
        found = normalise(evidence.quote).casefold()
        assert found
        assert found in normalise(quote).casefold()


@given(tickets, st.data())
def test_any_piece_of_a_line_of_whole_words_is_found(lines: tuple[Line, ...], data: st.DataObject) -> None:
    line = data.draw(st.sampled_from(lines))
    words = normalise(line.text).split()
    first = data.draw(st.integers(0, max(0, len(words) - 3)))
    quote = " ".join(words[first : first + 5])
    if len(words) >= 3 and quote.replace(" ", "").isalnum():
        assert verify(lines, line=line.number, quote=quote) is not None


@given(tickets, st.integers(0, 6))
def test_a_planted_word_is_never_verified(lines: tuple[Line, ...], position: int) -> None:
    words = [word for line in lines for word in line.text.split()][:8]
    words.insert(position, "zzqplanted")
    assert verify(lines, line=1, quote=" ".join(words)) is None


def test_fast_on_a_usual_ticket_and_bounded_on_a_huge_one() -> None:
    usual = tuple(Line(number, "entry:0", f"    line {number} of a usual ticket,\tnothing") for number in range(1, 60))
    started = time.perf_counter()
    for _ in range(50):
        assert verify(usual, line=30, quote="of a usual ticket") is not None
        assert verify(usual, line=30, quote="of an unusual ticket") is None
    assert time.perf_counter() - started < 0.5  # 10 ms for both; 0.5 ms when alone
    huge = (Line(1, "description", "\u00e4 " * 100_000), Line(2, "description", "a " * 100_000))
    started = time.perf_counter()
    assert verify(huge, line=1, quote="a b a b a") is None
    assert time.perf_counter() - started < 5
