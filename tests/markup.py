"""A page as a test reads it: elements by tag, class and id, and their words."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCKS = frozenset(
    {"td", "th", "tr", "dt", "dd", "li", "p", "div", "h1", "h2", "h3", "blockquote", "ol", "ul", "summary"}
)
VOID = frozenset({"meta", "link", "input", "br", "hr", "img"})


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    def all(self, tag: str = "", *, cls: str = "", **attributes: str) -> list[Element]:
        """Every element inside that has the tag, the class and the attributes."""
        wanted = attributes.items()
        return [
            one
            for one in self._inside()
            if tag in {"", one.tag} and (not cls or cls in one.classes) and wanted <= one.attributes.items()
        ]

    def one(self, tag: str = "", *, cls: str = "", **attributes: str) -> Element:
        found = self.all(tag, cls=cls, **attributes)
        assert len(found) == 1, f"{len(found)} of {tag} {cls} {attributes}"
        return found[0]

    @property
    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())

    @property
    def words(self) -> str:
        """The text as it reads: every run of blanks is one space, and what stands apart is apart."""
        return " ".join("".join(self._texts(apart=" ")).split())

    @property
    def text(self) -> str:
        return "".join(self._texts())

    def _inside(self) -> Iterator[Element]:
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child._inside()  # noqa: SLF001  its own kind

    def _texts(self, *, apart: str = "") -> Iterator[str]:
        for child in self.children:
            if isinstance(child, Element):
                edge = apart if child.tag in BLOCKS else ""
                yield from (edge, *child._texts(apart=apart), edge)  # noqa: SLF001  its own kind
            else:
                yield child


class _Reader(HTMLParser):
    """Strict where a page must be: every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    @override
    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    @override
    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read(html: str) -> Element:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].tag}> is not closed"
    return reader.open[0]
