"""What the double says when nobody scripted it: answers to the qc and the triage question, recognised by the shape of
their schema, and an instance of the schema for anything else. The same request always gets the same answer.

The quotes are real: words of a numbered line (`12| text`) of the ticket in the user's turn.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from tests.double.instances import instance, resolve
from tests.double.models import Json
from tests.double.prompt import compact, user_text

Kind = Literal["qc", "triage", "other"]
AnswerKind = Literal["three_not_met", "all_met", "false_quote", "invalid_json", "wrong_schema"]
ANSWER_KINDS: tuple[AnswerKind, ...] = get_args(AnswerKind)

SHORTFALLS = 3  # criteria that are not met in the default answer
ALWAYS_MET = "work_performed"  # critical in the shipped rubric: met, and quoted
QUOTE_WORDS = 8
FEWEST_QUOTED_WORDS, MOST_QUOTED_WORDS = 3, 12
FALSE_QUOTE = "words that nobody ever wrote here"
REASONS = (
    "The ticket says what was wanted here, but not what was done about it.",
    "No entry names the test or the person that would show this.",
    "Only the outcome is written down, so a colleague cannot follow the step.",
)
INTAKE_FIELDS = ("problem", "affected", "impact", "contact")
NUMBERED = re.compile(r"^[ \t]*(\d+)\| ?(.*?)[ \t]*$", re.MULTILINE)
WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Answer:
    """What the model says. `refused` is the category of a refusal; `thinking` overrides the tokens that it thinks."""

    text: str
    stop_reason: str = "end_turn"
    refused: str | None = None
    thinking: int | None = None


Answerer = Callable[[Json], "str | Answer"]  # gets the request body


class TicketLine(NamedTuple):
    number: int
    text: str


def recognise(schema: Json | None) -> Kind:
    """Which of our agents asks, by the shape of the answer that it wants."""
    properties = (schema or {}).get("properties") or {}
    if {"findings", "triage"} <= properties.keys():
        return "qc"
    return "triage" if {"category", "priority", "ask"} <= properties.keys() else "other"


def answer(body: Json, schema: Json, *, kind: AnswerKind = "three_not_met") -> str:
    """Compact JSON that fits the schema, unless a kind that does not fit it was asked for."""
    if kind == "invalid_json":
        return '{"findings":{"clear_problem":{"result":"met",'
    if kind == "wrong_schema":
        return '{"verdict":"pass","confidence":0.93}'
    return compact(_filled(body, schema, kind=kind)).decode()


def _filled(body: Json, schema: Json, *, kind: AnswerKind) -> Any:  # noqa: ANN401  any JSON value
    lines = ticket_lines(user_text(body))
    seed = hashlib.sha256(compact([line.text for line in lines] or body["messages"])).hexdigest()
    base = instance(schema, seed=seed)
    asked = recognise(schema)
    if asked == "qc":
        return {**base, "findings": _findings(schema, lines, seed=seed, kind=kind), "triage": []}
    if asked == "triage":
        return {**base, **_intake(schema, lines, seed=seed, kind=kind)}
    return base


def ticket_lines(text: str) -> list[TicketLine]:
    """The numbered, non-empty lines of the ticket, in order; the first of two with the same number counts."""
    found: dict[int, TicketLine] = {}
    for number, line in NUMBERED.findall(text):
        if line:
            found.setdefault(int(number), TicketLine(int(number), line))
    return list(found.values())


class Quote(NamedTuple):
    line: int
    words: str


NOTHING = Quote(0, "")


def _quotes(lines: list[TicketLine], *, seed: str) -> list[Quote]:
    """One verbatim quote a line, in an order that the seed decides; lines of three words or more if there are any."""
    long_enough = [line for line in lines if len(WORD.findall(line.text)) >= FEWEST_QUOTED_WORDS]
    usable = long_enough or [line for line in lines if len(WORD.findall(line.text)) <= MOST_QUOTED_WORDS]
    ordered = sorted(usable, key=lambda line: _rank(f"{seed}:{line.number}"))
    return [Quote(line.number, _words(line.text, seed=seed)) for line in ordered]


def _words(text: str, *, seed: str) -> str:
    """At most eight words in a row, exactly as they stand there, spaces included."""
    spans = [match.span() for match in WORD.finditer(text)]
    count = min(QUOTE_WORDS, len(spans))
    first = _rank(f"{seed}:{text}") % (len(spans) - count + 1)
    return text[spans[first][0] : spans[first + count - 1][1]]


def _rank(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def _findings(schema: Json, lines: list[TicketLine], *, seed: str, kind: AnswerKind) -> Json:
    findings = resolve(schema["properties"]["findings"], schema)
    criteria: Mapping[str, Json] = {
        name: resolve(part, schema) for name, part in findings.get("properties", {}).items()
    }
    may_fall = sorted((name for name in criteria if name != ALWAYS_MET), key=lambda name: _rank(seed + name))
    short = set() if kind == "all_met" else set(may_fall[:SHORTFALLS])
    quotes = _quotes(lines, seed=seed)
    made: Json = {}
    for position, (name, criterion) in enumerate(criteria.items()):
        quote = quotes[position % len(quotes)] if quotes else NOTHING
        if kind == "false_quote" and quote.line:
            quote = quote._replace(words=FALSE_QUOTE)
        made[name] = _finding(criterion, schema, quote, short=name in short, quoted=name == ALWAYS_MET)
    return made


def _finding(criterion: Json, root: Json, quote: Quote, *, short: bool, quoted: bool) -> Json:
    """One criterion's answer, with the properties that its schema names and no others."""
    results = resolve(criterion["properties"]["result"], root)["enum"]
    result = "met" if not short else "not_met" if quote.line or "absent" not in results else "absent"
    cites = bool(quote.line) and (short or quoted)
    values = {
        "result": result,
        "line": quote.line if cites else 0,
        "lines": [quote.line] if quote.line and result != "absent" else [],
        "quote": quote.words if cites else "",
        "evidence": [{"line": quote.line, "quote": quote.words}] if cites else [],
        "reason": REASONS[quote.line % len(REASONS)] if short else "",
    }
    filled = instance(criterion, seed="finding", root=root)
    return {name: values.get(name, value) for name, value in filled.items()}


