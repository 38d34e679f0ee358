"""Shares of agreement and their intervals, against published values."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multinomial

from agents.agreement import (
    FEWEST,
    Interval,
    Paired,
    Table,
    ac1,
    difference,
    exact,
    kappa,
    labels_needed,
    measures,
    raw_agreement,
    separated,
    wilson,
)

COUNTS = st.integers(0, 60)
TABLES = st.builds(Table, COUNTS, COUNTS, COUNTS, COUNTS).filter(lambda table: table.n > 0)
PAIRS = st.tuples(st.integers(1, 300), st.floats(0, 1), st.floats(0, 1)).map(
    lambda drawn: Paired(drawn[0], first := int(drawn[0] * drawn[1]), int((drawn[0] - first) * drawn[2]))
)


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


@pytest.mark.parametrize(
    ("table", "of_kappa", "of_ac1"),
    [
        # 92 % agreement where six of a hundred fail: the project's own example, computed by hand
        (Table(2, 4, 4, 90), 0.29, 0.91),
        # Gwet, Statistical Methods for Inter-Rater Reliability Assessment 1 (2002): the paradox of kappa, 125 subjects
        (Table(118, 5, 2, 0), -0.0234, 0.9408),
        # Feinstein and Cicchetti, Journal of Clinical Epidemiology 43 (1990): one 85 %, two kappas; AC1 by hand
        (Table(40, 9, 6, 45), 0.70, 0.70),
        (Table(80, 10, 5, 5), 0.32, 0.81),
        # 50 grant proposals, in every textbook: 70 % agree, half of which is chance
        (Table(20, 5, 10, 15), 0.40, 0.41),
    ],
)
def test_kappa_and_ac1_as_published(table: Table, of_kappa: float, of_ac1: float) -> None:
    assert kappa(table) == pytest.approx(of_kappa, abs=5e-3)
    assert ac1(table) == pytest.approx(of_ac1, abs=5e-3)


def test_where_only_one_answer_was_ever_given_kappa_says_nothing_and_ac1_does() -> None:
    assert (kappa(Table(0, 0, 0, 20)), ac1(Table(0, 0, 0, 20))) == (None, 1.0)
    found = measures(Table(0, 0, 0, 20))
    assert found is not None
    assert (found.kappa.value, found.kappa.interval) == (None, None)
    assert (found.sensitivity.value, found.sensitivity.interval) == (None, None)
    assert found.specificity.value == 1.0


def test_no_figure_is_given_below_ten_pairs() -> None:
    assert measures(Table(1, 0, 0, FEWEST - 2)) is None
    assert measures(Table(1, 0, 0, FEWEST - 1)) is not None


def test_all_five_with_their_intervals() -> None:
    found = measures(Table(2, 4, 4, 90))
    assert found is not None
    assert found.raw.interval == wilson(92, 100)
    assert (found.sensitivity.value, found.sensitivity.interval) == (2 / 6, wilson(2, 6))
    assert (found.specificity.value, found.specificity.interval) == (90 / 94, wilson(90, 94))
    assert found.kappa.interval == pytest.approx(Interval(-0.053, 0.646), abs=0.01)
    assert found.ac1.interval == pytest.approx(Interval(0.840, 0.968), abs=0.01)
    assert measures(Table(2, 4, 4, 90)) == found  # the same labels, the same intervals


def test_where_all_agree_the_bootstrap_does_not_claim_certainty() -> None:
    found = measures(Table(6, 0, 0, 14))
    assert found is not None
    assert found.kappa.value == found.ac1.value == 1.0
    assert found.kappa.interval == pytest.approx(Interval(0.616, 1.0), abs=1e-3)
    assert found.ac1.interval == pytest.approx(Interval(0.722, 1.0), abs=1e-3)


def test_a_machine_that_only_ever_says_one_thing_is_not_certain_to_be_no_better_than_chance() -> None:
    found = measures(Table(0, 8, 0, 20))
    assert found is not None
    assert found.kappa.value == 0.0
    assert found.kappa.interval == pytest.approx(Interval(-0.647, 0.466), abs=1e-3)
    assert found.raw.interval == pytest.approx(Interval(0.5294, 0.8475), abs=1e-4)  # each less 20/28, over 8/28


@given(TABLES)
def test_what_is_beyond_chance_stays_within_its_bounds(table: Table) -> None:
    for value in (kappa(table), ac1(table)):
        assert value is None or -1.0 <= value <= 1.0
        assert value is None or (value == pytest.approx(1.0)) == (table.agreed == table.n)
    turned = Table(table.clear, table.false, table.missed, table.hits)
    assert kappa(turned) == pytest.approx(kappa(table))
    assert ac1(turned) == pytest.approx(ac1(table))


@settings(max_examples=30)
@given(TABLES.filter(lambda table: table.n >= FEWEST))
def test_every_figure_lies_in_its_interval_and_that_within_bounds(table: Table) -> None:
    found = measures(table)
    assert found is not None
    for name, lowest in (("raw", 0.0), ("sensitivity", 0.0), ("specificity", 0.0), ("kappa", -1.0), ("ac1", -1.0)):
        one = getattr(found, name)
        assert (one.value is None) == (one.interval is None)
        if one.interval is not None:
            assert lowest <= one.interval.low <= one.interval.high <= 1.0
            assert one.interval.low - 0.02 <= one.value <= one.interval.high + 0.02  # a bootstrap's ends are draws


@given(st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_lies_in_its_interval(counted: tuple[int, int]) -> None:
    hits, n = counted
    low, high = wilson(hits, n)
    assert 0.0 <= low <= high <= 1.0
    assert n == 0 or low <= hits / n <= high


def test_the_difference_of_two_paired_shares() -> None:
    """The 21 children of Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014), before and after; by hand."""
    found = difference(Paired(21, 1, 7))
    assert found.value == pytest.approx(-0.286, abs=5e-4)
    assert found.interval == pytest.approx(Interval(-0.508, -0.013), abs=5e-4)
    assert separated(Paired(21, 1, 7))
    assert difference(Paired(0, 0, 0)).interval is None


@pytest.mark.parametrize(
    ("pairs", "apart"),
    [((50, 6, 0), True), ((50, 5, 0), False), ((50, 0, 6), True), ((50, 0, 0), False), ((0, 0, 0), False)],
)
def test_two_are_told_apart_where_the_interval_does_not_include_nought(
    pairs: tuple[int, int, int], *, apart: bool
) -> None:
    assert separated(Paired(*pairs)) == apart


@given(PAIRS)
def test_a_difference_turned_round_is_the_same_difference(pairs: Paired) -> None:
    found, turned = difference(pairs), difference(Paired(pairs.n, pairs.second_only, pairs.first_only))
    assert found.value is not None
    assert found.interval is not None
    assert turned.interval is not None
    assert turned.value == pytest.approx(-found.value)
    assert turned.interval == pytest.approx((-found.interval.high, -found.interval.low))
    assert -1.0 <= found.interval.low <= found.interval.high <= 1.0
    assert separated(pairs) == separated(Paired(pairs.n, pairs.second_only, pairs.first_only))


def test_how_many_labels_it_takes() -> None:
    """By hand, with Connor's formula: 20 % of the pairs differ, by 10 points; and 50 %, by 40."""
    assert labels_needed(Paired(100, 15, 5)) == labels_needed(Paired(200, 10, 30)) == 155
    assert labels_needed(Paired(20, 9, 1)) == 23
    assert labels_needed(Paired(100, 5, 5)) is None
    assert labels_needed(Paired(0, 0, 0)) is None


def test_so_many_labels_tell_such_a_difference_in_four_of_five_attempts() -> None:
    needed = labels_needed(Paired(100, 15, 5))
    assert needed is not None
    drawn = multinomial.rvs(needed, [0.15, 0.05, 0.80], size=4_000, random_state=1)
    told = sum(separated(Paired(needed, int(first), int(second))) for first, second, _ in drawn)
    assert told / len(drawn) == pytest.approx(0.8, abs=0.03)


@given(PAIRS)
def test_what_is_undecided_takes_more_labels_than_there_are(pairs: Paired) -> None:
    needed = labels_needed(pairs)
    assert (needed is None) == (pairs.first_only == pairs.second_only)
    if needed is not None and pairs.n >= FEWEST and not separated(pairs):
        assert needed > pairs.n
