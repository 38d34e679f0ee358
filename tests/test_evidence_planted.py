"""1,000 answers with planted false quotes, from an answer's text to the judgement: none is ever shown as evidence.

What is false is known from how it was made, or by comparing words in the plainest way there is; never by asking the
code under test. True quotes, retyped as models retype, stand among them: all of those are accepted.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from agents.judge import Judgement, Panel, judge
from agents.ticket import OPTIONAL_FIELDS, Line, Revision
from agents.verdict import Evidence
from app.review_output import finding_json, triage_json
from tests.cast import MODEL, TRIAGED, nonce_for, reply, revision, said, shipped_context

if TYPE_CHECKING:
    from agents.question import Question, Reply

ANSWERS, SEED = 1_000, 20_261_126
PLANTED = 0.6  # share of the quotes
PASSWORD = "Tr0ub4dor&3xyz"

Draw = random.Random
Make = Callable[[Draw, Revision], str]


def entry(role: str, body: str, **more: object) -> dict[str, object]:
    return {"author_role": role, "at": "2026-11-16T09:30:00Z", "body": body, **more}


@cache
def tickets() -> tuple[Revision, ...]:
    agent = {"minutes": 45, "billable": True}
    return (
        revision(),
        revision(
            external_id="INC-2",
            subject="Printer on floor 3 prints every page twice",
            description="Since the update on 12 November the printer HP-4410 prints each page twice.\n"
            "We printed 1,200 pages too many so far; the toner was at 10.25 percent this morning.\n"
            "Please look at it before Thursday, when the auditors come.",
            entries=[
                entry("agent", "Rolled the driver back to version 6.8.1 on the print server and\n"
                      "cleared the queue. Printed three test pages, each came out once.", **agent),
                entry("requester", "Confirmed, every page comes out once now. Thank you!"),
            ],
            resolution={"code": "Solved", "note": "Driver 6.9.0 sends jobs twice; held back for now."},
        ),
        revision(
            external_id="INC-3",
            subject="Zugang zum Archiv fehlt nach der Versetzung",
            description="Nach meiner Versetzung in die Buchhaltung fehlt mir der Zugang zum Archiv.\n"
            "Ich brauche ihn für den Jahresabschluss; Frau Müller hat zugestimmt.",
            entries=[
                entry("agent", f"Asked the data owner, who agreed. Set the password: {PASSWORD}\n"
                      "Added the account to the group FIN-ARCHIVE-READ and removed it from SALES-ALL.", **agent),
                entry("requester", "Klappt — ich sehe die Ordner “2025” und “2026”."),
            ],
            resolution={"code": "Solved", "note": "Group membership had not followed the move; HR form corrected."},
        ),
        revision(
            external_id="INC-4",
            subject="Wiki is slow in the Zürich office only",
            description="Pages of the wiki take 40 seconds in Zürich and one second in Bern.\n"
            "It began after the router 10.2.31.7 was replaced; nothing else changed, says Jérôme.",
            entries=[
                entry("agent", "Found the duplex setting of port 14 at half and set it to full.\n"
                      "Measured 0.9 seconds for the start page from two desks afterwards.", **agent),
                entry("requester", "All good here, also after lunch when everybody reads."),
            ],
            resolution={"code": "Solved", "note": "Port 14 of the new router came up with half duplex."},
        ),
    )  # fmt: skip


def words(text: str) -> list[str]:
    """In the plainest way: letters and digits, without marks, case and all that stands between them."""
    bare = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    return re.findall(r"\w+", bare.casefold())


@cache
def texts(external_id: str) -> tuple[tuple[str, ...], ...]:
    """The words of everything in a ticket that can be quoted in one piece: each field, each other part."""
    (ticket,) = (one for one in tickets() if one.ticket.external_id == external_id)
    whole = [(line.part, line.number if line.part == "field" else 0, line.text) for line in ticket.lines]
    parts = (list(group) for _, group in groupby(whole, key=lambda one: one[:2]))
    return tuple(tuple(words(" ".join(text for *_, text in part))) for part in parts)


def stands(quote: str, ticket: Revision) -> bool:
    """Whether the ticket has these words in this order somewhere."""
    sought = words(quote)
    return any(
        list(text[start : start + len(sought)]) == sought
        for text in texts(ticket.ticket.external_id)
        for start in range(len(text))
    )


def prose(ticket: Revision) -> list[Line]:
    return [line for line in ticket.lines if line.part != "field" and len(line.text.split()) >= 6]


def taken(draw: Draw, line: Line, *, least: int = 4, most: int = 9) -> list[str]:
    """Words of a line as they stand there."""
    whole = line.text.split()
    count = draw.randint(least, min(most, len(whole)))
    start = draw.randint(0, len(whole) - count)
    return whole[start : start + count]


def some(draw: Draw, ticket: Revision) -> list[str]:
    return taken(draw, draw.choice(prose(ticket)))


# False quotes: each maker's result is false by what it does, or is thrown away where the words stand there by chance.


def another_word(draw: Draw, ticket: Revision) -> str:
    quote = some(draw, ticket)
    quote[draw.randrange(len(quote))] = draw.choice(("server", "never", "yesterday", "rebooted", "Bern", "nobody"))
    return " ".join(quote)


def another_order(draw: Draw, ticket: Revision) -> str:
    quote = some(draw, ticket)
    draw.shuffle(quote)
    return " ".join(quote)


def another_number(draw: Draw, ticket: Revision) -> str:
    line = draw.choice([line for line in prose(ticket) if re.search(r"\d", line.text)] or prose(ticket))
    return re.sub(r"\d", lambda digit: str((int(digit[0]) + draw.randint(1, 9)) % 10), " ".join(taken(draw, line)))


def a_word_more(draw: Draw, ticket: Revision) -> str:
    quote = some(draw, ticket)
    quote.insert(draw.randint(1, len(quote) - 1), draw.choice(("not", "never", "also", "the", "successfully")))
    return " ".join(quote)


def a_word_less(draw: Draw, ticket: Revision) -> str:
    quote = taken(draw, draw.choice(prose(ticket)), least=5)
    del quote[draw.randint(1, len(quote) - 2)]
    return " ".join(quote)


def an_elision(draw: Draw, ticket: Revision) -> str:
    quote = taken(draw, draw.choice(prose(ticket)), least=6)
    gap = draw.choice(("...", "…", "[...]", "(…)", " ... "))
    return " ".join((*quote[:2], gap, *quote[-2:]))


def two_lines_in_one(draw: Draw, ticket: Revision) -> str:
    one, other = draw.sample(prose(ticket), 2)
    return " ".join((*taken(draw, one, least=2, most=4), *taken(draw, other, least=2, most=4)))


def over_the_end_of_a_part(draw: Draw, ticket: Revision) -> str:
    pairs = [(a, b) for a, b in zip(ticket.lines, ticket.lines[1:], strict=False) if a.part != b.part]
    one, other = draw.choice(pairs)
    return " ".join((*one.text.split()[-3:], *other.text.split()[:3]))


def over_two_fields(draw: Draw, ticket: Revision) -> str:
    fields = [line.text for line in ticket.lines if line.part == "field"]
    start = draw.randrange(len(fields) - 1)
    return " ".join(fields[start : start + 2])


def of_another_ticket(draw: Draw, ticket: Revision) -> str:
    return " ".join(some(draw, draw.choice([other for other in tickets() if other is not ticket])))


def too_long(draw: Draw, ticket: Revision) -> str:
    """Every word of it is true."""
    part = draw.choice(("description", "entry:0"))
    whole = " ".join(line.text for line in ticket.lines if line.part == part).split()
    return " ".join(whole[: draw.randint(13, len(whole))])


def too_short(draw: Draw, ticket: Revision) -> str:
    return " ".join(taken(draw, draw.choice(prose(ticket)), least=1, most=2))


def cut_words(draw: Draw, ticket: Revision) -> str:
    quote = some(draw, ticket)
    long = [place for place in (0, -1) if len(words(quote[place])) == 1 and len(quote[place].strip(".,;:!“”")) > 3]
    for place in long:
        quote[place] = quote[place][2:] if place == 0 else quote[place].strip(".,;:!“”")[:-2]
    return " ".join(quote) if long else "he router is ne"


def cut_numbers(draw: Draw, _ticket: Revision) -> str:
    """10.2.31 is not 10.2.31.7, and 1 is not 1,200."""
    addresses = ("after the router 10.2.31", "2.31.7 was replaced; nothing", "back to version 6.8", "8.1 on the print")
    amounts = ("We printed 1", "200 pages too many so far", "toner was at 10", "25 percent this morning")
    return draw.choice((*addresses, *amounts, "9 seconds for the"))


def letters_of_another_script(draw: Draw, ticket: Revision) -> str:
    """Cyrillic ones that look the same."""
    return " ".join(some(draw, ticket)).translate(str.maketrans("aeopcy", "\u0430\u0435\u043e\u0440\u0441\u0443"))


def nothing(draw: Draw, _ticket: Revision) -> str:
    return draw.choice(
        ("", " ", "\t\n", "...", "…", "“”", '""', "' '", "—", "- - -", "!?", ".", "\u200b", "\u00a0", "[...]")
    )


def of_our_prompt(draw: Draw, _ticket: Revision) -> str:
    """Headings, line numbers, the form of the answer, the standard: a model reads them beside the ticket."""
    ours = ("description, opened 2026-11-16 08:00", "entry 1, agent, public, 2026-11-16 09:30, 45 min billable",
            "resolution, closed 2026-11-16 10:00", "ticket-text", "</ticket-text", "Judge this ticket.",
            "Private, not to be repeated:", "One JSON object. findings: for each criterion",
            "copied exactly from the first of these lines", "Triage said: category network, priority p3")  # fmt: skip
    standard = [line.split() for line in shipped_context().prefix_documents("qc")[-1].splitlines()]
    return draw.choice((*ours, " ".join(draw.choice([line for line in standard if len(line) > 5])[:8])))


def the_secret(draw: Draw, _ticket: Revision) -> str:
    """It was masked before anybody read it."""
    return draw.choice((f"Set the password: {PASSWORD}", f"password: {PASSWORD}", PASSWORD))


FALSE: tuple[Make, ...] = (
    another_word, another_order, another_number, a_word_more, a_word_less, an_elision, two_lines_in_one,
    over_the_end_of_a_part, over_two_fields, of_another_ticket, too_long, too_short, cut_words, cut_numbers,
    letters_of_another_script, nothing, of_our_prompt, the_secret,
)  # fmt: skip
# Whose words may well stand there, and are no quote all the same.
FALSE_BY_FORM = frozenset({too_long, too_short, cut_numbers, nothing})


# True quotes, as models retype them: they are no false ones, and every one is accepted.


def as_it_stands(quote: str) -> str:
    return quote


def in_full_width(quote: str) -> str:
    return "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" and one not in "'\"`-" else one for one in quote)


TRUE: tuple[Callable[[str], str], ...] = (
    as_it_stands, str.upper, str.lower, str.capitalize, in_full_width,
    lambda quote: f"“{quote}”",
    lambda quote: f"...{quote}…",
    lambda quote: f"  {quote.replace(' ', '  ')}.",
    lambda quote: quote.replace(" ", "\u00a0"),
    lambda quote: quote.replace(" ", "\n", 1),
    "\u200b".join,
    lambda quote: unicodedata.normalize("NFD", quote),
    lambda quote: quote.replace("-", "\u2011"),
)  # fmt: skip


def planted(draw: Draw, ticket: Revision) -> tuple[str, str]:
    """A false quote, and which maker it is from."""
    while True:
        make = draw.choice(FALSE)
        quote = make(draw, ticket)
        if make in FALSE_BY_FORM or not stands(quote, ticket):
            if make is too_short and is_whole(quote, ticket):
                continue
            return quote, make.__name__


def is_whole(quote: str, ticket: Revision) -> bool:
    return any(words(quote) in (words(line.text), words(line.text.partition(": ")[2])) for line in ticket.lines)


class Control(NamedTuple):
    line: int
    quote: str


def control(draw: Draw, ticket: Revision) -> Control:
    """Words of one line, retyped."""
    line = draw.choice(prose(ticket))
    return Control(line.number, draw.choice(TRUE)(" ".join(taken(draw, line))))


def cited(draw: Draw, ticket: Revision) -> int:
    """Right or wrong: the line that a model names proves nothing."""
    return draw.choice((0, -1, 1, len(ticket.lines), 10_000, draw.randint(1, len(ticket.lines))))


class Plan(NamedTuple):
    """One answer: what was planted and what is true, by criterion."""

    ticket: Revision
    answer: str
    false: Mapping[str, tuple[str, str]]
    true: Mapping[str, Control]
    remark: str
    intake: str


def plan(draw: Draw) -> Plan:
    ticket = draw.choice(tickets())
    findings: dict[str, dict[str, Any]] = {}
    false: dict[str, tuple[str, str]] = {}
    true: dict[str, Control] = {}
    for number, criterion in enumerate(shipped_context().rubric.judged):
        result = draw.choice(("partly", "not_met") if draw.random() < 0.8 or not criterion.critical else ("met",))
        if number == 0 or draw.random() < PLANTED:
            quote, _ = false[criterion.id] = planted(draw, ticket)
        else:
            quote = (known := control(draw, ticket)).quote
            true[criterion.id] = known
        findings[criterion.id] = said(result, line=cited(draw, ticket), quote=quote, reason="because")
    remark, intake = planted(draw, ticket)[0], planted(draw, ticket)[0]
    missed = {"code": "missed_escalation", "subject": "security_incident", "line": cited(draw, ticket), "quote": remark}
    return Plan(ticket, json.dumps({"findings": findings, "triage": [missed]}), false, true, remark, intake)


def judged(one: Plan, draw: Draw) -> Judgement:
    """The judgement of a plan's ticket, where triage plants a false quote as well."""
    cite = {"line": max(1, cited(draw, one.ticket)), "quote": one.intake}
    triage = {**TRIAGED, "problem": cite, "affected": {"line": 0, "quote": ""}, "impact": {"line": 0, "quote": ""},
              "rules": [{"rule": "legal_threat", **cite}]}  # fmt: skip

    def ask(question: Question) -> Reply:
        return reply(json.dumps(triage) if question.agent == "triage" else one.answer)

    panel = Panel(MODEL, ask, nonce_for, allow_second=lambda: False)
    return judge(one.ticket, shipped_context(), supplied=frozenset(OPTIONAL_FIELDS), panel=panel)


