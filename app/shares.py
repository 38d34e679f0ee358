"""Shares that say no more than they know: with an interval, and changed only where both intervals say so."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal

from agents.agreement import FEWEST, wilson

if TYPE_CHECKING:
    from agents.agreement import Interval

_HALF = 0.5  # per cent, from where on one is said without decimals
Change = Literal["up", "down", "same", "unknown"]


def percent(share: float) -> str:
    """Without decimals, unless a few of very many would be none, or nearly all would be all: 31 %, 0.5 %, 99.8 %."""
    value = min(max(share, 0.0), 1.0) * 100
    if 0 < value < _HALF:
        return f"{value:.1g} %"
    if 100 - _HALF < value < 100:  # noqa: PLR2004  per cent
        return f"{100 - float(f'{100 - value:.1g}'):g} %"
    return f"{value:.0f} %"


class Share:
    """So many of so many."""

    def __init__(self, hits: int, n: int) -> None:
        self.hits = hits
        self.n = n

    @property
    def enough(self) -> bool:
        """False where a share would say more about chance than about the tickets."""
        return self.n >= FEWEST

    @property
    def value(self) -> float:
        return self.hits / self.n if self.n else 0.0

    @cached_property
    def interval(self) -> Interval:
        """95 %, Wilson's."""
        return wilson(self.hits, self.n)

    def since(self, before: Share) -> Change:
        """`up` or `down` only where the two 95 % intervals do not touch.

        That is stricter than a test at 5 %: many shares are looked at every week, and some would always have moved.
        """
        if not self.enough or not before.enough:
            return "unknown"
        if self.interval.low > before.interval.high:
            return "up"
        return "down" if self.interval.high < before.interval.low else "same"

    @property
    def percent(self) -> str:
        return percent(self.value)

    @property
    def words(self) -> str:
        """4 of 62 (6 %); 2 of 5, too few to say; none yet."""
        if not self.n:
            return "none"
        counted = f"{self.hits:,} of {self.n:,}"
        return f"{counted} ({self.percent})" if self.enough else f"{counted}, too few to say"

    def against(self, before: Share) -> str:
        """This share in words, and how it moved: 19 of 62 (31 %), up from 22 %."""
        moved = {"up": f", up from {before.percent}", "down": f", down from {before.percent}"}
        return self.words + moved.get(
            self.since(before), f", no clear change from {before.percent}" if self.comparable(before) else ""
        )

    def comparable(self, before: Share) -> bool:
        return self.enough and before.enough
