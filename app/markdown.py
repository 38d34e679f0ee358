"""Markdown of our own making as HTML, for pages and mails. HTML in it is shown, not obeyed, and nothing is fetched."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt

_RENDERER = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
_SPECIAL = re.compile(r"([\\`*_\[\]<|])")


def to_html(text: str) -> str:
    """The renderer escapes, and refuses javascript: links; a page takes no styles, so a class says `number`."""
    tokens = _RENDERER.parse(text)
    for token in tokens:
        if token.type == "table_open":
            token.attrs["tabindex"] = 0  # a wide one is moved with the keyboard too
        if token.attrs.pop("style", "") == "text-align:right":
            token.attrs["class"] = "number"
    html: str = _RENDERER.renderer.render(tokens, _RENDERER.options, {})
    return html


def literal(text: str) -> str:
    """Words of people or models as they are, in one line, whatever they look like."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table that can be read as they are: its first column to the left, numbers to the right."""
    widths = [max(3, *map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells: list[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        return " | ".join([f"| {first[0]:<{first[1]}}", *(f"{cell:>{width}}" for cell, width in rest)]) + " |"

    return [line(header), line(rule), *map(line, rows)]
