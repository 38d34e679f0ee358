"""Lists of wordings that are looked for in tickets, kept in TOML beside the code that uses them.

A wording is a regular expression in which a space stands for white space, ` ?` for perhaps some, `~40` for at most 40
characters of the same sentence, and `{name}` for a class of the same file. Its lines are read as one. It is written
folded, as the texts are that it is looked for in: to look for either case takes a third longer.

An entry with `near` is found where that stands in its wording or within `within` characters of it, before or after: two
lists instead of every order of both. `unless` anywhere in the same text means that it is about something else.

An entry is tried only on texts that hold one of its `words`, cut to six letters on both sides, so that a list of
hundreds costs next to nothing. One without words is for scripts other than Latin.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = Path(__file__).parent
STEM = 6  # letters
_WORD = re.compile(r"[^\W_]+")
_CLASS = re.compile(r"\{([a-z_]+)\}")
_GAP = re.compile(r"~(\d+)")


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str
    words: list[str] = []
    wording: Annotated[str, Field(min_length=1)]
    near: str = ""
    within: Annotated[int, Field(gt=0, le=200)] = 80  # characters
    unless: str = ""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: dict[str, str] = {}
    entries: Annotated[list[_Entry], Field(alias="entry", min_length=1)]


class Hit(NamedTuple):
    """Where a wording stands in a folded text, and what the list says it is about."""

    about: str
    start: int
    end: int


class _Wording(NamedTuple):
    about: str
    wording: re.Pattern[str]
    near: re.Pattern[str] | None
    within: int
    unless: re.Pattern[str] | None

    def found(self, text: str) -> Hit | None:
        place = next((place for match in self.wording.finditer(text) if (place := self._with_near(text, match))), None)
        if place is None or (self.unless is not None and self.unless.search(text)):
            return None
        return Hit(self.about, *place)

    def _with_near(self, text: str, match: re.Match[str]) -> tuple[int, int] | None:
        """From where to where the wording and what has to be near it stand; None where that is missing."""
        start, end = match.span()
        if self.near is None:
            return start, end
        near = self.near.search(text, max(0, start - self.within), end + self.within)
        return (min(start, near.start()), max(end, near.end())) if near else None


class WordList:
    """The wordings of one file. Of most texts not even the first is tried: none of its words stands there."""

    def __init__(self, content: _File) -> None:
        self._wordings = [_compiled(entry, content.classes) for entry in content.entries]
        self._other_scripts = frozenset(number for number, entry in enumerate(content.entries) if not entry.words)
        self._by_stem: dict[str, set[int]] = {}
        for number, entry in enumerate(content.entries):
            for word in entry.words:
                self._by_stem.setdefault(word[:STEM], set()).add(number)

    def hits(self, text: str) -> Iterator[Hit]:
        """The first place of each wording that a folded text has, in the order of the file."""
        stems = {word[:STEM] for word in _WORD.findall(text)}
        others = frozenset() if text.isascii() else self._other_scripts
        tried = others.union(*(self._by_stem[stem] for stem in stems & self._by_stem.keys()))
        for number in sorted(tried):
            if (hit := self._wordings[number].found(text)) is not None:
                yield hit


@cache
def read(name: str) -> WordList:
    return WordList(_File.model_validate(tomllib.loads((FOLDER / name).read_text("utf-8"))))


def _compiled(entry: _Entry, classes: Mapping[str, str]) -> _Wording:
    near, unless = (_pattern(text, classes) if text else None for text in (entry.near, entry.unless))
    return _Wording(entry.about, _pattern(entry.wording, classes), near, entry.within, unless)


def _pattern(wording: str, classes: Mapping[str, str]) -> re.Pattern[str]:
    """A wording as a regular expression; classes may name others."""
    while _CLASS.search(wording):
        wording = _CLASS.sub(lambda match: f"(?:{classes[match[1]]})", wording)
    one_line = "".join(line.lstrip() for line in wording.splitlines())
    spaced = one_line.replace(" ?", r"\s{0,3}").replace(" ", r"\s{1,3}")
    return re.compile(_GAP.sub(r"[^.!?]{0,\1}?", spaced), re.MULTILINE)
