"""What a run of `review FILE` has paid, and what it may pay at the most."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from agents.prices import cost, worst
from agents.question import Usage
from app.limiter import NotSent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from agents.question import Question, Reply


@dataclass
class Spending:
    """What replies cost; `unpriced` counts replies whose model has no price in the book."""

    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal = Decimal(0)
    replies: int = 0
    reused: int = 0
    unpriced: int = 0

    def add(self, reply: Reply, *, reused: bool, price: Decimal | None) -> None:
        self.replies += 1
        self.reused += reused
        if reused:
            return
        self.usage = _sum_usage((self.usage, reply.usage))
        if price is None:
            self.unpriced += 1
        else:
            self.cost_usd += price

    @property
    def known_cost(self) -> Decimal | None:
        return None if self.unpriced else self.cost_usd

    def __add__(self, other: Spending) -> Spending:
        return Spending(
            _sum_usage((self.usage, other.usage)),
            self.cost_usd + other.cost_usd,
            self.replies + other.replies,
            self.reused + other.reused,
            self.unpriced + other.unpriced,
        )


def _sum_usage(parts: Sequence[Usage]) -> Usage:
    return Usage(**{name: sum(getattr(part, name) for part in parts) for name in Usage.__dataclass_fields__})


class NoRoom(NotSent):
    """The run's budget has no room for another call."""

    def __init__(self, limit: Decimal) -> None:
        super().__init__("over_budget", f"the budget of ${limit:f} for this run has no room for another call")


class RunBudget:
    """A purse for all threads of one run: what is paid together never goes beyond the limit.

    Before a call what it may cost at the most is set aside. Where there is no room, calls under way are waited for, as
    nearly all cost less. Once a call was refused none is paid any more. Attempts without a reply have no price: if a
    vendor bills them, that is beside the budget.
    """

    def __init__(self, limit: Decimal, *, today: date) -> None:
        self.limit = limit
        self._today = today
        self._spent = self._aside = Decimal(0)
        self._refused = False
        self._changed = threading.Condition()

    def knows(self, model: str) -> bool:
        """Whether this model has a price: what costs an unknown sum no budget can hold."""
        return cost(model, Usage(), on=self._today) is not None

    @contextmanager
    def held(self, question: Question) -> Iterator[None]:
        """What the call may cost at the most is set aside while the block lasts. Raises NoRoom."""
        needed = worst(question, on=self._today) or Decimal(0)
        self._set_aside(needed)
        try:
            yield
        finally:
            with self._changed:
                self._aside -= needed
                self._changed.notify_all()

    def book(self, question: Question, reply: Reply) -> None:
        """The reply is paid."""
        with self._changed:
            self._spent += cost(question.model, reply.usage, on=self._today, geo=reply.geo) or Decimal(0)

    def _set_aside(self, needed: Decimal) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._refused or self._fits(needed) or not self._aside)
            if self._refused or not self._fits(needed):
                self._refused = True
                self._changed.notify_all()
                raise NoRoom(self.limit)
            self._aside += needed

    def _fits(self, needed: Decimal) -> bool:
        return self._spent + self._aside + needed <= self.limit
