"""The arithmetic of a replay: fixed, broken, unchanged, and how much that proves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agents.judge import Judgement
from agents.observation import Fingerprint, Observation
from agents.proof import FEW_LABELS, Case, Comparison, Run, compare, majority, right, run, summarise
from agents.verdict import Finding, Verdict

if TYPE_CHECKING:
    from agents.verdict import Outcome, Result

LENIENT = Fingerprint("qc", "overruled", "root_cause", "false_pass")
STRICT = Fingerprint("qc", "overruled", "root_cause", "false_fail")
QUOTE = Fingerprint("qc", "quote_not_found", "root_cause")


def judgement(outcome: Outcome = "pass", result: Result = "met", *seen: Observation) -> Judgement:
    return Judgement(Verdict(outcome, 90.0, ()), (Finding("root_cause", "judged", result),), None, seen)


def ran(outcome: Outcome = "pass", result: Result = "met", *, failed: bool = False) -> Run:
    return Run(outcome, 90.0, {"root_cause": result}, failed)


def case(*, target: bool = False, label: str | None = None, said: str | None = None) -> Case:
    return Case(1, 1, target, label, {"root_cause": said} if said else {})


@pytest.mark.parametrize(
    ("fingerprint", "said", "result", "failed"),
    [
        (LENIENT, "not_met", "met", True),
        (LENIENT, "not_met", "partly", True),
        (LENIENT, "not_met", "not_met", False),
        (LENIENT, "partly", "not_met", False),  # too strict now, which is another failure
        (LENIENT, "not_met", "unscored", False),
        (LENIENT, None, "met", True),
        (LENIENT, None, "partly", False),
        (STRICT, "met", "not_met", True),
        (STRICT, "not_applicable", "not_met", True),
        (STRICT, "not_applicable", "met", False),
        (STRICT, None, "partly", True),
        (STRICT, None, "met", False),
    ],
)
def test_an_overruled_finding_fails_again_on_the_same_side_only(
    fingerprint: Fingerprint, said: str | None, result: Result, *, failed: bool
) -> None:
    assert run(judgement(result=result), case(target=True, said=said), fingerprint).failed is failed


def test_an_overruled_verdict_fails_again_where_it_is_the_same() -> None:
    verdict = Fingerprint("qc", "overruled", "verdict", "false_pass")
    assert run(judgement("pass"), case(target=True), verdict).failed
    assert not run(judgement("fail"), case(target=True), verdict).failed
    assert not run(judgement("escalate"), case(target=True), verdict).failed


def test_other_failures_show_as_the_same_observation() -> None:
    same = Observation("validator", "qc", "quote_not_found", "root_cause")
    other = Observation("validator", "qc", "quote_not_found", "follow_up")
    assert run(judgement("pass", "met", same), case(target=True), QUOTE).failed
    assert not run(judgement("pass", "met", other), case(target=True), QUOTE).failed


@pytest.mark.parametrize("fingerprint", [LENIENT, STRICT, QUOTE])
def test_an_agent_that_gives_no_answer_at_all_has_mended_nothing(fingerprint: Fingerprint) -> None:
    lost = judgement("escalate", "unscored", Observation("validator", "qc", "refusal"))
    assert run(lost, case(target=True), fingerprint).failed
    of_another = judgement("pass", "partly", Observation("validator", "triage", "refusal"))
    assert not run(of_another, case(target=True, said="partly"), fingerprint).failed


def test_what_is_right_about_a_ticket() -> None:
    assert right(case(target=True), ran(), QUOTE)
    assert not right(case(target=True), ran(failed=True), QUOTE)
    assert right(case(), ran(failed=True), QUOTE)  # not a target: the failure was not seen there
    assert not right(case(label="fail"), ran("pass"), QUOTE)
    assert not right(case(label="fail"), ran("escalate"), QUOTE)  # handing over is not the label
    assert not right(case(label="pass", said="met"), ran("pass", "not_met"), LENIENT)  # same verdict, wrong reason
    assert right(case(label="pass", said="met"), ran("pass", "not_applicable"), LENIENT)
    assert not right(case(label="pass", said="met"), ran("pass", "unscored"), LENIENT)
    assert right(case(label="pass", said="met"), ran("pass", "not_met"), QUOTE)  # another criterion than the pattern's


def compared(old: list[Run], new: list[Run], *, label: str = "fail") -> Comparison:
    return compare(case(label=label), QUOTE, old=old, new=new)


PASS, FAIL, HANDED = ran("pass"), ran("fail"), ran("escalate")


def test_the_majority_of_each_side_decides() -> None:
    assert compared([PASS, PASS, FAIL], [FAIL, FAIL, PASS]).change == "fixed"
    assert compared([FAIL, FAIL, PASS], [PASS, FAIL, PASS]).change == "broken"
    assert compared([PASS, FAIL, FAIL], [FAIL, FAIL, FAIL]).change == "unchanged"
    assert compared([FAIL] * 3, [HANDED] * 3).change == "broken"
    assert majority([PASS, FAIL, HANDED]) == "mixed"
    assert compared([PASS] * 3, [PASS, FAIL, HANDED]).verdict_changed


def test_an_unstable_answer_shows_between_the_runs_of_one_side() -> None:
    unstable = Fingerprint("qc", "unstable", "root_cause")
    wavering, steady = [ran(), ran(result="partly"), ran()], [ran()] * 3
    assert compare(case(target=True), unstable, old=wavering, new=steady).change == "fixed"
    assert compare(case(target=True), unstable, old=steady, new=wavering).change == "broken"
    assert compare(case(), unstable, old=steady, new=wavering).change == "unchanged"


def test_both_sides_are_tried_as_often() -> None:
    for old, new in (([], []), ([PASS], [PASS, PASS])):
        with pytest.raises(ValueError, match="same number"):
            compared(old, new)


def test_the_summary_counts_and_says_how_much_it_proves() -> None:
    fixed = compared([PASS] * 3, [FAIL] * 3)
    same = compared([FAIL, FAIL, PASS], [FAIL] * 3)
    found = summarise([fixed, fixed, fixed, same])
    assert (found.cases, found.labelled, found.targets, found.verdicts_changed) == (4, 4, 0, 3)
    assert (found.fixed.count, found.broken.count, found.unchanged.count) == (3, 0, 1)
    assert found.fixed.interval == pytest.approx((0.1941, 0.9937), abs=1e-4)  # Clopper and Pearson for 3 of 4
    assert found.broken.interval == pytest.approx((0.0, 0.6024), abs=1e-4)
    assert (found.flips_old.count, found.flips_new.count) == (1, 0)
    assert (found.escalated_old, found.escalated_new) == (0, 0)
    moved = summarise([compared([FAIL] * 3, [HANDED, HANDED, FAIL]), same])
    assert (moved.escalated_old, moved.escalated_new, moved.broken.count) == (0, 1, 1)
    assert found.rests_on == "It rests on 4 labels: few labels prove little."
    assert summarise([same] * FEW_LABELS).rests_on == f"It rests on {FEW_LABELS} labels."
    assert "no label" in summarise([compare(case(target=True), QUOTE, old=[PASS], new=[PASS])]).rests_on


def test_nothing_to_compare_is_no_proof() -> None:
    nothing = summarise([])
    assert (nothing.cases, nothing.fixed.count, nothing.fixed.interval) == (0, 0, (0.0, 1.0))
