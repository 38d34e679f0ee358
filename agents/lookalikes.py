"""Text as the eye reads it: letters of other alphabets, widths and styles as the Latin letters that they look like.

Only for looking: what is folded is compared, never shown and never quoted from.
"""

# ruff: noqa: RUF001  letters that look like others are what this file is about

from __future__ import annotations

import functools
import re
import unicodedata
from typing import NamedTuple

# Where letters stand that are Latin ones with something to them that NFKD does not take off: a hook, a box around them.
_LATIN = ((0xC0, 0x2AF), (0x1D00, 0x1DBF), (0x1E00, 0x1EFF), (0x2C60, 0x2C7F), (0xA720, 0xA7FF), (0x1F100, 0x1F1FF))
_LATIN_NAME = re.compile(
    r"(?:LATIN (?:SMALL|CAPITAL) LETTER|LATIN LETTER SMALL CAPITAL|REGIONAL INDICATOR SYMBOL LETTER"
    r"|(?:NEGATIVE |CROSSED NEGATIVE )?(?:SQUARED|CIRCLED) LATIN CAPITAL LETTER)"
    r"(?: DOTLESS| SCRIPT| INSULAR| BARRED)? ([A-Z])(?: WITH .+)?"
)


def _by_name() -> dict[str, str]:
    """Each of those letters as the one that its name has in it."""
    letters = (chr(code) for first, last in _LATIN for code in range(first, last + 1))
    named = ((letter, _LATIN_NAME.fullmatch(unicodedata.name(letter, ""))) for letter in letters)
    return {letter: name[1].lower() for letter, name in named if name}


# Letters of other scripts that pass for Latin ones in common fonts; what NFKD folds by itself is not here.
_ALIKE = str.maketrans(
    {
        **_by_name(),
        **dict(zip("авекмнорстухіјѕԁԛԝһӏгпшь", "abekmhopctyxijsdqwhlrnwb", strict=True)),
        **dict(zip("αβεγικνορτυχωηζμκς", "abeyikvoptuxwnzukc", strict=True)),
        **dict(zip("ɑɡıɩ", "agii", strict=True)),
        **dict(zip("օսոհցյզք", "ounhgjqp", strict=True)),
        **dict(zip("ⲁⲃⲉⲏⲓⲕⲙⲛⲟⲣⲥⲧⲩⲭ", "abehikmnopctyx", strict=True)),
        **dict(zip("ꓐꓑꓓꓔꓖꓗꓙꓚꓜꓝꓟꓠꓡꓢꓣꓦꓧꓪꓫꓬꓮꓰꓲꓳꓴ", "bpdtgkjczfmnlsrvhwxyaeiou", strict=True)),
        **dict(zip("ᎢᏆᏟᏦᎬᎪᏴᎠᏀᎻᎫᏞᎷᏢᏒᏚᏙᎳᏃ", "tickeabdghjlmprsvwz", strict=True)),
        **dict(zip("𐊗𐊢𐊠𐊡𐊫𐌂𐌄𐌉𐌕𐌗", "tcaboceitx", strict=True)),
        **dict.fromkeys("ⅼ|ǀ∣", "l"),
        "ß": "ss",
    }
)  # fmt: skip
_OPENING = frozenset("<‹❮⟨〈《«⟪⧼˂ᐸ⋖≺﹤＜❬⦑⨞﹝≪⋘くㄑ")
# What HTML, addresses and JSON write for a character.
_ESCAPED = re.compile(
    r"&(?P<name>lt);?|&#0*(?P<ten>[0-9]{1,6});?|&#x0*(?P<html>[0-9a-f]{1,5});?"
    r"|%(?P<address>[2-7][0-9a-f])|\\u(?P<json>[0-9a-f]{4})|\\x(?P<byte>[0-9a-f]{2})"
)
_BETWEEN = re.compile(r"[^a-z0-9<!×]+")  # nothing that the eye could take for a letter of a fence's name
# An exclamation mark may stand for the i or between letters. Possessive, so that a line of nothing else takes no time.
_FENCE = re.compile("<!*+t(?:!*+[i1l]!*+|!++)c!*+k!*+e!*+t!*+t!*+e!*+[x×]!*+t")
_HINT = re.compile("c[^a-z0-9]*k[^a-z0-9]*e[^a-z0-9]*t")


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
    plain = skeleton(text)
    if _HINT.search(plain) is None and _ESCAPED.search(plain) is None:  # nearly every line
        return text
    seen = _squeezed(_unescaped(folded(text)))
    parts, position, end = [], 0, 0
    for match in _FENCE.finditer(seen.text):
        opening = _first_bracket(seen.text, match.start(), since=end)
        parts += [text[position : seen.origin[opening]], "(ticket-text"]
        end, position = match.end(), seen.origin[match.end() - 1] + 1
    return "".join(parts) + text[position:] if parts else text


def _first_bracket(text: str, last: int, *, since: int) -> int:
    """Where the run of brackets begins that ends with this one."""
    begin = since + len(text[since:last].rstrip("<!"))
    return text.index("<", begin)


def _squeezed(seen: Folded) -> Folded:
    """Without what stands between letters."""
    kept = [index for index, char in enumerate(seen.text) if not _BETWEEN.match(char)]
    return Folded("".join(seen.text[index] for index in kept), [seen.origin[index] for index in kept])


def _unescaped(seen: Folded) -> Folded:
    """With characters in the place of what is written for them."""
    characters: list[str] = []
    origin: list[int] = []
    position = 0
    for match in _ESCAPED.finditer(seen.text):
        written = _written(match)
        characters += [seen.text[position : match.start()], written]
        origin += [*seen.origin[position : match.start()], *[seen.origin[match.start()]] * len(written)]
        position = match.end()
    return Folded("".join(characters) + seen.text[position:], [*origin, *seen.origin[position:]])


def _written(escaped: re.Match[str]) -> str:
    """The character, folded: the bracket by its name, any by its number."""
    kind = str(escaped.lastgroup)
    return "<" if kind == "name" else _folded_one(chr(int(escaped[kind], 10 if kind == "ten" else 16)))
