"""How many calls one key may have in flight in this process, and when the next may start."""

from __future__ import annotations

import math
import random
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agents.gateway import CallFailed
from agents.rate_limits import read
from app.clock import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agents.question import Usage
    from agents.rate_limits import Kind, Limit

LONGEST_PAUSE = 120.0  # seconds; who would have to wait longer leaves it to a later job
SPREAD = 1.0  # seconds at the most that a waiter comes later than a server asked, so that not all come at once
LOOK_AGAIN = 0.5  # seconds; a waiter who was passed over, because another model's limit was the reason, looks again
MINUTE = 60.0  # seconds; the vendor's limits are all by the minute
SHRINK = 0.5
NOTHING = 1e-6  # of a request or a token: what sums of fractions are off by
TOO_MUCH = frozenset({"rate_limited", "overloaded"})
WEIGHT = 0.2  # of the newest reply in the mean of what a call takes


class NotSent(CallFailed):
    """No attempt was made: an earlier failure rules it out, or the server asked to be left alone for minutes."""


@dataclass
class _Supply:
    """One of the key's limits as this process sees it: what was left, and how fast it is refilled."""

    whole: float
    left: float
    per_second: float
    at: float

    @classmethod
    def of(cls, limit: Limit, *, at: float) -> _Supply:
        missing = limit.whole - limit.left
        if limit.seconds <= 0:
            return cls(limit.whole, limit.whole, limit.whole / MINUTE, at)
        return cls(limit.whole, limit.left, missing / limit.seconds if missing else limit.whole / MINUTE, at)

    def take(self, amount: float, *, at: float) -> None:
        self.left, self.at = self._left(at) - amount, at

    def pause(self, amount: float, *, at: float) -> float:
        """Seconds until so much is there; of a need beyond the whole, until it is whole."""
        lacking = min(amount, self.whole) - self._left(at)
        return lacking / self.per_second if lacking > NOTHING else 0.0

    def _left(self, at: float) -> float:
        return min(self.whole, self.left + self.per_second * (at - self.at))


class Limiter:
    """Shared by all threads that use one key.

    1. What is in flight grows by one for each round of answers, and halves where the server refuses (429, 529):
       between one and the maximum, where it begins.
    2. Each answer says how much of the key's limits is left and when they are whole again; between two answers they
       refill evenly. A call waits until our share of them is enough for it: `sharers` processes use the same key.
    3. A `retry-after` holds everybody, because the limit is the key's. Whom it held begins a little later, by chance.
    """

    def __init__(
        self,
        *,
        maximum: int,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.sharers = 1
        self._maximum = maximum
        self._monotonic = monotonic
        self._uniform = uniform
        self._changed = threading.Condition()
        self._allowed = float(maximum)
        self._in_flight = 0
        self._shrunk_at = -math.inf
        self._resume_at = -math.inf
        self._supplies: dict[tuple[str, Kind], _Supply] = {}
        self._usual: dict[tuple[str, Kind], float] = {}  # what a call takes

    @property
    def allowed(self) -> int:
        """Calls that may be in flight now."""
        return max(1, int(self._allowed))

    @contextmanager
    def slot(self, model: str, *, given_up: Callable[[], bool]) -> Iterator[float]:
        """A call's turn, with the moment it began; at once where nobody wants it any more. Raises NotSent."""
        late = self._uniform(0.0, SPREAD)
        with self._changed:
            due = self._due(late)
            while not given_up() and (pause := max(due - self._monotonic(), self._pause(model))) > 0:
                self._changed.wait(min(pause, LOOK_AGAIN))
                due = max(due, self._due(late))
            began = self._begin(model)
        try:
            yield began
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify()

    def wake(self) -> None:
        """All who wait look whether they still want to."""
        with self._changed:
            self._changed.notify_all()

    def heard(self, model: str, headers: Mapping[str, str]) -> None:
        """What a server said about its limits counts from now on."""
        limits = read(headers, now=now())
        with self._changed:
            at = self._monotonic()
            for kind, limit in limits.items():
                self._supplies[model, kind] = _Supply.of(limit, at=at)

    def answered(self, model: str, usage: Usage) -> None:
        """A reply came: room for more, once a whole round of calls was answered."""
        fresh = usage.input + usage.cache_write_5m + usage.cache_write_1h  # what is read from the cache is not counted
        with self._changed:
            self._learn(model, "input-tokens", fresh)
            self._learn(model, "output-tokens", usage.output)
            self._learn(model, "tokens", fresh + usage.output)
            if self._in_flight >= self.allowed:
                self._allowed = min(self._maximum, self._allowed + 1 / self.allowed)
                self._changed.notify()

    def refused(self, failure: CallFailed, *, began: float) -> None:
        """Half as many, once for all calls that were under way at that moment; nobody before the server's time."""
        with self._changed:
            at = self._monotonic()
            if failure.code in TOO_MUCH and began > self._shrunk_at:
                self._allowed = max(1.0, self._allowed * SHRINK)
                self._shrunk_at = at
            if failure.retry_after is not None:
                self._resume_at = max(self._resume_at, at + failure.retry_after)

    def _due(self, late: float) -> float:
        """When a call may begin that is held now, so much later than the server asks; long ago where none is held."""
        return self._resume_at + late if self._resume_at > self._monotonic() else -math.inf

    def _pause(self, model: str) -> float:
        """Seconds until there may be a turn; LOOK_AGAIN where that depends on others' ends."""
        at = self._monotonic()
        pause = max(self._resume_at - at, self._dry(model, at))
        if pause > LONGEST_PAUSE:
            raise NotSent("rate_limited", f"the server asked for no call within {pause:.0f} s", retry_after=pause)
        return pause if pause > 0 or self._in_flight < self.allowed else LOOK_AGAIN

    def _dry(self, model: str, at: float) -> float:
        """Seconds until every limit of this model has enough for a call of each process that shares it."""
        return max(
            (
                supply.pause(self._need(one) * self.sharers, at=at)
                for one, supply in self._supplies.items()
                if one[0] == model
            ),
            default=0.0,
        )

    def _need(self, one: tuple[str, Kind]) -> float:
        return 1.0 if one[1] == "requests" else self._usual.get(one, 0.0)

    def _begin(self, model: str) -> float:
        self._in_flight += 1
        at = self._monotonic()
        for one, supply in self._supplies.items():
            if one[0] == model:
                supply.take(self._need(one) * self.sharers, at=at)
        return at

    def _learn(self, model: str, kind: Kind, tokens: int) -> None:
        before = self._usual.get((model, kind), float(tokens))
        self._usual[model, kind] = before + WEIGHT * (tokens - before)
