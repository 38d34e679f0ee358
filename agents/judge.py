"""One revision -> one judgement. The whole flow, without database, clock or network.

1. Deterministic checks.
2. Too long for the model, or no model: judged criteria stay unscored.
3. Triage, where this intake has none yet; escalation rules it finds apply.
4. QC; every quote verified. Checks settle the criteria that name them.
5. A second QC run with the criteria in another order, where the first alone should not decide; disagreement unscores.
6. The verdict, from findings and escalations alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from agents import qc as qc_agent
from agents import triage as triage_agent
from agents.answer import Failed
from agents.checks import run_checks
from agents.observation import Observation
from agents.prompt import fenced
from agents.qc import Qc
from agents.tokens import token_estimate
from agents.triage import RuleHit, Triage
from agents.verdict import Finding, Verdict, decide

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.context import Context, Rubric
    from agents.question import Ask, NonceFor, Purpose
    from agents.ticket import Revision

ENGINE_VERSION = 1  # raise it when prompt, checks or verdict code change what a verdict can be
TOKEN_LIMIT = 30_000  # of one rendered ticket; beyond it checks run and a person decides
LOCAL_TOKEN_LIMIT = 8_000
NEAR_THE_MARK = 5.0  # points
SAMPLED_SHARE = 50  # one in fifty tickets gets a second run whatever the first said
SECOND_SHARE = 0.2  # at most this share of tickets gets a second run; whoever calls the judge keeps to it


@dataclass(frozen=True)
class Panel:
    """Who judges and under what limits. `allow_second` is asked once per ticket that deserves a second run.

    A replay is never judged a second time. Its runs are numbered, because a reply is kept by its number.
    """

    model: str
    ask: Ask
    nonce_for: NonceFor
    token_limit: int = TOKEN_LIMIT
    allow_second: Callable[[], bool] = field(default=lambda: True)
    purpose: Literal["review", "replay"] = "review"
    repetition: int = 0


@dataclass(frozen=True)
class Judgement:
    """Everything that judging one revision brought, ready to be stored or shown."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    triage: Triage | None
    observations: tuple[Observation, ...] = ()
    rules: tuple[RuleHit, ...] = ()
    missed_by_triage: frozenset[str] = frozenset()
    second_run: bool = False


def judge(
    revision: Revision,
    context: Context,
    *,
    supplied: frozenset[str],
    panel: Panel | None,
    triage: Triage | None = None,
) -> Judgement:
    """One finished revision's judgement. `panel` None: no model, judged criteria unscored. Raises what `ask` raises."""
    checked = run_checks(revision, rubric=context.rubric, supplied=supplied)
    if panel is None:
        return _unjudged(checked, context, "no model is configured", triage=triage)
    if why := too_long(revision, panel.token_limit):
        return _unjudged(checked, context, why, triage=triage, escalation=why)
    observations: tuple[Observation, ...] = ()
    if triage is None:
        triage, observations = _triaged(revision, context, panel)
    judgement = _Judging(revision, context, panel, checked, triage).judgement()
    return replace(judgement, observations=(*observations, *judgement.observations))


def too_long(revision: Revision, limit: int) -> str:
    """Why no model is asked about this revision; empty where it is short enough."""
    tokens = token_estimate(fenced(revision, nonce="", lines=revision.lines))
    return f"too long to judge: about {tokens:,} tokens, the limit is {limit:,}" if tokens > limit else ""


def _triaged(revision: Revision, context: Context, panel: Panel) -> tuple[Triage | None, tuple[Observation, ...]]:
    answer, observations = triage_agent.triage(
        revision,
        context,
        ask=panel.ask,
        model=panel.model,
        nonce_for=panel.nonce_for,
        purpose=panel.purpose,
        repetition=panel.repetition,
    )
    return (None if isinstance(answer, Failed) else answer), observations


