"""What a person said -> outcome, score, kind, and what it says about the machine. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agents.context import Criterion, Rubric
from agents.verdict import Finding
from app.weighing import LONGEST_NOTE, Change, Decision, Machine, Problem, Weighed, overruled, weigh
from tests.factories import finding

if TYPE_CHECKING:
    from agents.verdict import Outcome, Result

RUBRIC = Rubric(
    80,
    (
        Criterion("cause", "Root cause", 60, "judged", False, (), "text", 1),  # noqa: FBT003  critical
        Criterion("work", "Work performed", 40, "judged", True, (), "text", 2),  # noqa: FBT003
        Criterion("note", "Closing note", 10, "checked", False, (), "text", 3),  # noqa: FBT003
    ),
)
WHY: dict[str, Any] = {"reason": "evidence_missed", "note": "It is in line 9."}


def _machine(outcome: Outcome, **results: Result) -> Machine:
    found = {"cause": "met", "work": "met", "note": "met", **results}
    return Machine(
        outcome,
        [
            finding("cause", found["cause"]),
            finding("work", found["work"], quoted=(9, 0, "done")),
            finding("note", found["note"], kind="checked"),
        ],
    )


def _weigh(machine: Machine, outcome: Any, *, blind: bool = False, **values: Any) -> Weighed | Problem:  # noqa: ANN401  bad ones too
    findings: dict[str, str] = {name: values.pop(name) for name in ("cause", "work", "gone") if name in values}
    return weigh(Decision(1, outcome, findings, blind=blind, **values), machine, RUBRIC, blind=blind)


def _label(*given: Any, **values: Any) -> Weighed:  # noqa: ANN401  as `_weigh` takes them
    weighed = _weigh(*given, **values)
    assert isinstance(weighed, Weighed), weighed
    return weighed


def test_to_say_the_same_confirms_and_needs_no_reason() -> None:
    assert _label(_machine("pass"), "pass") == Weighed("pass", 100.0, "confirm", ())
    assert _label(_machine("pass"), None, cause="met") == Weighed("pass", 100.0, "confirm", ())
    assert _label(_machine("fail", cause="not_met"), "fail", cause="not_met").kind == "confirm"


@pytest.mark.parametrize("typed", [{}, WHY])
def test_who_means_to_overrule_and_changes_nothing_has_not_confirmed(typed: dict[str, Any]) -> None:
    refused = _weigh(_machine("fail", cause="not_met"), None, **typed)
    assert isinstance(refused, Problem)
    assert (refused.field, refused.words.split(".")[0]) == (
        "outcome",
        "nothing here differs from what the machine said",
    )


def test_findings_laid_over_come_to_another_verdict_by_the_same_code() -> None:
    machine = _machine("fail", cause="not_met")
    weighed = _label(machine, None, cause="met", **WHY)
    assert weighed == Weighed("pass", 100.0, "overrule", (Change(machine.findings[0], "met"),))
    assert _label(machine, None, cause="partly", **WHY).outcome == "fail"
    assert _label(machine, None, cause="not_applicable", **WHY).score == 100
    assert _label(_machine("pass"), None, work="not_met", **WHY).outcome == "fail"  # critical


def test_a_verdict_may_be_overruled_without_a_finding_and_a_finding_without_the_verdict() -> None:
    assert _label(_machine("fail", cause="not_met"), "pass", **WHY) == Weighed("pass", 500 / 11, "overrule", ())
    weighed = _label(_machine("fail", cause="not_met"), "fail", cause="partly", **WHY)
    assert (weighed.outcome, weighed.kind) == ("fail", "overrule")


def test_what_the_machine_left_open_is_decided_without_a_reason() -> None:
    machine = _machine("escalate", work="unscored")
    assert _label(machine, "pass").kind == _label(machine, None, work="met").kind == "decide"
    assert _label(machine, "cannot_tell") == Weighed("cannot_tell", None, "decide", ())
    open_ = _weigh(machine, None)
    assert isinstance(open_, Problem)
    assert open_.field == "outcome"
    assert "critical, not scored: Work performed" in open_.words


def test_an_escalation_rule_does_not_escalate_what_a_person_decides() -> None:
    assert _label(_machine("escalate"), None) == Weighed("pass", 100.0, "decide", ())


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "reason"),
        ({"note": "because"}, "reason"),
        ({"reason": "evidence_missed"}, "note"),
        ({"reason": "evidence_missed", "note": " \n"}, "note"),
        ({"reason": "whim", "note": "because"}, "reason"),
        ({**WHY, "note": "x" * (LONGEST_NOTE + 1)}, "note"),
        ({**WHY, "note": "a\0b"}, "note"),
        ({**WHY, "gone": "met"}, "findings"),
        ({**WHY, "cause": "unscored"}, "findings"),
        ({**WHY, "cause": "great"}, "findings"),
    ],
)
def test_what_cannot_be_taken_names_its_field(values: dict[str, Any], field: str) -> None:
    for outcome in ("pass", "cannot_tell"):
        problem = _weigh(_machine("fail", cause="not_met"), outcome, **values)
        assert isinstance(problem, Problem)
        assert (problem.field, problem.stale) == (field, False)
        assert problem.words


def test_a_blind_answer_has_no_score_needs_no_reason_and_must_be_given() -> None:
    machine = _machine("fail", cause="not_met")
    assert _label(machine, "pass", blind=True, cause="met") == Weighed(
        "pass", None, "decide", (Change(machine.findings[0], "met"),)
    )
    problem = _weigh(machine, None, blind=True)
    assert problem == Problem("outcome", "say pass, fail or cannot tell")
    seen = weigh(Decision(1, "pass", blind=True), machine, RUBRIC, blind=False)
    assert isinstance(seen, Weighed)
    assert seen.kind == "overrule"


DIRECTIONS: list[tuple[Result, Result, str]] = [
    ("not_met", "met", "false_fail"),
    ("not_met", "partly", "false_fail"),
    ("partly", "met", "false_fail"),
    ("partly", "not_applicable", "false_fail"),
    ("met", "partly", "false_pass"),
    ("met", "not_met", "false_pass"),
    ("partly", "not_met", "false_pass"),
    ("not_applicable", "not_met", "false_pass"),
    ("met", "not_applicable", ""),
    ("not_applicable", "met", ""),
    ("unscored", "not_met", ""),
]


@pytest.mark.parametrize(("machine", "person", "direction"), DIRECTIONS)
def test_an_overruled_finding_is_too_strict_or_too_lenient(machine: Result, person: Result, direction: str) -> None:
    judged = _machine("fail", work=machine)
    seen = list(overruled(_label(judged, "cannot_tell", work=person, **WHY), judged))
    assert [(one.observer, one.agent, one.code, one.subject, one.direction) for one in seen] == [
        ("person", "qc", "overruled", "work", direction)
    ] * bool(direction)
    assert all(one.evidence == judged.findings[1].evidence for one in seen)


def test_only_a_verdict_without_an_answered_finding_is_itself_what_was_wrong() -> None:
    for outcome, person, direction in (("pass", "fail", "false_pass"), ("fail", "pass", "false_fail")):
        machine = _machine(outcome)  # type: ignore[arg-type]
        (seen,) = overruled(_label(machine, person, **WHY), machine)
        assert (seen.subject, seen.direction) == ("verdict", direction)
        assert list(overruled(_label(machine, "cannot_tell", **WHY), machine)) == []
        assert list(overruled(_label(machine, outcome), machine)) == []
    escalated = _machine("escalate")
    assert list(overruled(_label(escalated, "pass"), escalated)) == []
    checked = Machine("fail", [Finding("note", "checked", "not_met")])
    weighed = weigh(Decision(1, None, {"note": "met"}, **WHY), checked, RUBRIC, blind=False)
    assert isinstance(weighed, Weighed)
    assert (weighed.outcome, list(overruled(weighed, checked))) == ("pass", [])
