"""Text in a ticket that reads like instructions to a model: found cheaply, so that a judgement can be made without it.

Made to find rather than to be sure: what is found accuses nobody. It is masked for one more run, and only where the
verdict depends on it does a person look. Written from what is published about such attacks, never from test data.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from typing import TYPE_CHECKING

from agents.lookalikes import skeleton
from agents.prompt import visible
from agents.verdict import Span
from agents.wordlists import read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agents.ticket import Line

LIST = "instructions.toml"
_SENTENCE = re.compile(r"[^.!?\u3002\uff01\uff1f]+[.!?\u3002\uff01\uff1f]*\s*")
_SPACED = re.compile(r"\b(?:\w[ ._*-]){4,}\w\b")
_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{24,2000}={0,2}|(?:[0-9a-fA-F]{2}[ :]?){16,1000}")
PIECE, OVERLAP = 2_000, 400  # characters; a longer text is looked at in pieces
_DOT_OF_I = "\u0307"  # what folding leaves of a capital I with a dot
WRAPPED = 4  # lines over which one sentence is broken


def instruction_spans(lines: Sequence[Line]) -> tuple[Span, ...]:
    """What reads like instructions to a model, and all that follows it in the same part of the ticket.

    An order and what it dictates stand together, and only the order can be told from what people write.
    """
    found: list[Span] = []
    for part, grouped in itertools.groupby(lines, key=lambda line: line.part):
        group = list(grouped)
        if part == "field":
            found += [span for line in group for span in _from_order_on([line])]
        else:
            found += _from_order_on(group)
    return tuple(found)


def _from_order_on(lines: Sequence[Line]) -> list[Span]:
    texts = [line.text for line in lines]
    if not _reads_like_orders("\n".join(map(visible, texts))):
        return []
    first, start = _first_order(texts)
    rest = [Span(line.number, 0, len(line.text)) for line in lines[first + 1 :]]
    return [Span(lines[first].number, start, len(lines[first].text)), *rest]


def _first_order(texts: Sequence[str]) -> tuple[int, int]:
    """Index of the line and of the character where the first order begins; it may be broken over lines."""
    for index, text in enumerate(texts):
        if _reads_like_orders(visible(text)):
            sentences = _SENTENCE.finditer(text)
            return index, next((one.start() for one in sentences if _reads_like_orders(visible(one[0]))), 0)
    seen = [visible(text) for text in texts]
    broken = (index for index in range(len(seen)) if _reads_like_orders("\n".join(seen[index : index + WRAPPED])))
    return next(broken, 0), 0


def without(lines: Sequence[Line], spans: Sequence[Span]) -> tuple[Line, ...]:
    """The lines with what stands in the spans masked: numbers, lengths and places of everything else stay."""
    masks = {span.line: span for span in spans}
    return tuple(_masked(line, masks[line.number]) if line.number in masks else line for line in lines)


def _masked(line: Line, span: Span) -> Line:
    hidden = "*" * (span.end - span.start)
    return line._replace(text=line.text[: span.start] + hidden + line.text[span.end :])


def _reads_like_orders(text: str) -> bool:
    """In any of the forms in which a text can be read."""
    forms = itertools.chain((text,), _joined(text), _decoded(text))
    return any(_hit(piece) for form in forms for piece in _pieces(form))


def _hit(text: str) -> bool:
    """Letters that pass for Latin ones are read as those, and then as what they are."""
    return _any(skeleton(text)) or (not text.isascii() and _any(text.casefold().replace(_DOT_OF_I, "")))


def _any(text: str) -> bool:
    return next(read(LIST).hits(text), None) is not None


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, max(len(text) - OVERLAP, 1), PIECE - OVERLAP):
        yield text[start : start + PIECE]


def _joined(text: str) -> Iterator[str]:
    """Words that were spelled out letter by letter, as words."""
    if _SPACED.search(text):
        yield _SPACED.sub(lambda match: re.sub(r"[ ._*-]", "", match[0]), re.sub(r" {2,}", "\n", text))


def _decoded(text: str) -> Iterator[str]:
    """What stands in the text in base64 or hexadecimal, where that is text."""
    for match in _ENCODED.finditer(text):
        for decode in (_base64, _hexadecimal):
            if len(plain := decode(match[0])) > len("ignore this") and plain.isprintable():
                yield plain


def _base64(text: str) -> str:
    padded = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _hexadecimal(text: str) -> str:
    try:
        return bytes.fromhex(text.replace(":", " ")).decode()
    except ValueError:
        return ""
