"""How far two judges agree: no share without its interval, and none at all where few tickets stand behind it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FEWEST = 10  # pairs; below, a share says more about chance than about the judges
CONFIDENCE = 0.95
POWER = 0.8  # in how many of such comparisons a difference that is there is to be found
RESAMPLES = 2_000
SEED = 20_261_126  # arbitrary and fixed: the same labels give the same intervals
ALIKE = 1e-9  # what rounding makes of equal draws
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_Z_POWER = NormalDist().inv_cdf(POWER)


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


class Table(NamedTuple):
    """What a person and the machine said about the same things. Positive is a fail, which is what is looked for."""

    hits: int  # both said fail
    missed: int  # the person said fail, the machine did not
    false: int  # the machine said fail, the person did not
    clear: int  # neither did

    @property
    def n(self) -> int:
        return sum(self)

    @property
    def agreed(self) -> int:
        return self.hits + self.clear


@dataclass(frozen=True)
class Measure:
    """A figure with its 95 % interval; both None where it is not defined, as sensitivity is without any fail."""

    value: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Measures:
    """Never one of them alone: 92 % agreement can be a kappa of 0.29 and an AC1 of 0.91."""

    raw: Measure
    sensitivity: Measure
    specificity: Measure
    kappa: Measure
    ac1: Measure


def measures(table: Table) -> Measures | None:
    """All five with their intervals: Wilson's for shares, a bootstrap's for kappa and AC1. None below FEWEST pairs."""
    if table.n < FEWEST:
        return None
    drawn = _resampled(table)
    return Measures(
        raw=_share(table.agreed, table.n),
        sensitivity=_share(table.hits, table.hits + table.missed),
        specificity=_share(table.clear, table.clear + table.false),
        kappa=_corrected(table, cohen_chance, drawn),
        ac1=_corrected(table, gwet_chance, drawn),
    )


def kappa(table: Table) -> float | None:
    """Cohen's kappa (Educational and Psychological Measurement 20, 1960); None where only one answer was ever given."""
    return _beyond(table, cohen_chance(table))


def ac1(table: Table) -> float | None:
    """Gwet's AC1 (British Journal of Mathematical and Statistical Psychology 61, 2008): rare fails do not sink it."""
    return _beyond(table, gwet_chance(table))


def cohen_chance(table: Table) -> float:
    """Agreement by chance, of two judges who keep to their own shares of fails: pq + (1 - p)(1 - q)."""
    person, machine = _fails(table)
    return person * machine + (1 - person) * (1 - machine)


def gwet_chance(table: Table) -> float:
    """Agreement by chance as Gwet has it: 2 r (1 - r), r the mean of both shares of fails."""
    mean = sum(_fails(table)) / 2
    return 2 * mean * (1 - mean)


def _fails(table: Table) -> tuple[float, float]:
    return (table.hits + table.missed) / table.n, (table.hits + table.false) / table.n


def _beyond(table: Table, chance: float) -> float | None:
    """The share of agreement beyond chance that was reached."""
    return None if chance >= 1 else (table.agreed / table.n - chance) / (1 - chance)


def _share(hits: int, n: int) -> Measure:
    return Measure(hits / n, wilson(hits, n)) if n else Measure(None, None)


def _corrected(table: Table, chance: Callable[[Table], float], drawn: Sequence[Table]) -> Measure:
    """With the middle 95 % of what resampling gives. Draws in which the figure is not defined are left out.

    Where all agree, or one of the two only ever said one thing, all draws give the same, and a bootstrap would claim
    certainty: there the bounds are those of the raw share (Wilson), corrected for the same chance.
    """
    expected = chance(table)
    value = _beyond(table, expected)
    if value is None:
        return Measure(None, None)
    again = sorted(found for one in drawn if (found := _beyond(one, chance(one))) is not None)
    if again[-1] - again[0] < ALIKE:
        low, high = ((bound - expected) / (1 - expected) for bound in wilson(table.agreed, table.n))
        return Measure(value, Interval(max(-1.0, low), high))
    return Measure(value, Interval(_quantile(again, 1 - CONFIDENCE), _quantile(again, 1 + CONFIDENCE)))


def _quantile(ordered: Sequence[float], twice: float) -> float:
    """The value below which half of `twice` of them lie; the nearest there is."""
    return ordered[min(int(twice / 2 * len(ordered)), len(ordered) - 1)]


def _resampled(table: Table) -> list[Table]:
    """The same number of pairs drawn from these with replacement, many times, always the same draws (Efron 1979)."""
    from scipy.stats import multinomial  # noqa: PLC0415  half a second that only evaluations need

    shares = [count / table.n for count in table]
    drawn = multinomial.rvs(table.n, shares, size=RESAMPLES, random_state=SEED)
    return [Table(*map(int, row)) for row in drawn]


class Paired(NamedTuple):
    """Two machines on the same labelled things: how often only one of them was right."""

    n: int
    first_only: int
    second_only: int


def difference(pairs: Paired) -> Measure:
    """How much larger the first one's share of right answers is, with its 95 % interval; none without any pair.

    The interval is Wald's with one more pair of either kind (Bonett and Price, Journal of Educational and Behavioral
    Statistics 37, 2012, 479-488), which holds its level with few pairs.
    """
    if pairs.n == 0:
        return Measure(None, None)
    first, second = ((count + 1) / (pairs.n + 2) for count in (pairs.first_only, pairs.second_only))
    centre = first - second
    half = _Z * sqrt((first + second - centre**2) / (pairs.n + 2))
    shown = (pairs.first_only - pairs.second_only) / pairs.n
    return Measure(shown, Interval(max(-1.0, centre - half), min(1.0, centre + half)))


def separated(pairs: Paired) -> bool:
    """Whether one is right more often beyond chance: the interval of the difference does not include 0."""
    interval = difference(pairs).interval
    return interval is not None and not interval.low <= 0 <= interval.high


def labels_needed(pairs: Paired) -> int | None:
    """How many labels in all would show a difference as large as this one, in 4 of 5 attempts.

    n = (z(0.975) sqrt(s) + z(0.8) sqrt(s - d^2))^2 / d^2, s the share of discordant pairs, d the difference of the two
    shares that are right: the normal approximation for two paired proportions (Connor, Biometrics 43, 1987, 207-211).
    None where no difference was seen: then no number would.
    """
    if pairs.first_only == pairs.second_only:
        return None
    discordant = (pairs.first_only + pairs.second_only) / pairs.n
    squared = ((pairs.first_only - pairs.second_only) / pairs.n) ** 2
    spread = _Z * sqrt(discordant) + _Z_POWER * sqrt(max(0.0, discordant - squared))
    return ceil(spread**2 / squared)