@dataclass(frozen=True)
class _Judging:
    """The flow from QC on."""

    revision: Revision
    context: Context
    panel: Panel
    checked: tuple[Finding, ...]
    triage: Triage | None

    def judgement(self) -> Judgement:
        answer, seen = self._qc(self.panel.purpose)
        if isinstance(answer, Failed):
            unjudged = _unjudged(self.checked, self.context, answer.detail, triage=self.triage)
            return replace(unjudged, observations=seen)
        first = self._concluded(answer, seen)
        if self.panel.purpose == "replay" or not _deserves_second(self.revision, first, self.context.rubric):
            return first
        if not self.panel.allow_second():
            return first
        second, seen_again = self._qc("second")
        if isinstance(second, Failed):
            return replace(first, observations=(*seen, *seen_again), second_run=True)
        agreed, unstable = _agreed(answer, second)
        return replace(self._concluded(agreed, (*seen, *seen_again, *unstable)), second_run=True)

    def _qc(self, purpose: Purpose) -> tuple[Qc | Failed, tuple[Observation, ...]]:
        ask, model, nonce_for = self.panel.ask, self.panel.model, self.panel.nonce_for
        return qc_agent.qc(
            self.revision,
            self.context,
            ask=ask,
            model=model,
            nonce_for=nonce_for,
            triage=self.triage,
            purpose=purpose,
            repetition=self.panel.repetition,
        )

    def _concluded(self, answer: Qc, observations: tuple[Observation, ...]) -> Judgement:
        findings = settle(answer.findings, self.checked, self.context.rubric)
        of_triage = self.triage.rules if self.triage else ()
        rules = (*of_triage, *(RuleHit(rule, evidence) for rule, evidence in answer.missed_rules.items()))
        return Judgement(
            verdict=decide(findings, self.context.rubric, escalations=_escalations(rules, self.context)),
            findings=findings,
            triage=self.triage,
            observations=observations,
            rules=rules,
            missed_by_triage=frozenset(answer.missed_rules),
        )


def _unjudged(
    checked: tuple[Finding, ...], context: Context, why: str, *, triage: Triage | None, escalation: str = ""
) -> Judgement:
    """What the checks and triage alone allow to say; every judged criterion that no check settles is unscored."""
    unscored = tuple(Finding(criterion.id, "judged", "unscored", why) for criterion in context.rubric.judged)
    findings = settle(unscored, checked, context.rubric)
    rules = triage.rules if triage else ()
    reasons = [*([escalation] if escalation else []), *_escalations(rules, context)]
    return Judgement(decide(findings, context.rubric, escalations=reasons), findings, triage, rules=rules)


def settle(judged: tuple[Finding, ...], checked: tuple[Finding, ...], rubric: Rubric) -> tuple[Finding, ...]:
    """All findings in the rubric's order; a criterion whose named check is not met is not met, whoever said what."""
    results = {finding.criterion: finding for finding in (*judged, *checked)}
    for criterion in rubric.judged:
        failed = [results[name] for name in criterion.settled_by if results[name].result == "not_met"]
        if failed:
            results[criterion.id] = replace(failed[0], criterion=criterion.id)
    return tuple(results[criterion.id] for criterion in rubric.criteria)


def _escalations(rules: tuple[RuleHit, ...], context: Context) -> list[str]:
    titles = {rule.id: rule.title for rule in context.rules}
    return [f"escalation rule: {titles[hit.rule]} (line {hit.evidence.line})" for hit in rules if hit.rule in titles]


def _deserves_second(revision: Revision, first: Judgement, rubric: Rubric) -> bool:
    """Near the mark, or a critical criterion not fully met by the model's word alone; and a fixed sample of tickets.

    Not where nothing that a second run says could change the verdict: it only takes scores away, so what goes to a
    person stays there, and so does the fail of a critical check.
    """
    if int(revision.hash[:8], 16) % SAMPLED_SHARE == 0:
        return True
    critical = [f for f in first.findings if rubric[f.criterion].critical]
    if first.verdict.outcome == "escalate" or any(f.kind == "checked" and f.result == "not_met" for f in critical):
        return False
    value = first.verdict.score
    near = value is not None and abs(value - rubric.pass_mark) <= NEAR_THE_MARK
    return near or any(f.kind == "judged" and f.result in {"partly", "not_met"} for f in critical)


def _agreed(first: Qc, second: Qc) -> tuple[Qc, tuple[Observation, ...]]:
    """What two runs agree on; where they do not, the criterion is unscored and the agent was unstable.

    An escalation rule that either of them shows applies.
    """
    again = {finding.criterion: finding for finding in second.findings}
    merged = tuple(_merge(finding, again[finding.criterion]) for finding in first.findings)
    unstable = tuple(
        Observation("validator", "qc", "unstable", finding.criterion)
        for finding, before in zip(merged, first.findings, strict=True)
        if finding.result == "unscored" != before.result
    )
    return Qc(merged, {**second.missed_rules, **first.missed_rules}), unstable


def _merge(first: Finding, second: Finding) -> Finding:
    if "unscored" in {first.result, second.result} or first.result == second.result:
        return first
    said = f"{first.result.replace('_', ' ')} / {second.result.replace('_', ' ')}"
    return Finding(first.criterion, first.kind, "unscored", f"two runs disagree: {said}")
