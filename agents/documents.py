"""One context file -> Document: front matter, prose, items, each with its line. Nothing is raised, problems are listed.

HTML comments are notes to the people who edit; they are gone from everything a Document holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

import yaml
from markdown_it import MarkdownIt
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from markdown_it.token import Token

Severity = Literal["error", "warning"]

ID = re.compile(r"[a-z][a-z0-9_]*")
_REFERENCE = re.compile(r"\[\[([^\[\]\n]*)\]\]")

_FRONT_MATTER = re.compile(r"\s*^---[ \t]*\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"(.*?)\s*\{#([^{}]*)\}", re.DOTALL)
# Blocks only: which words are bold is of no interest here, and inline parsing is most of the time.
_MARKDOWN = MarkdownIt("commonmark", {"html": False})
_MARKDOWN.core.ruler.enableOnly(["normalize", "block"])


@dataclass(frozen=True)
class Problem:
    """One thing wrong in the files. `severity` is error (cannot be released) or warning."""

    file: str
    line: int
    severity: Severity
    message: str

    @override
    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.severity}: {self.message}"


@dataclass(frozen=True)
class Item:
    """One `## Title {#id}` section. `body` is its markdown without heading and comments; it starts at `body_line`."""

    id: str
    title: str
    body: str
    file: str
    line: int
    body_line: int


class Setting(NamedTuple):
    value: str
    line: int


class Bullet(NamedTuple):
    """One bullet of a list that stands at the left margin. `list` numbers the lists of an item, `text` is unmarked."""

    list: int
    text: str
    line: int
    end: int


@dataclass(frozen=True)
class Document:
    """`prose` stands before the first item; `plain` is the whole text with comments and front matter blanked out."""

    file: str
    plain: str
    front: Mapping[str, Setting]
    prose: str
    items: tuple[Item, ...]
    problems: tuple[Problem, ...]


def read_document(file: str, text: str) -> Document:
    """The file's parts. What is not in the form becomes a problem, and the rest is still read."""
    problems: list[Problem] = []
    plain = _without_comments(file, text, problems)
    front, plain = _front_matter(file, plain, problems)
    lines = plain.split("\n")
    headings = list(_headings(file, plain, problems))
    ends = [heading.line for heading in headings[1:]] + [len(lines) + 1]
    items = tuple(
        _item(file, heading, lines[heading.body_line - 1 : end - 1])
        for heading, end in zip(headings, ends, strict=False)  # without headings there is nothing to end
        if heading.id
    )
    prose = "\n".join(lines[: headings[0].line - 1] if headings else lines).strip()
    return Document(file, plain, front, prose, items, tuple(problems))


def bullets(item: Item) -> list[Bullet]:
    """The bullets of the item, in order; bullets inside bullets belong to the outer one."""
    found = []
    lists = 0
    lines = item.body.split("\n")
    tokens = _MARKDOWN.parse(item.body)
    for token in tokens:
        if token.type == "bullet_list_open" and token.level == 0:
            lists += 1
        elif token.type == "list_item_open" and token.level == 1 and token.markup in "-*+" and token.map:
            start, end = token.map
            text = "\n".join(lines[start:end]).strip().removeprefix(token.markup).strip()
            found.append(Bullet(lists, text, item.body_line + start, item.body_line + end))
    return found


def references(text: str) -> Iterator[tuple[str, int]]:
    """Every `[[id]]` with its line."""
    for number, line in enumerate(text.split("\n"), start=1):
        for match in _REFERENCE.finditer(line):
            yield match[1].strip(), number


def resolved(text: str) -> str:
    """The text as agents and people read it: `[[id]]` is written as the id alone."""
    return _REFERENCE.sub(lambda match: match[1].strip(), text)


