"""Charts as numbers on a sheet 100 by 100, drawn by `templates/charts.html`; each with its finding and its table."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from app.shares import percent
from app.web.words import dollars, thousands

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.shares import Share

SHEET = 100.0
GAP = 0.3  # of a column's room, between it and the next
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell of text that begins so is run by a spreadsheet

Cell = str | int | float | Decimal  # a float is a share, a Decimal money


@dataclass(frozen=True)
class Chart:
    """`title` is the finding in words; `rows` are the numbers behind it, as the table and the CSV file have them."""

    key: str
    title: str
    says: str  # what is drawn, for whoever cannot see it
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    first: str = ""  # under the left end
    last: str = ""
    top: str = ""  # the value at the upper edge
    columns: tuple[Column, ...] = ()
    line: Line | None = None
    bars: tuple[Bar, ...] = ()
    legend: Mapping[str, str] | None = None  # tone -> word

    @property
    def shown(self) -> tuple[tuple[str, ...], ...]:
        """The rows as the page has them."""
        return tuple(tuple(map(_in_words, row)) for row in self.rows)

    @property
    def csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(self.header)
        writer.writerows([[_plain(cell) for cell in row] for row in self.rows])
        return out.getvalue()


def _plain(cell: Cell) -> str | int | float:
    if isinstance(cell, Decimal):
        return f"{cell.normalize():f}"
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def _in_words(cell: Cell) -> str:
    if isinstance(cell, Decimal):
        return dollars(cell)
    if isinstance(cell, float):
        return percent(cell)
    return thousands(cell) if isinstance(cell, int) else cell


class Column(NamedTuple):
    """A part of a column, in the tone of what it counts."""

    x: float
    y: float
    width: float
    height: float
    tone: str


class Line(NamedTuple):
    """What joins neighbours that both say something; `bands` are their intervals, `dots` stand alone too."""

    bands: tuple[str, ...]
    strokes: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]


class Bar(NamedTuple):
    """One thing: its share or count, from 0 to 100, with the interval's ends and what it was before, where known."""

    label: str
    length: float
    value: str
    low: float | None = None
    high: float | None = None
    before: float | None = None


def columns(counts: Sequence[Mapping[str, int | Decimal]]) -> tuple[Column, ...]:
    """One column for each, its parts on top of one another, the first at the bottom."""
    most = float(max((sum(parts.values()) for parts in counts), default=0)) or 1.0
    room = SHEET / max(len(counts), 1)
    width, drawn = _at(room * (1 - GAP)), []
    for place, parts in enumerate(counts):
        x, y = _at((place + GAP / 2) * room), SHEET
        for tone, number in parts.items():
            height = float(number) / most * SHEET
            y -= height
            if height:
                drawn.append(Column(x, _at(y), width, _at(height), tone))
    return tuple(drawn)


def line(shares: Sequence[Share], *, top: float) -> Line:
    """Shares in the middles of their columns, up to `top`; where there are too few to say, the line is broken."""
    room = SHEET / max(len(shares), 1)
    at = [(place * room + room / 2, share) for place, share in enumerate(shares) if share.enough]

    def y(value: float) -> float:
        return _at(SHEET - min(value / top, 1.0) * SHEET)

    dots = tuple((_at(x), y(share.value)) for x, share in at)
    bands, strokes = [], []
    for (x1, one), (x2, two) in pairwise(at):
        if x2 - x1 > room * 1.5:
            continue
        corners = [(x1, one.interval.low), (x1, one.interval.high), (x2, two.interval.high), (x2, two.interval.low)]
        bands.append(" ".join(f"{_at(x)},{y(value)}" for x, value in corners))
        strokes.append(f"{_at(x1)},{y(one.value)} {_at(x2)},{y(two.value)}")
    return Line(tuple(bands), tuple(strokes), dots)


def share_bar(label: str, share: Share, before: Share) -> Bar:
    """Without its length where there are too few to say."""
    if not share.enough:
        return Bar(label, 0.0, share.words)
    low, high = share.interval
    was = _at(before.value * SHEET) if before.enough else None
    return Bar(label, _at(share.value * SHEET), share.percent, _at(low * SHEET), _at(high * SHEET), was)


def count_bars(counts: Mapping[str, int]) -> tuple[Bar, ...]:
    most = max(counts.values(), default=0) or 1
    return tuple(Bar(label, _at(number / most * SHEET), f"{number:,}") for label, number in counts.items())


def part(value: float, whole: float) -> float:
    """Where a value ends on the sheet, of which `whole` is the right edge; what is beyond either edge stops there."""
    return _at(min(max(value / whole, 0.0), 1.0) * SHEET)


def _at(place: float) -> float:
    return round(place, 2)