def _intake(schema: Json, lines: list[TicketLine], *, seed: str, kind: AnswerKind) -> Json:
    properties = schema["properties"]
    quotes = _quotes(lines, seed=seed)
    made: Json = {}
    for position, name in enumerate(name for name in INTAKE_FIELDS if name in properties):
        missing = not quotes or (name == "contact" and kind != "all_met")
        quote = NOTHING if missing else quotes[position % len(quotes)]
        words = FALSE_QUOTE if kind == "false_quote" and quote.line else quote.words
        made[name] = {"line": quote.line, "quote": words}
    for name in ("category", "priority"):
        made[name] = _as_in_ticket(name, resolve(properties[name], schema), lines)
    ask = ["How can we reach you while this is being worked on?"]
    made = {**made, "rules": [], "ask": [] if kind == "all_met" else ask}
    return {name: value for name, value in made.items() if name in properties and value is not None}


def _as_in_ticket(name: str, schema: Json, lines: list[TicketLine]) -> str | None:
    """The ticket's own field where the schema allows that value; None leaves it to the seed."""
    allowed = {str(value).lower(): value for value in schema.get("enum", ())}
    for line in lines:
        label, _, value = line.text.partition(":")
        if label.strip().lower() == name and value.strip().lower() in allowed:
            return str(allowed[value.strip().lower()])
    return None


def prose(text: str) -> str:
    """How a small model answers that was told nothing of a format: it talks around its JSON."""
    return f"Here is my assessment of the ticket:\n\n{text}\n\nLet me know if you need more."
