"""How far two judges agree: no share without its interval, and none at all where few tickets stand behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

FEWEST = 10  # pairs; below, a share says more about chance than about the judges
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """Bounds of a share, 0..1."""

    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """`share` and `interval` are None where there is too little to say."""

    n: int
    agreed: int
    share: float | None
    interval: Interval | None

    @property
    def too_few(self) -> bool:
        return self.share is None


def raw_agreement(agreed: int, n: int) -> Agreement:
    """How often two judges said the same, with the 95 % interval (Wilson). Nothing is corrected for chance."""
    if not 0 <= agreed <= n:
        raise ValueError(f"{agreed} of {n} pairs cannot agree")
    if n < FEWEST:
        return Agreement(n, agreed, None, None)
    return Agreement(n, agreed, agreed / n, wilson(agreed, n))


def wilson(hits: int, n: int) -> Interval:
    """The 95 % score interval of a share (Wilson 1927); all of 0..1 where n is 0."""
    return _interval(hits, n, method="wilson")


def exact(hits: int, n: int) -> Interval:
    """The exact 95 % interval of a share (Clopper and Pearson 1934); all of 0..1 where n is 0."""
    return _interval(hits, n, method="exact")


def _interval(hits: int, n: int, *, method: Literal["exact", "wilson"]) -> Interval:
    if n == 0:
        return Interval(0.0, 1.0)
    from scipy.stats import binomtest  # noqa: PLC0415  half a second that only figures need

    found = binomtest(hits, n).proportion_ci(confidence_level=CONFIDENCE, method=method)
    return Interval(float(found.low), float(found.high))
