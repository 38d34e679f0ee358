"""What changed between two texts, as lines with the changed words marked. Pure; the component `diff` shows it."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Kind = Literal["same", "old", "new", "gap"]

AROUND = 2  # unchanged lines shown on either side of a change
MOST_WORDS = 4_000  # in one changed passage; comparing more takes seconds, so only its lines are marked
_WORDS = re.compile(r"\n|[^\S\n]+|\w+|[^\w\s]")


class Part(NamedTuple):
    """A run of characters of a line; `changed` where only this side has it."""

    text: str
    changed: bool


class Line(NamedTuple):
    """A line that is in both texts, only in the old one, or only in the new one; `gap` stands for unchanged ones."""

    kind: Kind
    parts: tuple[Part, ...]


class FileDiff(NamedTuple):
    name: str
    lines: tuple[Line, ...]


def files(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[FileDiff, ...]:
    """The files that differ, in the new one's order."""
    names = [*new, *(name for name in old if name not in new)]
    pairs = ((name, old.get(name, ""), new.get(name, "")) for name in names)
    return tuple(FileDiff(name, lines(before, after)) for name, before, after in pairs if before != after)


def lines(old: str, new: str, *, around: int | None = AROUND) -> tuple[Line, ...]:
    """The two texts line by line; `around` None shows every unchanged line. Nothing where they are the same."""
    return () if old == new else tuple(_lines(_split(old), _split(new), around=around))


def _split(text: str) -> list[str]:
    """Lines; carriage returns are shown, because a difference that nobody sees is none to a reader."""
    return text.replace("\r", "\N{SYMBOL FOR CARRIAGE RETURN}").removesuffix("\n").split("\n") if text else []


def _lines(old: Sequence[str], new: Sequence[str], *, around: int | None) -> Iterator[Line]:
    moves = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for number, (move, start, end, begin, finish) in enumerate(moves):
        if move != "equal":
            yield from _changed("\n".join(old[start:end]), "\n".join(new[begin:finish]), move)
        elif around is None:
            yield from map(_same, old[start:end])
        else:
            head = around if number else 0
            tail = around if number < len(moves) - 1 else 0
            yield from _unchanged(old[start:end], head=head, tail=tail)


def _unchanged(same: Sequence[str], *, head: int, tail: int) -> Iterator[Line]:
    """Those next to a change; one gap stands for the others."""
    if len(same) <= head + tail:
        yield from map(_same, same)
        return
    yield from map(_same, same[:head])
    yield Line("gap", ())
    yield from map(_same, same[len(same) - tail :])


def _same(text: str) -> Line:
    return Line("same", (Part(text, changed=False),))


def _changed(old: str, new: str, move: str) -> Iterator[Line]:
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    if move != "replace" or len(before) > MOST_WORDS or len(after) > MOST_WORDS:
        yield from _sided("old", [Part(old, changed=False)] if move != "insert" else [])
        yield from _sided("new", [Part(new, changed=False)] if move != "delete" else [])
        return
    sides: tuple[list[Part], list[Part]] = ([], [])
    for step, start, end, begin, finish in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        sides[0].append(Part("".join(before[start:end]), changed=step != "equal"))
        sides[1].append(Part("".join(after[begin:finish]), changed=step != "equal"))
    yield from _sided("old", sides[0])
    yield from _sided("new", sides[1])


def _sided(kind: Literal["old", "new"], parts: Sequence[Part]) -> Iterator[Line]:
    """The parts cut into lines."""
    if not parts:
        return
    line: list[Part] = []
    for part in parts:
        first, *rest = part.text.split("\n")
        line.append(Part(first, part.changed))
        for text in rest:
            yield Line(kind, tuple(one for one in line if one.text))
            line = [Part(text, part.changed)]
    yield Line(kind, tuple(one for one in line if one.text))
