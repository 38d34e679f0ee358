"""Whether an edit helps: the same tickets judged under the old and the new context, side by side, several times each.

Pure over scores. A logged failure is never the baseline: run again unchanged, much of what failed once does not fail.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from agents.agreement import Interval, exact
from agents.observation import WHOLE_VERDICT
from agents.verdict import VALUES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agents.judge import Judgement
    from agents.observation import Fingerprint
    from agents.verdict import Outcome, Result

Change = Literal["fixed", "broken", "unchanged"]

FEW_LABELS = 30  # below, even a clean replay leaves room for more harm than a lead would accept


@dataclass(frozen=True)
class Case:
    """What is right about one ticket: on a target the failure does not show; a label says the verdict or findings."""

    ticket_id: int
    revision_id: int
    target: bool
    label: str | None = None  # pass or fail; None where nobody said
    findings: Mapping[str, str] = field(default_factory=dict)  # criterion -> what a person answered

    @property
    def labelled(self) -> bool:
        return self.label is not None or bool(self.findings)


@dataclass(frozen=True)
class Run:
    """One judgement of one case: `failed` where the failure showed again."""

    outcome: Outcome
    score: float | None
    findings: Mapping[str, Result]
    failed: bool


@dataclass(frozen=True)
class Comparison:
    """One case under both contexts. An arm is right where most of its runs are."""

    case: Case
    old: tuple[Run, ...]
    new: tuple[Run, ...]
    old_right: bool
    new_right: bool

    @property
    def change(self) -> Change:
        if self.old_right == self.new_right:
            return "unchanged"
        return "fixed" if self.new_right else "broken"

    @property
    def old_outcome(self) -> str:
        return majority(self.old)

    @property
    def new_outcome(self) -> str:
        return majority(self.new)

    @property
    def verdict_changed(self) -> bool:
        return self.old_outcome != self.new_outcome


@dataclass(frozen=True)
class Share:
    """`count` of the cases, and the exact 95 % interval of the share it stands for."""

    count: int
    interval: Interval


@dataclass(frozen=True)
class Summary:
    """`flips_*`: cases whose runs under one and the same context did not all give the same verdict.

    `escalated_*`: cases that most runs hand over to a person. They are not right, and an edit that makes many of them
    has moved work and saved none.
    """

    cases: int
    labelled: int
    targets: int
    fixed: Share
    broken: Share
    unchanged: Share
    verdicts_changed: int
    flips_old: Share
    flips_new: Share
    escalated_old: int
    escalated_new: int

    @property
    def rests_on(self) -> str:
        """How much this proves, in words."""
        labels = f"{self.labelled} label" + ("" if self.labelled == 1 else "s")
        if self.labelled == 0:
            return "It rests on no label: whether it harms other tickets is not known."
        few = self.labelled < FEW_LABELS
        return f"It rests on {labels}" + (": few labels prove little." if few else ".")


def run(judgement: Judgement, case: Case, fingerprint: Fingerprint) -> Run:
    """What one judgement says about a case."""
    findings = {finding.criterion: finding.result for finding in judgement.findings}
    verdict = judgement.verdict
    if _lost(judgement, fingerprint.agent):
        failed = True
    elif fingerprint.code == "overruled":
        failed = _overruled_again(verdict.outcome, findings, case, fingerprint)
    else:
        failed = any(one.fingerprint == fingerprint for one in judgement.observations)
    return Run(verdict.outcome, verdict.score, findings, failed)


def compare(case: Case, fingerprint: Fingerprint, *, old: Sequence[Run], new: Sequence[Run]) -> Comparison:
    """Both arms of one case. Each has the same number of runs, at least one."""
    if len(old) != len(new) or not old:
        raise ValueError("both contexts are tried the same number of times, and at least once")

    def most(runs: Sequence[Run]) -> bool:
        if case.target and fingerprint.code == "unstable" and _wavers(runs, fingerprint.subject):
            return False
        return 2 * sum(right(case, one, fingerprint) for one in runs) > len(runs)

    return Comparison(case, tuple(old), tuple(new), most(old), most(new))


def right(case: Case, one: Run, fingerprint: Fingerprint) -> bool:
    """No failure on a target, the labelled verdict, and of the criterion in question the labelled answer.

    Handing a ticket over is not the labelled verdict: an edit that sends everything to people fixes nothing.
    """
    if case.target and one.failed:
        return False
    if case.label is not None and one.outcome != case.label:
        return False
    said = case.findings.get(fingerprint.subject) if fingerprint.code == "overruled" else None
    return said is None or _value(one.findings.get(fingerprint.subject)) == _value(said)


def summarise(comparisons: Sequence[Comparison]) -> Summary:
    """The counts over all cases, each with its exact interval."""
    n = len(comparisons)

    def share(true: Callable[[Comparison], bool]) -> Share:
        count = sum(map(true, comparisons))
        return Share(count, exact(count, n))

    return Summary(
        cases=n,
        labelled=sum(one.case.labelled for one in comparisons),
        targets=sum(one.case.target for one in comparisons),
        fixed=share(lambda one: one.change == "fixed"),
        broken=share(lambda one: one.change == "broken"),
        unchanged=share(lambda one: one.change == "unchanged"),
        verdicts_changed=sum(one.verdict_changed for one in comparisons),
        flips_old=share(lambda one: _flips(one.old)),
        flips_new=share(lambda one: _flips(one.new)),
        escalated_old=sum(one.old_outcome == "escalate" for one in comparisons),
        escalated_new=sum(one.new_outcome == "escalate" for one in comparisons),
    )


def majority(runs: Sequence[Run]) -> str:
    """The verdict that more than half of the runs gave, else "mixed"."""
    outcome, times = Counter(one.outcome for one in runs).most_common(1)[0]
    return outcome if 2 * times > len(runs) else "mixed"


def _lost(judgement: Judgement, agent: str) -> bool:
    """The agent gave no usable answer at all: no failure can show there, and none is mended."""
    return any(one.agent == agent and one.observer == "validator" and not one.subject for one in judgement.observations)


def _wavers(runs: Sequence[Run], criterion: str) -> bool:
    """A replay asks nobody for a second opinion; the runs of one arm are each other's."""
    return len({one.findings.get(criterion) for one in runs}) > 1


def _flips(runs: Sequence[Run]) -> bool:
    return len({one.outcome for one in runs}) > 1


def _overruled_again(outcome: str, findings: Mapping[str, Result], case: Case, fingerprint: Fingerprint) -> bool:
    """The machine is on the side of the person that it was overruled for: too lenient, or too strict."""
    lenient = fingerprint.direction == "false_pass"
    if fingerprint.subject == WHOLE_VERDICT:
        return outcome == ("pass" if lenient else "fail")
    machine = _value(findings.get(fingerprint.subject))
    if machine is None:
        return False
    person = _value(case.findings.get(fingerprint.subject))
    if person is None:  # nobody's answer is on record any more: the direction alone says which side was wrong
        person = 0.0 if lenient else 1.0
        return machine > VALUES["partly"] if lenient else machine < person
    return machine > person if lenient else machine < person


def _value(result: str | None) -> float | None:
    """What does not apply costs nothing, as what is met; None where nothing was scored."""
    if result == "not_applicable":
        return VALUES["met"]
    return next((value for name, value in VALUES.items() if name == result), None)
