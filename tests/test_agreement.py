"""Shares of agreement and their intervals, against published values."""

from __future__ import annotations

import pytest

from agents.agreement import FEWEST, Interval, exact, raw_agreement, wilson


def test_a_share_comes_with_its_interval() -> None:
    found = raw_agreement(92, 100)
    assert (found.n, found.agreed, found.share, found.too_few) == (100, 92, 0.92, False)
    assert found.interval == pytest.approx(Interval(0.8500, 0.9589), abs=5e-4)  # Wilson, as textbooks print it


def test_below_ten_pairs_there_is_too_little_to_say() -> None:
    few = raw_agreement(FEWEST - 1, FEWEST - 1)
    assert few.too_few
    assert few.interval is None
    assert not raw_agreement(FEWEST, FEWEST).too_few
    assert raw_agreement(0, 0).too_few


@pytest.mark.parametrize(("agreed", "n"), [(-1, 5), (6, 5), (1, 0)])
def test_impossible_counts_are_a_mistake_of_the_caller(agreed: int, n: int) -> None:
    with pytest.raises(ValueError, match="cannot agree"):
        raw_agreement(agreed, n)


def test_intervals_as_published() -> None:
    assert exact(0, 10) == pytest.approx(Interval(0.0, 0.3085), abs=1e-4)  # 1 - 0.025 ** (1 / 10)
    assert exact(10, 10) == pytest.approx(Interval(0.6915, 1.0), abs=1e-4)
    assert exact(3, 3) == pytest.approx(Interval(0.2924, 1.0), abs=1e-4)
    assert wilson(0, 10) == pytest.approx(Interval(0.0, 0.2775), abs=1e-4)
    assert exact(0, 0) == wilson(0, 0) == Interval(0.0, 1.0)
