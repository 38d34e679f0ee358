"""Findings -> verdict. Pure: the same findings and rubric always give the same verdict."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agents.rubric import Criterion, Kind, Rubric

Result = Literal["met", "partly", "not_met", "not_applicable", "unscored"]
EvidenceStatus = Literal["verified", "absent", "void"]
Outcome = Literal["pass", "fail", "escalate"]

VALUES: dict[Result, float] = {"met": 1.0, "partly": 0.5, "not_met": 0.0}


class Span(NamedTuple):
    """Characters start..end of one numbered line of a revision."""

    line: int
    start: int
    end: int


@dataclass(frozen=True)
class Evidence:
    """A cited line, the quote as it stands there (empty where only the line is cited) and where it was found."""

    line: int
    quote: str = ""
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Finding:
    """The answer to one criterion. `evidence_status` is None where nothing was quoted and nothing need be."""

    criterion: str
    kind: Kind
    result: Result
    reason: str = ""
    evidence: tuple[Evidence, ...] = ()
    absent: bool = False
    evidence_status: EvidenceStatus | None = None


@dataclass(frozen=True)
class Verdict:
    """`score` is 0..100, None where nothing was scored. `reasons` names what decided, most important first."""

    outcome: Outcome
    score: float | None
    reasons: tuple[str, ...]


def score(findings: Sequence[Finding], rubric: Rubric) -> float | None:
    """100 * sum(w v) / sum(w) over the scored findings (met 1, partly 1/2, not_met 0); None where no weight is scored.

    Exact until the last step, with weights as they are written: nine tenths of 0.1 each are 90, not 89.99999999999999.
    """
    scored = [(Fraction(str(rubric[f.criterion].weight)), VALUES[f.result]) for f in findings if f.result in VALUES]
    total = sum(weight for weight, _ in scored)
    return float(100 * sum(weight * Fraction(value) for weight, value in scored) / total) if total else None


def decide(findings: Sequence[Finding], rubric: Rubric, *, escalations: Sequence[str] = ()) -> Verdict:
    """The verdict, in this order: escalation, critical not met, critical or decisive weight unscored, the pass mark.

    `escalations` are reasons already in words: rules that apply, a hostile-text flip, a ticket too long to judge, a
    triage without a usable answer.
    """
    value = score(findings, rubric)
    if escalations:
        return Verdict("escalate", value, tuple(escalations))
    by_id = {finding.criterion: finding for finding in findings}
    critical = [by_id[c.id] for c in rubric.criteria if c.critical and c.id in by_id]
    if failed := [f for f in critical if f.result == "not_met"]:
        return Verdict("fail", value, tuple(f"critical, not met: {rubric[f.criterion].title}" for f in failed))
    if unscored := [f for f in critical if f.result == "unscored"]:
        return Verdict("escalate", value, tuple(_unscored(f, rubric[f.criterion], critical=True) for f in unscored))
    if value is None:
        return Verdict("escalate", None, ("nothing could be scored",))
    open_ = [f for f in findings if f.result == "unscored" and rubric[f.criterion].weight > 0]
    if open_ and _could_change_side(findings, rubric):
        return Verdict("escalate", value, tuple(_unscored(f, rubric[f.criterion], critical=False) for f in open_))
    outcome: Outcome = "pass" if value >= rubric.pass_mark else "fail"
    return Verdict(outcome, value, _what_cost_most(findings, rubric) or ("everything that applies is met",))


def _could_change_side(findings: Sequence[Finding], rubric: Rubric) -> bool:
    """True where scoring every unscored criterion as met, or as not met, lands on different sides of the mark."""

    def at(value: Result) -> bool:
        filled = [Finding(f.criterion, f.kind, value) if f.result == "unscored" else f for f in findings]
        return (score(filled, rubric) or 0.0) >= rubric.pass_mark

    return at("met") != at("not_met")


def _unscored(finding: Finding, criterion: Criterion, *, critical: bool) -> str:
    lead = "critical, not scored" if critical else "not scored and could change the side"
    return f"{lead}: {criterion.title}" + (f" ({finding.reason})" if finding.reason else "")


def _what_cost_most(findings: Sequence[Finding], rubric: Rubric, *, most: int = 3) -> tuple[str, ...]:
    lost = [(rubric[f.criterion].weight * (1 - VALUES[f.result]), f) for f in findings if f.result in VALUES]
    worst = sorted((pair for pair in lost if pair[0] > 0), key=lambda pair: -pair[0])[:most]
    return tuple(f"{rubric[f.criterion].title}: {f.result.replace('_', ' ')}" for _, f in worst)
