"""How far two judges agree: no share without its interval, and none at all where few tickets stand behind it."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

FEWEST = 10  # pairs; below, a share says more about chance than about the judges
CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


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
    """The 95 % score interval of a share (Wilson 1927); all of 0..1 where n is 0. Pages compute it: no scipy here."""
    if n == 0:
        return Interval(0.0, 1.0)
    share, spread = hits / n, _Z**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return Interval(max(0.0, centre - half) if hits else 0.0, min(1.0, centre + half) if hits < n else 1.0)


def exact(hits: int, n: int) -> Interval:
    """The exact 95 % interval of a share (Clopper and Pearson 1934); all of 0..1 where n is 0."""
    if n == 0:
        return Interval(0.0, 1.0)
    from scipy.stats import binomtest  # noqa: PLC0415  half a second that only trials need

    found = binomtest(hits, n).proportion_ci(confidence_level=CONFIDENCE, method="exact")
    return Interval(float(found.low), float(found.high))
