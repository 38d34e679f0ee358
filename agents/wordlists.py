"""Lists of wordings that are looked for in tickets, kept in TOML beside the code that uses them.

A wording is a regular expression in which a space stands for white space, `~40` for at most 40 characters of the same
sentence, and `{name}` for a class of the same file. It is tried only on texts that hold one of its `words`, cut to six
letters on both sides, so that a list of hundreds costs next to nothing. One without words is for scripts other than
Latin.
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
_FLAGS = re.IGNORECASE | re.MULTILINE
STEM = 6  # letters
_WORD = re.compile(r"[^\W_]+")
_CLASS = re.compile(r"\{([a-z_]+)\}")
_GAP = re.compile(r"~(\d+)")


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str
    words: list[str] = []
    wording: Annotated[str, Field(min_length=1)]
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
    unless: re.Pattern[str] | None  # in the same text: then it is about something else

    def found(self, text: str) -> Hit | None:
        match = self.wording.search(text)
        if match is None or (self.unless is not None and self.unless.search(text)):
            return None
        return Hit(self.about, *match.span())


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
    unless = re.compile(_expanded(entry.unless, classes), _FLAGS) if entry.unless else None
    return _Wording(entry.about, re.compile(_expanded(entry.wording, classes), _FLAGS), unless)


def _expanded(wording: str, classes: Mapping[str, str]) -> str:
    """A wording as a regular expression; classes may name others."""
    one_line = "".join(line.lstrip() for line in wording.splitlines())
    while _CLASS.search(one_line):
        one_line = _CLASS.sub(lambda match: f"(?:{classes[match[1]]})", one_line)
    return _GAP.sub(r"[^.!?]{0,\1}?", one_line).replace(" ", r"\s{1,3}")
