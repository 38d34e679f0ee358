"""Itemised edits of context files: add, update or retire one `## Title {#id}` item; every other byte stays.

1. Each edit is looked at by itself: known operation, file and item, a title of one line, a text that is no second item.
2. They are applied one after the other; each replaces one run of characters of one file.
3. The file is read again. Unless exactly that item changed, the edit is refused.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from agents.documents import ID, Document, Item, read_document

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Operation = Literal["add", "update", "retire"]

_VERSION = 1  # of the stored document
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_BREAK = re.compile(r"\r\n|\r")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_COMMENT_MARK = re.compile(r"<!--|--!?>")
_UNDERLINE = re.compile(r"-+")  # Markdown's other form of a heading
_OUTER_HEADING = re.compile(r"^ {0,3}#{1,2}(?:[ \t]|$)", re.MULTILINE)


class EditError(ValueError):
    """An edit that cannot be applied; one line for people, without the edit's own words."""


@dataclass(frozen=True)
class Edit:
    """One change of one item. An update without a title keeps the title; retire has neither title nor text."""

    operation: Operation
    file: str
    item: str
    title: str = ""
    text: str = ""


class Undo(NamedTuple):
    """What takes one applied edit back: at `start` of the file, `put` is replaced by what stood there."""

    file: str
    start: int
    put: str
    stood: str


def apply_edits(files: Mapping[str, str], edits: Sequence[Edit]) -> dict[str, str]:
    """The files after the edits. Raises EditError, and then nothing is applied."""
    return _applied(files, edits)[0]


def inverse(files: Mapping[str, str], edits: Sequence[Edit]) -> tuple[Undo, ...]:
    """What `undo` needs to turn the result of these edits into exactly these files again."""
    return tuple(reversed(_applied(files, edits)[1]))


def undo(files: Mapping[str, str], undos: Sequence[Undo]) -> dict[str, str]:
    """The files as they were. Raises EditError where what the edits put in is not there any more."""
    before = dict(files)
    for file, start, put, stood in undos:
        text = before.get(file, "")
        if not text.startswith(put, start):
            raise EditError(f"{file} has changed since: the edit cannot be taken back")
        before[file] = text[:start] + stood + text[start + len(put) :]
    return before


def documents(edits: Sequence[Edit]) -> dict[str, Any]:
    """The edits as plain JSON."""
    return {"version": _VERSION, "edits": [asdict(edit) for edit in edits]}


def from_documents(raw: object) -> tuple[Edit, ...]:
    """What `documents` made. Raises EditError."""
    try:
        stored = _Stored.model_validate(raw)
    except ValidationError as error:
        raise EditError(f"these are no stored edits of version {_VERSION}") from error
    return tuple(Edit(**dict(edit)) for edit in stored.edits)


