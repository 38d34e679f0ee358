"""The rows of a file, each a ticket or the reason why it is none, with where the next one begins."""

from __future__ import annotations

import csv
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple, TypeVar

from agents.ticket import Ticket, TicketError, parse_jsonl_line, read_json, read_ticket
from app.errors import FileUnreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Kind = Literal["jsonl", "csv"]
Raw = TypeVar("Raw")

SUFFIXES: dict[str, Kind] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "csv"}
MAX_ROW = 8 * 1024 * 1024  # bytes; a longer one is skipped without being held in memory
BOM = b"\xef\xbb\xbf"
JSON_COLUMNS = ("entries", "thread", "events")  # what a flat table cannot hold stands in its cell as JSON


class Place(NamedTuple):
    """How far a file is read: bytes and lines."""

    position: int = 0
    line: int = 0


class Row(NamedTuple):
    line: int  # where it begins, from 1
    end: Place
    content: Ticket | str  # the ticket, or the reason why there is none


def kind_of(path: Path) -> Kind:
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise FileUnreadable(f"{path}: give a .jsonl file (one JSON object a line) or a .csv file with a header row")
    return kind


def read_rows(file: BinaryIO, *, kind: Kind, start: Place) -> Iterator[Row]:
    """Every row after `start`, which is the end of a row or the beginning of the file. Blank lines are no rows."""
    return _jsonl(file, start) if kind == "jsonl" else _csv(file, start)


def _jsonl(file: BinaryIO, start: Place) -> Iterator[Row]:
    lines = _Lines(file, start)
    for raw in lines:
        if lines.cut:
            yield Row(lines.end.line, lines.end, f"longer than {MAX_ROW // 1024 // 1024} MiB")
        elif raw.strip():
            yield Row(lines.end.line, lines.end, _content(parse_jsonl_line, raw.strip()))


def _content(read: Callable[[Raw], Ticket], raw: Raw) -> Ticket | str:
    try:
        return read(raw)
    except TicketError as error:
        return str(error)


class _Lines:
    """Lines as bytes; `end` is the place after the last one, `cut` says that it was too long and is not all there."""

    def __init__(self, file: BinaryIO, start: Place) -> None:
        self._file = file
        self._file.seek(start.position)
        self.end = start
        self.cut = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self._file.readline(MAX_ROW)
        if not line:
            raise StopIteration
        length, rest = len(line), line
        while not rest.endswith(b"\n") and (rest := self._file.readline(MAX_ROW)):
            length += len(rest)
        self.cut = length > MAX_ROW
        self.end = Place(self.end.position + length, self.end.line + 1)
        return line


class _Text:
    """What csv.reader pulls from. It takes no line ahead, so after a record `lines.end` is where that record ends."""

    def __init__(self, lines: _Lines) -> None:
        self.lines = lines
        self.cut = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.cut = self.cut or self.lines.cut
        return line.decode("utf-8", "surrogateescape")


def _csv(file: BinaryIO, start: Place) -> Iterator[Row]:
    csv.field_size_limit(MAX_ROW)
    header, after = _header(file)
    text = _Text(_Lines(file, max(start, after)))
    records = csv.reader(text, delimiter=header.delimiter, strict=True)
    while True:
        line, text.cut = text.lines.end.line + 1, False
        try:
            cells = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(line, text.lines.end, _broken(error, first=line, last=text.lines.end.line))
            continue
        if text.cut:
            yield Row(line, text.lines.end, f"longer than {MAX_ROW // 1024 // 1024} MiB")
        elif any(cells):
            yield Row(line, text.lines.end, _content(partial(_from_cells, header.names), cells))


def _broken(error: csv.Error, *, first: int, last: int) -> str:
    if "unexpected end of data" in str(error):
        return f"a quote opens here and never closes: lines {first} to {last} were not read"
    return f"not valid CSV: {error}"


class _Header(NamedTuple):
    names: list[str]
    delimiter: str


def _header(file: BinaryIO) -> tuple[_Header, Place]:
    """The columns' names, and where the first row begins. Raises FileUnreadable."""
    lines = _Lines(file, Place())
    line = next(lines, b"").removeprefix(BOM)
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise FileUnreadable("the header row is not UTF-8; save the file as UTF-8") from None
    delimiter = max(",;\t", key=text.count)  # a spreadsheet writes what its country's settings say
    names = ["_".join(cell.lower().split()) for cell in next(csv.reader([text], delimiter=delimiter), [])]
    missing = [name for name in ("external_id", "status") if name not in names]
    if missing:
        raise FileUnreadable(f"the header row has no column {' and no column '.join(missing)}; nothing was imported")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FileUnreadable(f"the header row names a column twice: {', '.join(twice)}; nothing was imported")
    return _Header(names, delimiter), lines.end


def _from_cells(names: list[str], cells: list[str]) -> Ticket:
    if len(cells) > len(names):
        raise TicketError(f"{len(cells)} cells where the header row has {len(names)}")
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        raise TicketError("not UTF-8; save the file as UTF-8") from None
    filled = {name: cell for name, cell in zip(names, cells, strict=False) if cell.strip()}
    return read_ticket({name: _cell(name, cell) for name, cell in filled.items()})


def _cell(name: str, cell: str) -> object:
    if name not in JSON_COLUMNS:
        return cell
    try:
        return read_json(cell)
    except TicketError as error:
        raise TicketError(f"{name}: {error}; the cell must hold a JSON list") from None
