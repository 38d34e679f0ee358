"""A ticket's thread for the page: lines numbered as for citing, cut where evidence and masks begin and end."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, NamedTuple

from agents.ticket import pieces
from app.web.words import hidden

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agents.ticket import Entry, Line, Masked, Revision, Ticket
    from agents.verdict import Evidence


class Cite(NamedTuple):
    """Something on the page that points at lines of the thread: a finding or an escalation rule."""

    anchor: str  # id of its element
    label: str
    tone: str  # which of the page's tones marks it
    evidence: tuple[Evidence, ...]


class Segment(NamedTuple):
    """A run of characters of one line that share their marks."""

    text: str
    cites: tuple[Cite, ...] = ()
    secret: str = ""  # the kind of what stood here
    hidden: str = ""  # the name of the invisible character that this is, once or more


class NumberedLine(NamedTuple):
    number: int
    segments: tuple[Segment, ...]
    cites: tuple[Cite, ...]
    after_blank: bool  # blank lines have no number; what they set apart stays apart


@dataclass(frozen=True)
class Part:
    """Lines that belong together. `kind` is intake (subject and fields), description, entry or resolution."""

    kind: str
    lines: tuple[NumberedLine, ...]
    entry: Entry | None = None


def thread(revision: Revision, cites: Sequence[Cite]) -> tuple[Part, ...]:
    """The parts in reading order; an entry without a word is a part without lines."""
    marks = _Marks.of(revision, cites)
    grouped = {part: tuple(map(marks.cut, lines)) for part, lines in groupby(revision.lines, key=_part_of)}
    before = [Part("intake", (*grouped.get("subject", ()), *grouped["field"]))]
    before += [Part("description", grouped["description"])] if "description" in grouped else []
    entries = enumerate(revision.ticket.entries)
    said = [Part("entry", grouped.get(f"entry:{index}", ()), entry) for index, entry in entries]
    after = [Part("resolution", grouped["resolution"])] if "resolution" in grouped else []
    return (*before, *said, *after)


def _cited_lines(evidence: Evidence) -> Iterator[int]:
    yield evidence.line
    yield from (span.line for span in evidence.spans)


def _after_blank(ticket: Ticket) -> Iterator[int]:
    """Numbers of the lines that stand after a blank one in the same text; counts as `Revision.lines` does."""
    number = 0
    for piece in pieces(ticket):
        blank = False
        for place, (_, text) in enumerate(piece.lines()):
            if text.strip():
                number += 1
                if blank and place:
                    yield number
            blank = not text.strip()


def _part_of(line: Line) -> str:
    return line.part


@dataclass(frozen=True)
class _Marks:
    """What is marked on each line, by its number."""

    spans: Mapping[int, Sequence[tuple[int, int, Cite]]]
    cites: Mapping[int, Sequence[Cite]]
    secrets: Mapping[int, Sequence[Masked]]
    after_blank: frozenset[int]

    @classmethod
    def of(cls, revision: Revision, cites: Sequence[Cite]) -> _Marks:
        spans: dict[int, list[tuple[int, int, Cite]]] = defaultdict(list)
        naming: dict[int, list[Cite]] = defaultdict(list)
        secrets: dict[int, list[Masked]] = defaultdict(list)
        for cite in cites:
            for number in dict.fromkeys(number for evidence in cite.evidence for number in _cited_lines(evidence)):
                naming[number].append(cite)
            for span in (span for evidence in cite.evidence for span in evidence.spans):
                spans[span.line].append((span.start, span.end, cite))
        for secret in revision.masked:
            secrets[secret.line].append(secret)
        return cls(spans, naming, secrets, frozenset(_after_blank(revision.ticket)))

    def cut(self, line: Line) -> NumberedLine:
        segments = tuple(self._segments(line))
        cites = tuple(self.cites.get(line.number, ()))
        return NumberedLine(line.number, segments, cites, line.number in self.after_blank)

    def _segments(self, line: Line) -> Iterator[Segment]:
        spans, secrets = self.spans.get(line.number, ()), self.secrets.get(line.number, ())
        edges = {0, len(line.text)}
        edges.update(edge for start, end, _ in spans for edge in (start, end))
        edges.update(edge for secret in secrets for edge in (secret.start, secret.end))
        names = [hidden(character) for character in line.text]
        edges.update(place for place in range(1, len(names)) if names[place] != names[place - 1])
        for start, end in pairwise(sorted(edge for edge in edges if 0 <= edge <= len(line.text))):
            cites = tuple(dict.fromkeys(cite for first, last, cite in spans if first <= start and end <= last))
            secret = next((one.kind for one in secrets if one.start <= start and end <= one.end), "")
            yield Segment(line.text[start:end], cites, secret, names[start])
