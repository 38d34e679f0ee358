"""Escalation rules that code applies, because what they look for can be listed: the same by any model, or by none.

The lists are keyed by the ids of the rules that come with ticketqc; a rule that a team took out of its file is not
applied. What a requester or an agent says counts; what a mail quotes, code, and what a system writes do not. Of a field
only a whole value or tag counts ("Security incident"). VIP is no rule: who cannot work has to be said as well.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from agents.instructions import instruction_spans
from agents.lookalikes import folded, skeleton
from agents.phrases import sentences
from agents.triage import RuleHit
from agents.verdict import Evidence, Span
from agents.wordlists import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agents.context import Context
    from agents.ticket import Line, Revision

LIST = "mechanical.toml"
MANIPULATION = "reviewer_manipulation"
EXECUTIVE, CANNOT_WORK = "executive_outage", "cannot_work"
LABELLED = frozenset({"category", "priority"})
LABELLED_VIP = LABELLED | {"requester"}  # otherwise a name: no rule is told by it
LONGEST_QUOTE = 160  # characters
MOST_READ = 120_000  # characters: a ticket as long as that goes to a person for its length
LONGEST_LABEL = 60  # characters
_TAG = re.compile(r"(?:(?! - )[^,;|/<>()\[\]:])+")
_VIP = re.compile(r"vip(?: (?:user|customer|client|caller|requester))?")
_VIP_SUBJECT = re.compile(rf"\W{{0,3}}{_VIP.pattern}\s{{0,3}}(?:[:,|)\]\u2013\u2014-]|$)")
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u00b4`", "'"))


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
    fields = (line for line in revision.lines if line.part == "field")
    yield from itertools.chain.from_iterable(map(_on_labels, fields))
    vip = _for_vip(revision)
    for about, evidence in _in_words(revision):
        yield (EXECUTIVE if vip and about == CANNOT_WORK else about), evidence


def _by_system(revision: Revision, part: str) -> bool:
    kind, _, index = part.partition(":")
    return kind == "entry" and revision.ticket.entries[int(index)].author_role == "system"


def _for_vip(revision: Revision) -> bool:
    """Whether a field or the start of the subject says VIP."""
    fields = (line for line in revision.lines if line.part == "field")
    tags = (tag for line in fields for _, tag in _labels(line, LABELLED_VIP))
    return any(map(_VIP.fullmatch, tags)) or _VIP_SUBJECT.match(skeleton(revision.ticket.subject)) is not None


def _labels(line: Line, fields: frozenset[str]) -> Iterator[tuple[Span, str]]:
    """The value of such a field, or each of its tags: where it stands, and folded."""
    name, _, _ = line.text.partition(": ")
    if name not in fields:
        return
    for match in _TAG.finditer(line.text, len(name) + 2):
        tag = match[0].strip()
        if 0 < len(tag) <= LONGEST_LABEL:
            start = line.text.index(tag, match.start())
            yield Span(line.number, start, start + len(tag)), skeleton(tag)


def _on_labels(line: Line) -> Iterator[tuple[str, Evidence]]:
    """What the lists know as a whole label, and not what stands somewhere in a name."""
    for span, tag in _labels(line, LABELLED):
        for hit in read(LIST).hits(tag):
            if (hit.start, hit.end) == (0, len(tag)):
                yield hit.about, Evidence(line.number, line.text[span.start : span.end], (span,))


def _in_words(revision: Revision) -> Iterator[tuple[str, Evidence]]:
    for line, start, sentence in _sentences(revision):
        seen = folded(sentence)
        for hit in read(LIST).hits(seen.text.translate(_APOSTROPHES)):
            first, last = start + seen.origin[hit.start], start + seen.origin[hit.end - 1] + 1
            yield hit.about, Evidence(line.number, line.text[first:last], (Span(line.number, first, last),))


def _sentences(revision: Revision) -> Iterator[tuple[Line, int, str]]:
    """What people wrote, as far as MOST_READ goes: its line, where it begins there, and the sentence."""
    left = MOST_READ
    for part, grouped in itertools.groupby(revision.lines, key=lambda line: line.part):
        if part == "field" or _by_system(revision, part):
            continue
        lines = list(grouped)
        for index, start, sentence in sentences([line.text for line in lines]):
            if left <= 0:
                return
            left -= len(sentence)
            yield lines[index], start, sentence