class _StoredEdit(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    operation: Operation
    file: str
    item: str
    title: str
    text: str


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    version: Literal[1]
    edits: list[_StoredEdit]


def _applied(files: Mapping[str, str], edits: Sequence[Edit]) -> tuple[dict[str, str], list[Undo]]:
    _look_at(files, edits)
    now = dict(files)
    undos = []
    for edit in edits:
        text = now[edit.file]
        change = _change(text, edit)
        now[edit.file] = text[: change.start] + change.put + text[change.start + len(change.stood) :]
        _only_that_item(edit, _read(edit.file, text), read_document(edit.file, now[edit.file]))
        undos.append(change)
    return now, undos


def _look_at(files: Mapping[str, str], edits: Sequence[Edit]) -> None:
    """What can be said of each edit before any is applied."""
    homes = {item.id: name for name, text in files.items() for item in read_document(name, text).items}
    seen: set[str] = set()
    for edit in edits:
        if edit.file not in files:
            raise EditError(f"there is no such file to edit (known: {', '.join(sorted(files))})")
        if not ID.fullmatch(edit.item):
            raise EditError("an item's id must be small letters, digits and _, and begin with a letter")
        if edit.item in seen:
            raise EditError(f"{edit.item} is edited twice: make one edit of it")
        seen.add(edit.item)
        _known(edit, homes)
        _in_form(edit)


def _known(edit: Edit, homes: Mapping[str, str]) -> None:
    home = homes.get(edit.item)
    if edit.operation == "add" and home is not None:
        raise EditError(f"the id {edit.item} already stands in {home}: choose another, or update that item")
    if edit.operation != "add" and home != edit.file:
        raise EditError(f"there is no item {edit.item} in {edit.file}" + (f", but in {home}" if home else ""))


def _in_form(edit: Edit) -> None:
    if edit.operation == "retire":
        if edit.title or edit.text:
            raise EditError(f"{edit.item} is retired: leave title and text empty")
        return
    if edit.operation == "add" and not edit.title.strip():
        raise EditError(f"{edit.item} needs a title")
    if not edit.text.strip():
        raise EditError(f"{edit.item} needs a text")
    if len(edit.title.splitlines()) > 1 or "{#" in edit.title:
        raise EditError(f"the title of {edit.item} must be one line without an id")
    if _COMMENT_MARK.search(edit.title) or _COMMENT_MARK.search(edit.text):
        raise EditError(f"{edit.item} must not hold a comment mark")
    if _OUTER_HEADING.search(_unix(edit.text)):
        raise EditError(f"the text of {edit.item} must not hold a heading: one edit is one item")


def _unix(text: str) -> str:
    return _BREAK.sub("\n", text)


def _read(file: str, text: str) -> Document:
    document = read_document(file, text)
    if document.problems:
        raise EditError(f"{file} has to be mended before it can be edited: {document.problems[0].message}")
    return document


class _Place(NamedTuple):
    """Where an item stands in its file: heading, body, and the end of its last line of words."""

    start: int
    body: int
    end: int


def _change(text: str, edit: Edit) -> Undo:
    """The one replacement that this edit is."""
    document = _read(edit.file, text)
    newline = "\r\n" if "\r\n" in text else "\n"
    if edit.operation == "add":
        return Undo(edit.file, len(text), _added(text, edit, document, newline), "")
    item = next(item for item in document.items if item.id == edit.item)
    place = _place(text, item)
    if edit.operation == "retire":
        return Undo(edit.file, place.start, "", text[place.start : _after_blanks(text, place.end)])
    heading = text[place.start : place.body]
    put = (_retitled(edit, heading, newline) if edit.title.strip() else heading) + _lines(edit.text, newline)
    return Undo(edit.file, place.start, put, text[place.start : place.end])


def _added(text: str, edit: Edit, document: Document, newline: str) -> str:
    """The item with what parts it from the end of the file."""
    ends = len(text) - len(text.rstrip("\r\n"))
    breaks = len(_unix(text[len(text) - ends :])) if text.strip() else 2
    last = document.items[-1] if document.items else None
    return newline * max(0, 2 - breaks) + _heading(edit, last, newline) + _lines(edit.text, newline) + newline


def _heading(edit: Edit, like: Item | None, newline: str) -> str:
    """With an empty line under it where the file's other items have one."""
    gap = newline if like is not None and like.body_line > like.line + 1 else ""
    return f"## {edit.title.strip()} {{#{edit.item}}}{newline}{gap}"


def _retitled(edit: Edit, heading: str, newline: str) -> str:
    """The new heading in place of the old; empty lines and notes between heading and body stay."""
    under = heading.splitlines(keepends=True)[1:]
    if under and _UNDERLINE.fullmatch(under[0].strip()):
        under = under[1:]
    return _heading(edit, None, newline) + "".join(under)


def _lines(text: str, newline: str) -> str:
    lines = [line.rstrip() for line in _unix(text).split("\n")]
    return newline.join(lines).strip("\r\n")


def _place(text: str, item: Item) -> _Place:
    """Raises EditError where a note to editors begins inside the item and ends outside, or the other way round."""
    starts = [match.start() for match in _LINE.finditer(text)]
    last = item.body_line + item.body.count("\n")
    place = _Place(starts[item.line - 1], starts[item.body_line - 1], len(_line_at(text, starts[last - 1])))
    for note in _COMMENT.finditer(text):
        if any(note.start() < edge < note.end() for edge in place):
            raise EditError(f"a note to editors runs into {item.id}: put it on lines of its own")
    return place


def _line_at(text: str, start: int) -> str:
    """The text up to the end of the line that begins at `start`, without its line break."""
    match = _LINE.match(text, start)
    return text[: match.end() if match else start].rstrip("\r\n")


def _after_blanks(text: str, end: int) -> int:
    """Behind the line break at `end` and the empty lines that follow."""
    while end < len(text) and (match := _LINE.match(text, end)) and not match[0].strip():
        end = match.end()
    return end


def _only_that_item(edit: Edit, before: Document, after: Document) -> None:
    """Raises EditError unless the file now reads as it did, but for this one item as the edit says."""
    wanted = list(_expected(edit, before))
    found = [(item.id, item.title, item.body) for item in after.items]
    if after.problems or found != wanted or after.prose != before.prose or after.front != before.front:
        raise EditError(f"the text of {edit.item} does not stay one item: it changes how the rest of {edit.file} reads")


def _expected(edit: Edit, before: Document) -> Iterator[tuple[str, str, str]]:
    text = _lines(edit.text, "\n")
    for item in before.items:
        if item.id != edit.item:
            yield item.id, item.title, item.body
        elif edit.operation == "update":
            yield item.id, edit.title.strip() or item.title, text
    if edit.operation == "add":
        yield edit.item, edit.title.strip(), text
