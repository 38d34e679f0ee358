"""A citation -> the place in the ticket where it stands, or nothing. A quote that is not there proves nothing.

Both sides are folded alike before they are compared, because a model retypes what it reads: compatibility forms and
accents (NFKD, which makes the same strings equal as NFKC and can be done character by character, so that every folded
character knows where it came from), typographic quotes and dashes, runs of white space, invisible characters. Words and
their order stay. Case counts first; where the quote is found in no case but another, it is found all the same: models
capitalise the start of a quote, and words in another case still cannot be invented.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agents.prompt import visible
from agents.verdict import Evidence, Span

if TYPE_CHECKING:
    from agents.ticket import Line

SHORTEST_QUOTE, LONGEST_QUOTE = 3, 12  # words; a shorter line may be quoted whole

_ALIKE = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u2035\u00b4\u02bc`", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
}
_ALIKE_TABLE = str.maketrans(_ALIKE)
_ENDS = " '\""  # trimmed from both ends of a quote, with ellipses
_SENTENCE_MARKS = ".,;:"  # added or dropped by whoever quotes
# Scripts written without spaces: a word is taken as two characters, and any place as the end of one.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")


class _Folded(NamedTuple):
    """Folded text; characters i..j of it come from `starts[i]`..`ends[j - 1]` of the source."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]


def verify(lines: Sequence[Line], *, line: int, quote: str) -> Evidence | None:
    """Where the quote stands: on the cited line, else the nearest other, else across lines of one part, else None.

    The evidence names the line where it was found and holds the quote as it stands there.
    """
    wanted = _trimmed(quote)
    if not wanted or _words(wanted) > LONGEST_QUOTE:
        return None
    nearest = sorted(lines, key=lambda one: abs(one.number - line))
    for fold in (str, str.casefold):
        for candidate in nearest:
            if spans := _on_line(candidate, fold(wanted), fold=fold):
                return _evidence(lines, spans)
        if spans := _across_lines(lines, fold(wanted), line=line, fold=fold):
            return _evidence(lines, spans)
    return None


def normalise(text: str) -> str:
    """What is compared: folded, in its own case."""
    return _fold(text, str).text


def _trimmed(quote: str) -> str:
    """The folded quote without what frames it: quote marks, ellipses, a closing full stop."""
    wanted, before = normalise(quote), None
    while wanted != before:
        before = wanted
        wanted = wanted.strip(_ENDS).removeprefix("...").removesuffix("...").rstrip(_SENTENCE_MARKS)
    return wanted


def _words(text: str) -> int:
    if text.isascii():
        return len(text.split())
    unspaced = len(_UNSPACED.findall(text))
    return len(_UNSPACED.sub(" ", text).split()) + (unspaced + 1) // 2


_BREAKS = "\t\n\r\v\f"  # in a quote; elsewhere control characters are not shown to a model
Fold = Callable[[str], str]


def _on_line(line: Line, wanted: str, *, fold: Fold) -> tuple[Span, ...]:
    if wanted not in _text(line.text, fold):
        return ()
    folded = _fold(line.text, fold)
    if _words(wanted) < SHORTEST_QUOTE and wanted not in _wholes(line, folded.text):
        return ()
    found = _find(folded, wanted)
    return (Span(line.number, folded.starts[found[0]], folded.ends[found[1] - 1]),) if found else ()


def _wholes(line: Line, text: str) -> Iterator[str]:
    """The line as a whole, and of a field also its value: "P3" is all there is to say of "priority: P3"."""
    yield _trimmed(text)
    if line.part in {"field", "resolution"}:
        yield _trimmed(text.partition(": ")[2])


def _across_lines(lines: Sequence[Line], wanted: str, *, line: int, fold: Fold) -> tuple[Span, ...]:
    """One span for each line that the quote runs over; fields are no running text."""
    if _words(wanted) < SHORTEST_QUOTE:
        return ()
    parts = [list(group) for part, group in itertools.groupby(lines, key=lambda one: one.part) if part != "field"]
    parts.sort(key=lambda part: min(abs(one.number - line) for one in part))
    for part in parts:
        if len(part) > 1 and wanted in " ".join(text for one in part if (text := _text(one.text, fold))):
            spans = _across([(one.number, _fold(one.text, fold)) for one in part], wanted)
            if spans:
                return spans
    return ()


