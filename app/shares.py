"""Shares that say no more than they know: with an interval, and changed only where both intervals say so."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal

from agents.agreement import FEWEST, wilson

if TYPE_CHECKING:
    from agents.agreement import Interval

Change = Literal["up", "down", "same", "unknown"]


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
        """Without decimals; a few of very many are not none, and nearly all are not all."""
        rounded = f"{self.value * 100:.0f} %"
        if rounded == "0 %" and self.hits:
            return "under 1 %"
        return "over 99 %" if rounded == "100 %" and self.hits < self.n else rounded

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
