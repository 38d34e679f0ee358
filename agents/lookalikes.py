"""Text as the eye reads it: letters of other alphabets, widths and styles as the Latin letters that they look like.

Only for looking: what is folded is compared, never shown and never quoted from.
"""

# ruff: noqa: RUF001  letters that look like others are what this file is about

from __future__ import annotations

import functools
import re
import unicodedata
from typing import NamedTuple

# Letters of other scripts that pass for Latin ones in common fonts; what NFKD folds by itself is not here.
_ALIKE = str.maketrans(
    {
        **dict(zip("авекмнорстухіјѕԁԛԝһӏгпшь", "abekmhopctyxijsdqwhlrnwb", strict=True)),
        **dict(zip("αβεγικνορτυχωηζμκς", "abeyikvoptuxwnzukc", strict=True)),
        **dict(zip("ɑɡıɩʟɴʀʏɪᴛᴇᴄᴋ", "agiilnryiteck", strict=True)),
        **dict(zip("օսոհցյզք", "ounhgjqp", strict=True)),
        **dict.fromkeys("ⅼ|ǀ∣", "l"),
        "ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ŧ": "t", "ß": "ss",
    }
)  # fmt: skip
_OPENING = frozenset("<‹❮⟨〈《«⟪⧼˂ᐸ⋖≺﹤＜❬⦑⨞﹝")
_ENTITY = re.compile(r"(?:&(?:lt|#0*60|#x0*3c)|%3c|\\u003c|\\x3c);?")
_NAME = re.compile(r"t[i1l!]cket[^a-z0-9]{0,8}te[x×]t")  # of a fence


class Folded(NamedTuple):
    """Folded text; character i of it comes from character `origin[i]` of the source."""

    text: str
    origin: list[int]


def skeleton(text: str) -> str:
    """Folded for comparing: compatibility forms undone, marks dropped, lookalikes as Latin, in small letters."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text).casefold().translate(_ALIKE)
    return "".join(char for char in apart if not unicodedata.category(char).startswith("M"))


def folded(text: str) -> Folded:
    """The same with where each character comes from."""
    if text.isascii():
        return Folded(text.lower(), list(range(len(text))))
    characters: list[str] = []
    origin: list[int] = []
    for position, char in enumerate(text):
        for part in _folded_one(char):
            characters.append(part)
            origin.append(position)
    return Folded("".join(characters), origin)


@functools.lru_cache(8_192)
def _folded_one(char: str) -> str:
    return "<" if char in _OPENING else skeleton(char)


def without_fences(text: str) -> str:
    """The text with whatever could be read as one of our fence lines in round brackets, however it is dressed up."""
    squeezed = skeleton(text)
    if "cket" not in squeezed:  # nearly every line
        return text
    seen = _unescaped(folded(text))
    parts, position, end = [], 0, 0
    for match in _NAME.finditer(seen.text):
        first = _opened(seen.text, after=end, before=match.start())
        end = match.end()
        if first is not None:
            parts += [text[position : seen.origin[first]], "(ticket-text"]
            position = seen.origin[end - 1] + 1
    return "".join(parts) + text[position:] if parts else text


def _unescaped(seen: Folded) -> Folded:
    """With brackets in the place of what HTML, addresses and JSON write for them."""
    characters: list[str] = []
    origin: list[int] = []
    position = 0
    for match in _ENTITY.finditer(seen.text):
        characters += [seen.text[position : match.start()], "<"]
        origin += [*seen.origin[position : match.start()], seen.origin[match.start()]]
        position = match.end()
    return Folded("".join(characters) + seen.text[position:], [*origin, *seen.origin[position:]])


def _opened(text: str, *, after: int, before: int) -> int | None:
    """Where the bracket is that opens a fence: anywhere in what separates its name from the word before."""
    start = before
    while start > after and not text[start - 1].isalnum():
        start -= 1
    bracket = text.find("<", start, before)
    return bracket if bracket >= 0 else None
