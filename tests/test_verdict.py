"""From findings to a verdict: the order of what decides, the exact edges, and what adds nothing."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.context import Criterion, Rubric
from agents.verdict import VALUES, Finding, Result, Verdict, decide, score


def criterion(name: str, *, weight: float = 10, critical: bool = False) -> Criterion:
    return Criterion(name, name.title(), weight, "judged", critical, (), "text", 1)


def rubric(*criteria: Criterion, pass_mark: float = 80) -> Rubric:
    return Rubric(pass_mark, criteria)


def found(**results: Result) -> list[Finding]:
    return [Finding(name, "judged", result) for name, result in results.items()]


FOUR = rubric(
    criterion("crit", weight=10, critical=True),
    criterion("big", weight=60),
    criterion("mid", weight=20),
    criterion("small", weight=10),
)


def test_everything_met_passes() -> None:
    verdict = decide(found(crit="met", big="met", mid="met", small="met"), FOUR)
    assert verdict == Verdict("pass", 100.0, ("everything that applies is met",))


def test_the_score_is_the_weighted_mean() -> None:
    assert score(found(crit="met", big="partly", mid="not_met", small="met"), FOUR) == 50.0


def test_exactly_the_mark_passes_and_just_below_fails() -> None:
    assert decide(found(crit="met", big="met", mid="not_met", small="met"), FOUR).outcome == "pass"  # 80 of 80
    assert decide(found(crit="partly", big="met", mid="not_met", small="met"), FOUR).outcome == "fail"  # 75


@pytest.mark.parametrize(("weight", "mark"), [(0.1, 90), (0.7, 90), (1e-9, 90), (3.3, 70), (1e9, 30)])
def test_the_edge_holds_for_weights_that_binary_fractions_cannot_hold(weight: float, mark: float) -> None:
    ten = [criterion(f"c{number}", weight=weight) for number in range(10)]
    met = int(mark / 10)
    findings = [Finding(one.id, "judged", "met" if index < met else "not_met") for index, one in enumerate(ten)]
    assert decide(findings, rubric(*ten, pass_mark=mark)).outcome == "pass"


def test_reasons_name_what_cost_most_first_and_at_most_three() -> None:
    verdict = decide(found(crit="partly", big="not_met", mid="partly", small="not_met"), FOUR)
    assert verdict.outcome == "fail"
    assert verdict.reasons == ("Big: not met", "Mid: partly", "Small: not met")


def test_a_passed_ticket_names_what_it_lost() -> None:
    assert decide(found(crit="met", big="met", mid="partly", small="met"), FOUR).reasons == ("Mid: partly",)


def test_an_escalation_comes_before_everything() -> None:
    for results in (found(crit="not_met", big="met"), found(crit="met", big="met"), []):
        verdict = decide(results, FOUR, escalations=["escalation rule: Security incident (line 7)"])
        assert verdict.outcome == "escalate"
        assert verdict.reasons == ("escalation rule: Security incident (line 7)",)
    assert decide(found(crit="met", big="met"), FOUR, escalations=["x"]).score == 100.0


def test_critical_not_met_fails_whatever_the_score_and_whatever_is_unscored() -> None:
    verdict = decide(found(crit="not_met", big="met", mid="met", small="met"), FOUR)
    assert (verdict.outcome, verdict.score) == ("fail", 90.0)
    assert verdict.reasons == ("critical, not met: Crit",)
    assert decide(found(crit="not_met", big="unscored", mid="met", small="met"), FOUR).outcome == "fail"


def test_critical_not_met_beats_another_critical_unscored() -> None:
    two = rubric(criterion("a", critical=True), criterion("b", critical=True))
    assert decide(found(a="unscored", b="not_met"), two).outcome == "fail"


def test_critical_partly_only_costs_points() -> None:
    assert decide(found(crit="partly", big="met", mid="met", small="met"), FOUR).outcome == "pass"


def test_critical_unscored_escalates() -> None:
    findings = [
        Finding("crit", "judged", "unscored", "the quote is not in the ticket"),
        *found(big="met", mid="met", small="met"),
    ]
    verdict = decide(findings, FOUR)
    assert (verdict.outcome, verdict.score) == ("escalate", 100.0)
    assert verdict.reasons == ("critical, not scored: Crit (the quote is not in the ticket)",)


def test_critical_not_applicable_decides_nothing() -> None:
    assert decide(found(crit="not_applicable", big="met", mid="met", small="met"), FOUR).outcome == "pass"


def test_nothing_scored_escalates() -> None:
    assert decide([], FOUR) == Verdict("escalate", None, ("nothing could be scored",))
    assert decide(found(big="not_applicable", mid="not_applicable"), FOUR).outcome == "escalate"
    assert decide(found(big="unscored", mid="unscored"), FOUR) == Verdict(
        "escalate", None, ("nothing could be scored",)
    )
    weightless = rubric(criterion("a", weight=0))
    assert decide(found(a="met"), weightless) == Verdict("escalate", None, ("nothing could be scored",))


def test_unscored_weight_that_could_change_the_side_escalates() -> None:
    verdict = decide(found(crit="met", big="met", mid="unscored", small="not_met"), FOUR)  # 70 to 90
    assert (verdict.outcome, verdict.score) == ("escalate", 87.5)
    assert verdict.reasons == ("not scored and could change the side: Mid",)


def test_unscored_weight_that_cannot_change_the_side_does_not() -> None:
    assert decide(found(crit="met", big="met", mid="met", small="unscored"), FOUR).outcome == "pass"  # 90 to 100
    assert decide(found(crit="met", big="not_met", mid="not_met", small="unscored"), FOUR).outcome == "fail"


def test_unscored_to_exactly_the_mark_is_no_doubt_on_the_passing_side() -> None:
    assert decide(found(crit="met", big="met", mid="unscored", small="met"), FOUR).outcome == "pass"  # 80 to 100


def test_unscored_up_to_exactly_the_mark_is_in_doubt() -> None:
    five = rubric(*(criterion(name) for name in "abcde"))
    assert decide(found(a="met", b="met", c="met", d="unscored", e="not_met"), five).outcome == "escalate"  # 60 to 80


def test_unscored_without_weight_changes_nothing() -> None:
    two = rubric(criterion("a"), criterion("b", weight=0))
    assert decide(found(a="met", b="unscored"), two).outcome == "pass"


def test_a_mark_of_zero_and_of_a_hundred() -> None:
    one = criterion("a")
    assert decide(found(a="not_met"), rubric(one, pass_mark=0)).outcome == "pass"
    assert decide(found(a="met"), rubric(one, pass_mark=100)).outcome == "pass"
    assert decide(found(a="partly"), rubric(one, pass_mark=100)).outcome == "fail"


names = [f"c{number}" for number in range(6)]
rubrics = st.builds(
    lambda weights, critical, mark: rubric(
        *(
            criterion(name, weight=weight, critical=name in critical)
            for name, weight in zip(names, weights, strict=True)
        ),
        pass_mark=mark,
    ),
    st.lists(st.floats(0, 1000, allow_subnormal=False), min_size=6, max_size=6),
    st.sets(st.sampled_from(names), max_size=2),
    st.floats(0, 100),
)
results = st.lists(st.sampled_from(get_args(Result)), min_size=6, max_size=6).map(
    lambda drawn: [Finding(name, "judged", result) for name, result in zip(names, drawn, strict=True)]
)


@given(rubrics, results)
def test_the_score_is_a_percentage_or_nothing(drawn: Rubric, findings: list[Finding]) -> None:
    value = score(findings, drawn)
    assert value is None or 0 <= value <= 100
    assert decide(findings, drawn).score == value


@given(rubrics, results, st.floats(0, 1000))
def test_what_does_not_apply_changes_nothing(drawn: Rubric, findings: list[Finding], weight: float) -> None:
    wider = Rubric(drawn.pass_mark, (*drawn.criteria, criterion("extra", weight=weight, critical=True)))
    more = [*findings, Finding("extra", "judged", "not_applicable")]
    assert decide(more, wider) == decide(findings, drawn)


@given(rubrics, results)
def test_order_of_findings_changes_no_outcome(drawn: Rubric, findings: list[Finding]) -> None:
    backwards = decide(findings[::-1], drawn)
    assert backwards.outcome == decide(findings, drawn).outcome


@given(rubrics, results, st.sampled_from(names))
def test_a_better_result_never_turns_pass_into_fail(drawn: Rubric, findings: list[Finding], name: str) -> None:
    better = [Finding(name, "judged", "met") if f.criterion == name and f.result in VALUES else f for f in findings]
    if decide(findings, drawn).outcome == "pass":
        assert decide(better, drawn).outcome == "pass"


@given(rubrics, results)
def test_every_verdict_says_why(drawn: Rubric, findings: list[Finding]) -> None:
    verdict = decide(findings, drawn)
    assert verdict.reasons
    assert all(verdict.reasons)