def shown(value: object) -> Iterator[Evidence]:
    """Every piece of evidence anywhere inside."""
    if isinstance(value, Evidence):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from shown(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from shown(inner)
    elif hasattr(value, "__dict__"):
        yield from shown(vars(value))


def stands_where_it_says(evidence: Evidence, ticket: Revision) -> bool:
    """Character by character."""
    lines = {line.number: line.text for line in ticket.lines}
    there = "\n".join(lines[span.line][span.start : span.end] for span in evidence.spans)
    return evidence.quote == there and (not evidence.spans or evidence.spans[0].line == evidence.line)


def test_of_a_thousand_answers_no_planted_quote_is_shown_and_no_true_one_is_lost() -> None:
    draw = random.Random(SEED)  # noqa: S311  the same every time
    planted_by: Counter[str] = Counter()
    accepted = 0
    for number in range(ANSWERS):
        one = plan(draw)
        judgement = judged(one, draw)
        findings = {finding.criterion: finding for finding in judgement.findings if finding.kind == "judged"}
        assert findings.keys() == one.false.keys() | one.true.keys()
        for criterion, (quote, maker) in one.false.items():
            finding, where = findings[criterion], f"answer {number}, {maker}: {quote!r}"
            assert (finding.result, finding.evidence_status, finding.evidence) == ("unscored", "void", ()), where
            assert finding_json(finding)["evidence"] == [], where
            planted_by[maker] += 1
        for criterion, (line, quote) in one.true.items():
            finding, where = findings[criterion], f"answer {number}, true, line {line}: {quote!r}"
            assert finding.evidence_status == "verified", where
            assert finding.result in {"met", "partly", "not_met"}, where
            assert words(finding.evidence[0].quote) == words(quote.replace("\u200b", "")), where
            accepted += 1
        void = [
            seen.subject for seen in judgement.observations if seen.code == "quote_not_found" and seen.agent == "qc"
        ]
        assert void == [*one.false, "triage.security_incident"], number
        assert judgement.rules == (), f"answer {number}: {one.remark!r} or {one.intake!r}"
        assert judgement.triage is not None
        assert judgement.triage.fields["problem"].state == "unscored", f"answer {number}: {one.intake!r}"
        assert triage_json(judgement.triage)["fields"]["problem"]["evidence"] == []
        assert all(stands_where_it_says(evidence, one.ticket) for evidence in shown(judgement)), number
    assert planted_by.keys() == {make.__name__ for make in FALSE}
    assert min(planted_by.values()) >= 100
    assert accepted >= 1_000


@pytest.mark.parametrize("word", [nonce_for(""), f"Private, not to be repeated: {nonce_for('')}"])
def test_a_quote_of_our_private_words_voids_the_whole_answer(word: str) -> None:
    """Nothing that such an answer says is evidence, true quotes among it neither."""
    draw = random.Random(SEED)  # noqa: S311
    for ticket in tickets():
        true = control(draw, ticket)
        ids = [criterion.id for criterion in shipped_context().rubric.judged]
        findings = {name: said("partly", line=true.line, quote=true.quote) for name in ids}
        findings[ids[0]] = said("partly", line=1, quote=word)
        one = Plan(ticket, json.dumps({"findings": findings, "triage": []}), {}, {}, "", "")
        judgement = judged(one, draw)
        assert {finding.result for finding in judgement.findings if finding.kind == "judged"} == {"unscored"}
        assert [*shown([finding for finding in judgement.findings if finding.kind == "judged"])] == []
        assert "leaked" in {seen.code for seen in judgement.observations}
        assert judgement.verdict.outcome == "escalate"