def _across(texts: Sequence[tuple[int, _Folded]], wanted: str) -> tuple[Span, ...]:
    texts = [(number, folded) for number, folded in texts if folded.text]
    whole = " ".join(folded.text for _, folded in texts)
    found = _find(_Folded(whole, range(len(whole)), range(1, len(whole) + 1)), wanted)
    if found is None:
        return ()
    spans, position = [], 0
    for number, folded in texts:
        first, last = found[0] - position, found[1] - position
        position += len(folded.text) + 1
        if first < len(folded.text) and last > 0:
            start, end = max(first, 0), min(last, len(folded.text))
            spans.append(Span(number, folded.starts[start], folded.ends[end - 1]))
    return tuple(spans)


def _find(folded: _Folded, wanted: str) -> tuple[int, int] | None:
    """The first place that begins and ends with whole words and whole characters of the source."""
    start = folded.text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        if _stands_alone(folded.text, start, end) and _whole_characters(folded, start, end):
            return start, end
        start = folded.text.find(wanted, start + 1)
    return None


def _stands_alone(text: str, start: int, end: int) -> bool:
    return not _joined(text[max(0, start - 2) : start], text[start : start + 1]) and not _joined(
        text[end : end + 2][::-1], text[end - 1 : end]
    )


def _joined(outside: str, edge: str) -> bool:
    """True where the character at the edge goes on outside: inside a word, or inside a number like 10.2."""
    neighbour = outside[-1:]
    if edge.isdigit() and neighbour and neighbour in ".,:" and outside[:-1].isdigit():
        return True
    in_words = _in_word(neighbour) and _in_word(edge)
    return in_words and _UNSPACED.match(edge) is None and _UNSPACED.match(neighbour) is None


def _in_word(char: str) -> bool:
    """A letter, a digit, or a mark on one: folded text has its accents apart."""
    return char.isalnum() or char == "_" or unicodedata.category(char or " ").startswith("M")


def _whole_characters(folded: _Folded, start: int, end: int) -> bool:
    """False where a character that folds to several (a fraction, a ligature) would be cut."""
    cut_before = start > 0 and folded.starts[start] == folded.starts[start - 1]
    cut_after = end < len(folded.text) and folded.starts[end] == folded.starts[end - 1]
    return not (cut_before or cut_after)


def _text(text: str, fold: Fold) -> str:
    """The folded text of a line alone, many times faster than with its positions: most lines do not hold the quote."""
    if not text.isascii() or "`" in text or not text.replace("\t", " ").isprintable():
        text = unicodedata.normalize("NFKD", visible(text).translate(_ALIKE_TABLE)).translate(_ALIKE_TABLE)
    return fold(" ".join(text.split()))


def _fold(text: str, fold: Fold) -> _Folded:
    if text.isascii() and text.isprintable() and "`" not in text and " ".join(text.split()) == text:
        return _Folded(fold(text), range(len(text)), range(1, len(text) + 1))
    characters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _clusters(text):
        for character in fold(_fold_cluster(text[start:end])):
            space = character.isspace()
            if space and (not characters or characters[-1] == " "):
                continue
            characters.append(" " if space else character)
            starts.append(start)
            ends.append(end)
    while characters and characters[-1] == " ":
        characters.pop()
    return _Folded("".join(characters), starts, ends)


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Each character with the marks that combine with it."""
    start = 0
    for position in range(1, len(text) + 1):
        if position == len(text) or not unicodedata.combining(text[position]):
            yield start, position
            start = position


def _fold_cluster(cluster: str) -> str:
    if cluster in _BREAKS:
        return " "
    seen = "".join(_ALIKE.get(character, character) for character in visible(cluster))
    return "".join(_ALIKE.get(character, character) for character in unicodedata.normalize("NFKD", seen))


def _evidence(lines: Sequence[Line], spans: Sequence[Span]) -> Evidence:
    texts = {line.number: line.text for line in lines}
    quote = "\n".join(texts[span.line][span.start : span.end] for span in spans)
    return Evidence(spans[0].line, quote, tuple(spans))
