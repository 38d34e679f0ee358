"""Models beside people: what is counted, what is counted apart, and who is better. Without database or model."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from agents.agreement import Table, wilson
from agents.evaluation import VERDICT, Arm, Costs, Said, Wanted, beside, compare, figures

if TYPE_CHECKING:
    from collections.abc import Sequence

NOTHING = Costs(None, Decimal(0))


def wanted(*outcomes: str) -> list[Wanted]:
    return [Wanted(outcome, {}) for outcome in outcomes]


def arm(*outcomes: str, model: str = "one", cost: str = "0.001", ms: Sequence[int] = ()) -> Arm:
    latencies = ms or [1_000] * len(outcomes)
    said = [Said(outcome, {}, Decimal(cost), took) for outcome, took in zip(outcomes, latencies, strict=True)]
    return Arm(model, demonstration=False, said=tuple(said))


def counted(people: Sequence[Wanted], *arms: Arm, costs: Costs = NOTHING, criteria: tuple[str, ...] = ()) -> Any:  # noqa: ANN401  the document
    return figures(people, arms, criteria=criteria, costs=costs)


def test_what_somebody_left_open_is_counted_apart_and_never_as_an_error() -> None:
    people = wanted("fail", "fail", "pass", "pass", "pass", "cannot_tell", "cannot_tell", "fail")
    found = beside(people, arm("fail", "pass", "fail", "pass", "escalate", "fail", "escalate", "escalate"), VERDICT)
    assert found == (Table(hits=1, missed=1, false=1, clear=1), 2, 2)


def test_a_question_that_was_rejected_is_no_answer() -> None:
    said = (*arm("pass").said, None, *arm("escalate").said)
    document = counted(wanted("pass", "fail", "pass"), Arm("one", demonstration=False, said=said))
    (model,) = document["models"]
    assert (model["judged"], model["rejected"], model["verdict"]["n"], model["verdict"]["left_open"]) == (2, 1, 1, 1)
    assert model["escalated"]["count"] == 1


def test_a_criterion_counts_where_a_person_answered_it_and_the_model_scored_it() -> None:
    people = [
        Wanted("pass", {"cause": "not_met"}),
        Wanted("cannot_tell", {"cause": "not_met"}),
        Wanted("pass", {"cause": "partly"}),
        Wanted("pass", {"cause": "not_applicable"}),
        Wanted("pass", {}),
        Wanted("pass", {"cause": "met"}),
        Wanted("pass", {"cause": "met"}),
    ]
    answers = ("not_met", "met", "not_met", "met", "not_met", "unscored", None)
    said = [Said("pass", {"cause": one} if one else {}, Decimal(0), 0) for one in answers]
    found = beside(people, Arm("one", demonstration=False, said=tuple(said)), "cause")
    assert found == (Table(hits=1, missed=1, false=1, clear=1), 2, 0)


def test_only_criteria_that_somebody_labelled_are_in_the_document() -> None:
    people = [Wanted("pass", {"cause": "met"})]
    said = (Said("pass", {"cause": "met", "tone": "met"}, Decimal(0), 0),)
    document = counted(people, Arm("one", demonstration=False, said=said), criteria=("cause", "tone"))
    assert list(document["models"][0]["criteria"]) == ["cause"]


def test_below_ten_labels_there_is_no_figure_but_cost_and_time() -> None:
    document = counted(wanted(*["pass"] * 9), arm(*["pass"] * 9, ms=range(1, 10)), costs=Costs(Decimal(1), Decimal(0)))
    (model,) = document["models"]
    assert (model["verdict"]["measures"], model["expected_usd"]) == (None, None)
    assert (model["cost_usd"], model["p50_ms"], model["p95_ms"]) == (0.001, 5, 9)


def test_time_is_the_smallest_that_so_many_tickets_do_not_exceed() -> None:
    document = counted(wanted(*["pass"] * 20), arm(*["pass"] * 20, ms=range(20, 0, -1)))
    assert (document["models"][0]["p50_ms"], document["models"][0]["p95_ms"]) == (10, 19)


def test_expected_cost_is_calls_and_looks_and_wrong_verdicts() -> None:
    """Of 20 labels two are handed over and three wrong: 0.001 + 2/20 * 0.50 + 3/20 * 4 = 0.651."""
    people = wanted(*["pass"] * 20)
    model = arm(*["escalate"] * 2, *["fail"] * 3, *["pass"] * 15)
    document = counted(people, model, costs=Costs(Decimal(4), Decimal("0.5")))
    found = document["models"][0]["expected_usd"]
    assert found["value"] == pytest.approx(0.651)
    looks, errors = wilson(2, 20), wilson(3, 20)
    assert found["low"] == pytest.approx(0.001 + looks.low * 0.5 + errors.low * 4)
    assert found["high"] == pytest.approx(0.001 + looks.high * 0.5 + errors.high * 4)


def test_without_a_price_of_a_wrong_verdict_nothing_is_expected() -> None:
    document = counted(wanted(*["pass"] * 20), arm(*["pass"] * 20))
    assert (document["cost_of_wrong_usd"], document["models"][0]["expected_usd"]) == (None, None)


def test_two_models_are_told_apart_or_it_is_said_how_many_labels_that_takes() -> None:
    people = wanted(*["pass"] * 40)
    right = arm(*["pass"] * 40, model="right")
    wrong = arm(*["fail"] * 20, *["pass"] * 20, model="wrong")
    unlucky = arm(*["fail"] * 2, *["pass"] * 38, model="unlucky")
    found, apart = compare(people, wrong, right, VERDICT)
    assert (found.better, found.more, found.first_only, found.second_only) == ("right", None, 0, 20)
    assert apart.value == -0.5
    found, apart = compare(people, right, unlucky, VERDICT)
    assert (found.better, found.n) == ("", 40)
    assert found.more is not None
    assert found.more > 40
    assert apart.interval is not None
    assert apart.interval.low < 0 < apart.interval.high
    found, _ = compare(people, right, right, VERDICT)
    assert (found.better, found.more) == ("", None)


def test_only_tickets_on_which_all_three_said_something_are_compared() -> None:
    people = wanted(*["pass"] * 12, "cannot_tell")
    found, apart = compare(
        people,
        arm("escalate", *["pass"] * 12),
        arm("pass", "escalate", "escalate", *["pass"] * 10),
        VERDICT,
    )
    assert found.n == 9
    assert (found.better, found.more, found.at_least, apart.value) == ("", None, 1, None)  # too few to say anything


def test_below_ten_labels_it_is_said_how_many_are_missing_to_ten() -> None:
    at_least, more = [], []
    for n in (0, 3, 9, 10):
        right, wrong = arm(*["pass"] * n, model="right"), arm(*["fail"] * min(n, 1), *["pass"] * (n - 1), model="wrong")
        (pair,) = counted(wanted(*["pass"] * n), right, wrong)["pairs"]
        at_least.append(pair["at_least"])
        more.append(pair["more"] is not None)
    assert at_least == [10, 7, 1, None]
    assert more == [False, False, False, True]


def test_every_pair_is_compared_on_the_verdict_and_on_each_criterion() -> None:
    people = [Wanted("pass", {"cause": "met"})] * 3
    said = (Said("pass", {"cause": "met"}, Decimal(0), 0),) * 3
    arms = [Arm(name, demonstration=False, said=said) for name in "abc"]
    document = counted(people, *arms, criteria=("cause",))
    pairs = [(one["subject"], one["first"], one["second"]) for one in document["pairs"]]
    names = [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs == [(subject, *both) for subject in (VERDICT, "cause") for both in names]
