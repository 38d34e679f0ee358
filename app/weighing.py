"""What a person said about a verdict -> the label's outcome and score, by the verdict's own code. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from agents.observation import WHOLE_VERDICT, Observation
from agents.verdict import Finding, decide

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agents.observation import Direction
    from agents.rubric import Rubric
    from agents.verdict import Outcome as MachineOutcome
    from agents.verdict import Result

Outcome = Literal["pass", "fail", "cannot_tell"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
Kind = Literal["confirm", "overrule", "decide"]

RESULTS: Mapping[str, Result] = {  # what a person may answer: to leave a criterion open is to leave it out
    "met": "met", "partly": "partly", "not_met": "not_met", "not_applicable": "not_applicable",
}  # fmt: skip
REASONS: Mapping[str, str] = {
    "evidence_misread": "The evidence was misread",
    "evidence_missed": "Evidence was missed",
    "criterion_does_not_apply": "The criterion does not apply here",
    "standard_unclear": "The standard is unclear",
    "context_missing": "The agent lacked context",
    "other": "Something else",
}
LONGEST_NOTE = 2_000  # characters: half a page

_LOST: Mapping[Result, float] = {"met": 0, "not_applicable": 0, "partly": 0.5, "not_met": 1}


@dataclass(frozen=True)
class Decision:
    """What a person says. `outcome` None: as the findings say. `findings` are only those that the person answered.

    `standing_label_id` is the decision that the person saw; `blind` that it comes through a blind check.
    """

    verdict_id: int
    outcome: Outcome | None
    findings: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    note: str = ""
    standing_label_id: int | None = None
    blind: bool = False


class Problem(NamedTuple):
    """Why a decision cannot be taken as it is: the field of the form, if it is one, and words for its sender."""

    field: str
    words: str
    stale: bool = False  # right when it was sent, but something has changed since


class Machine(NamedTuple):
    """What a decision is about."""

    outcome: MachineOutcome
    findings: Sequence[Finding]


class Change(NamedTuple):
    """A finding that a person answered differently."""

    finding: Finding
    result: Result


@dataclass(frozen=True)
class Weighed:
    """`score` is None where there is none that a person could mean: blind, or they could not tell."""

    outcome: Outcome
    score: float | None
    kind: Kind
    changed: tuple[Change, ...]


def weigh(decision: Decision, machine: Machine, rubric: Rubric, *, blind: bool) -> Weighed | Problem:
    """The label that the decision makes. `blind`: the person has not seen what the machine said.

    Whoever was asked through a blind check gives no reason: they may not know that they overrule anybody.
    """
    if problem := _unusable(decision, rubric):
        return problem
    verdict = decide(_laid_over(decision, machine), rubric)
    if decision.outcome is None and (decision.blind or verdict.outcome == "escalate"):
        return Problem("outcome", _open(() if decision.blind else verdict.reasons))
    outcome = decision.outcome or _settled(verdict.outcome)
    changed = tuple(_changes(decision, machine))
    kind = "decide" if blind else _kind(machine, outcome, changed)
    if kind == "confirm" and decision.outcome is None and not decision.findings:
        return Problem("outcome", _SAME)
    if kind == "overrule" and not decision.blind and (problem := _unexplained(decision)):
        return problem
    score = None if decision.blind or outcome == "cannot_tell" else verdict.score
    return Weighed(outcome, score, kind, changed)


def _unusable(decision: Decision, rubric: Rubric) -> Problem | None:
    if len(decision.note) > LONGEST_NOTE:
        return Problem("note", f"the text has {len(decision.note):,} characters; {LONGEST_NOTE:,} is the most")
    if "\0" in decision.note:
        return Problem("note", "the text holds a character that cannot be stored; type it again")
    if decision.reason and decision.reason not in REASONS:
        return Problem("reason", "this is not one of the reasons; choose one from the list")
    known = {criterion.id for criterion in rubric.criteria}
    if not (decision.findings.keys() <= known and set(decision.findings.values()) <= RESULTS.keys()):
        return Problem("findings", "a finding has an answer that is not in the list; load the page again")
    return None


def _laid_over(decision: Decision, machine: Machine) -> list[Finding]:
    """The machine's findings with the person's answers in their place."""
    given = {criterion: RESULTS[result] for criterion, result in decision.findings.items()}
    over = [replace(one, result=given.pop(one.criterion, one.result)) for one in machine.findings]
    return over + [Finding(criterion, "judged", result) for criterion, result in given.items()]


def _open(reasons: Sequence[str]) -> str:
    if not reasons:
        return "say pass, fail or cannot tell"
    return f"the findings leave it open ({'; '.join(reasons)}). Answer these, or choose pass, fail or cannot tell"


# Whoever opens this form means to overrule: what was left as it is must not count as their consent.
_SAME = (
    "nothing here differs from what the machine said. Choose another verdict or finding, or the same verdict by name"
)


def _settled(outcome: MachineOutcome) -> Outcome:
    return "pass" if outcome == "pass" else "fail"


def _changes(decision: Decision, machine: Machine) -> Iterator[Change]:
    for finding in machine.findings:
        result = decision.findings.get(finding.criterion)
        if result is not None and result != finding.result:
            yield Change(finding, RESULTS[result])


def _kind(machine: Machine, outcome: Outcome, changed: Sequence[Change]) -> Kind:
    if machine.outcome == "escalate":
        return "decide"
    return "overrule" if changed or outcome != machine.outcome else "confirm"


def _unexplained(decision: Decision) -> Problem | None:
    if not decision.reason:
        return Problem("reason", "choose why the machine is overruled: its agents learn from it")
    if not decision.note.strip():
        return Problem("note", "say in a few words what was wrong: whoever improves the agents has only this")
    return None


def overruled(weighed: Weighed, machine: Machine) -> Iterator[Observation]:
    """What the machine got wrong by this label: each judged finding, or where none was touched the verdict itself.

    To have left something open is no error: nothing follows from an unscored finding or an escalated verdict.
    """
    for finding, result in weighed.changed:
        if finding.kind == "judged" and (direction := _direction(finding.result, result)):
            yield Observation("person", "qc", "overruled", finding.criterion, finding.evidence, direction)
    if not weighed.changed and {machine.outcome, weighed.outcome} == {"pass", "fail"}:
        direction = "false_pass" if machine.outcome == "pass" else "false_fail"
        yield Observation("person", "qc", "overruled", WHOLE_VERDICT, direction=direction)


def _direction(machine: Result, person: Result) -> Direction:
    """Empty where neither costs more than the other, or the machine did not say."""
    if machine not in _LOST or _LOST[machine] == _LOST[person]:
        return ""
    return "false_fail" if _LOST[machine] > _LOST[person] else "false_pass"
