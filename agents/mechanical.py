"""Escalation rules that code applies, because what they look for can be listed: the same by any model, or by none.

The lists are keyed by the ids of the rules that come with ticketqc; a rule that a team took out of its file is not
applied. What a requester or an agent says counts; what a mail quotes, code, and what a system writes do not.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from agents.instructions import instruction_spans
from agents.lookalikes import folded
from agents.phrases import sentences
from agents.triage import RuleHit
from agents.verdict import Evidence, Span
from agents.wordlists import read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agents.context import Context
    from agents.ticket import Line, Revision

LIST = "mechanical.toml"
MANIPULATION = "reviewer_manipulation"
LONGEST_QUOTE = 160  # characters


def rule_hits(revision: Revision, context: Context) -> tuple[RuleHit, ...]:
    """Each rule of the context that the lists show, with the first place that shows it, in the context's order."""
    known = {rule.id for rule in context.rules}
    found: dict[str, Evidence] = {}
    for rule, evidence in _shown(revision):
        if rule in known:
            found.setdefault(rule, evidence)
    return tuple(RuleHit(rule.id, found[rule.id], by="code") for rule in context.rules if rule.id in found)


def intake_hits(revision: Revision, context: Context) -> tuple[RuleHit, ...]:
    """The same for an open ticket; and the rule about instructions to the reviewer, where its intake reads like some.

    A finished ticket is judged without such text as well. An open one is only triaged, and triage that obeys the text
    names no rule.
    """
    hits = rule_hits(revision, context)
    spans = instruction_spans(revision.intake_lines)
    if not spans or all(rule.id != MANIPULATION for rule in context.rules):
        return hits
    first = spans[0]
    end = min(first.end, first.start + LONGEST_QUOTE)
    quote = revision.lines[first.line - 1].text[first.start : end]
    shown = Evidence(first.line, quote, (Span(first.line, first.start, end),))
    return (*hits, RuleHit(MANIPULATION, shown, by="code"))


def _shown(revision: Revision) -> Iterator[tuple[str, Evidence]]:
    for part, grouped in itertools.groupby(revision.lines, key=lambda line: line.part):
        if part != "field" and not _by_system(revision, part):
            yield from _in_part(list(grouped))


def _by_system(revision: Revision, part: str) -> bool:
    kind, _, index = part.partition(":")
    return kind == "entry" and revision.ticket.entries[int(index)].author_role == "system"


def _in_part(lines: Sequence[Line]) -> Iterator[tuple[str, Evidence]]:
    for index, start, sentence in sentences([line.text for line in lines]):
        seen = folded(sentence)
        for hit in read(LIST).hits(seen.text):
            first, last = start + seen.origin[hit.start], start + seen.origin[hit.end - 1] + 1
            line = lines[index]
            yield hit.about, Evidence(line.number, line.text[first:last], (Span(line.number, first, last),))