def _without_comments(file: str, text: str, problems: list[Problem]) -> str:
    """Comments become empty lines, so that every line keeps its number."""
    rest = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    kept: list[str] = []
    while (start := rest.find("<!--")) >= 0:
        end = rest.find("-->", start + 4)
        if end < 0:
            line = sum(part.count("\n") for part in kept) + _line_of(rest, start)
            problems.append(Problem(file, line, "error", "this comment is never closed: add -->"))
            break
        kept += [rest[:start], "\n" * rest.count("\n", start, end)]
        rest = rest[end + 3 :]
    return "".join((*kept, rest))


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _front_matter(file: str, plain: str, problems: list[Problem]) -> tuple[dict[str, Setting], str]:
    """The settings at the top, and the text with them blanked out."""
    match = _FRONT_MATTER.match(plain)
    if match is None:
        if re.match(r"\s*---[ \t]*\n", plain):
            line = _line_of(plain, plain.index("---"))
            problems.append(Problem(file, line, "error", "the settings that begin here never end: add a line ---"))
        return {}, plain
    first = _line_of(plain, match.start(1))
    front: dict[str, Setting] = {}
    try:
        front = _settings_of(file, yaml.compose(match[1], Loader=yaml.SafeLoader), first, problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"the settings between the --- lines are not valid YAML: {error.problem or error.context}"
        problems.append(Problem(file, first + (mark.line if mark else 0), "error", message))
    except (yaml.YAMLError, RecursionError):
        problems.append(Problem(file, first, "error", "the settings between the --- lines are not valid YAML"))
    return front, "\n" * match[0].count("\n") + plain[match.end() :]


def _settings_of(file: str, node: yaml.Node | None, first: int, problems: list[Problem]) -> dict[str, Setting]:
    """`name: value` pairs as written; values are never built into objects, so a file can run nothing."""
    found: dict[str, Setting] = {}
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    if node is not None and not isinstance(node, yaml.MappingNode):
        problems.append(Problem(file, first, "error", "write the settings between the --- lines as `name: value`"))
    for key, value in pairs:
        line = first + key.start_mark.line
        if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode):
            problems.append(Problem(file, line, "error", "write settings as `name: value`, one a line"))
        elif key.value in found:
            problems.append(Problem(file, line, "error", f"the setting {key.value} is given twice"))
        else:
            found[key.value] = Setting(value.value, line)
    return found


class _Heading(NamedTuple):
    id: str
    title: str
    line: int
    body_line: int


def _headings(file: str, plain: str, problems: list[Problem]) -> Iterator[_Heading]:
    """Every `##` heading, also those without an id: they end the item before them."""
    tokens = _MARKDOWN.parse(plain)
    begun = False
    for token, inline in pairwise(tokens):
        if token.type != "heading_open" or token.level != 0 or token.map is None:
            continue
        line = token.map[0] + 1
        if token.tag == "h2":
            begun = True
            yield _heading(file, token, inline.content, problems)
        elif token.tag == "h1" and begun:
            problems.append(
                Problem(file, line, "error", "a heading with one # belongs at the top; items begin with ##")
            )


def _heading(file: str, token: Token, content: str, problems: list[Problem]) -> _Heading:
    start, end = token.map or (0, 0)
    match = _HEADING.fullmatch(content)
    title, identity = (match[1], match[2].strip()) if match else (content, "")
    wrong = _wrong_heading(title, identity)
    if wrong:
        problems.append(Problem(file, start + 1, "error", wrong))
    return _Heading(identity if match else "", title, start + 1, end + 1)


def _wrong_heading(title: str, identity: str) -> str:
    if not identity:
        suggested = "_".join(re.findall(r"[a-z0-9]+", title.lower())) or "its_name"
        return f'the heading "{title[:60]}" has no id: end it with {{#{suggested}}}'
    if not ID.fullmatch(identity):
        return f'the id "{identity}" must be small letters, digits and _, and begin with a letter'
    if not title:
        return f"the heading of {identity} has no title before {{#{identity}}}"
    return ""


def _item(file: str, heading: _Heading, lines: Sequence[str]) -> Item:
    """Empty lines around the body go, and `body_line` says where it then starts."""
    skipped = next((index for index, line in enumerate(lines) if line.strip()), 0)
    body = "\n".join(lines[skipped:]).rstrip()
    return Item(heading.id, heading.title, body, file, heading.line, heading.body_line + skipped)
