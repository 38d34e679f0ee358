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
from typing import TYPE_CHECKING

from agents import qc as qc_agent
from agents import triage as triage_agent
from agents.answer import Failed
from agents.checks import run_checks
from agents.observation import Observation
from agents.prompt import fenced
from agents.tokens import token_estimate
from agents.triage import RuleHit, Triage
from agents.verdict import Finding, Verdict, decide, score

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.context import Context, Rubric
    from agents.qc import Qc
    from agents.question import Ask, NonceFor
    from agents.ticket import Revision

ENGINE_VERSION = 1  # raise it when prompt, checks or verdict code change what a verdict can be
TOKEN_LIMIT = 30_000  # of one rendered ticket; beyond it checks run and a person decides
LOCAL_TOKEN_LIMIT = 8_000
NEAR_THE_MARK = 5.0  # points
SAMPLED_SHARE = 50  # one in fifty tickets gets a second run whatever the first said


@dataclass(frozen=True)
class Panel:
    """Who judges and under what limits. `allow_second` is asked once per ticket that deserves a second run."""

    model: str
    ask: Ask
    nonce_for: NonceFor
    token_limit: int = TOKEN_LIMIT
    allow_second: Callable[[], bool] = field(default=lambda: True)


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
    return _judged(revision, context, checked=checked, panel=panel, triage=triage, observations=observations)


def too_long(revision: Revision, limit: int) -> str:
    """Why no model is asked about this revision; empty where it is short enough."""
    tokens = token_estimate(fenced(revision, nonce="", lines=revision.lines))
    return f"too long to judge: about {tokens:,} tokens, the limit is {limit:,}" if tokens > limit else ""


def _triaged(revision: Revision, context: Context, panel: Panel) -> tuple[Triage | None, tuple[Observation, ...]]:
    answer, observations = triage_agent.triage(
        revision, context, ask=panel.ask, model=panel.model, nonce_for=panel.nonce_for
    )
    return (None if isinstance(answer, Failed) else answer), observations


def _judged(  # noqa: PLR0913  the state of the flow after triage
    revision: Revision,
    context: Context,
    *,
    checked: tuple[Finding, ...],
    panel: Panel,
    triage: Triage | None,
    observations: tuple[Observation, ...],
) -> Judgement:
    rubric = context.rubric
    answer, seen = qc_agent.qc(
        revision, context, ask=panel.ask, model=panel.model, nonce_for=panel.nonce_for, triage=triage
    )
    observations += seen
    if isinstance(answer, Failed):
        return replace(_unjudged(checked, context, answer.detail, triage=triage), observations=observations)
    rules = _rules(triage, answer)
    findings = settle(answer.findings, checked, rubric)
    second = _deserves_second(revision, findings, answer.findings, rubric) and panel.allow_second()
    if second:
        findings, more = _agreed(revision, context, panel, triage=triage, first=answer, checked=checked)
        observations += more
    return Judgement(
        verdict=decide(findings, rubric, escalations=_escalations(rules, context)),
        findings=findings,
        triage=triage,
        observations=observations,
        rules=rules,
        missed_by_triage=frozenset(answer.missed_rules),
        second_run=second,
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


def _rules(triage: Triage | None, answer: Qc) -> tuple[RuleHit, ...]:
    found = {hit.rule: hit for hit in (triage.rules if triage else ())}
    for rule, evidence in answer.missed_rules.items():
        found.setdefault(rule, RuleHit(rule, evidence))
    return tuple(found.values())


def _escalations(rules: tuple[RuleHit, ...], context: Context) -> list[str]:
    titles = {rule.id: rule.title for rule in context.rules}
    return [f"escalation rule: {titles[hit.rule]} (line {hit.evidence.line})" for hit in rules if hit.rule in titles]


def _deserves_second(
    revision: Revision, findings: tuple[Finding, ...], said: tuple[Finding, ...], rubric: Rubric
) -> bool:
    """Near the mark, a critical criterion not fully met by the model's word alone, or a fixed sample of tickets."""
    model_alone = {finding.criterion for finding in said} & {f.criterion for f in findings if f.kind == "judged"}
    critical = any(
        rubric[f.criterion].critical and f.result in {"partly", "not_met"}
        for f in findings
        if f.criterion in model_alone
    )
    value = score(findings, rubric)
    near = value is not None and abs(value - rubric.pass_mark) <= NEAR_THE_MARK
    sampled = int(revision.hash[:8], 16) % SAMPLED_SHARE == 0
    return critical or near or sampled


def _agreed(  # noqa: PLR0913  the state of the flow after the first run
    revision: Revision,
    context: Context,
    panel: Panel,
    *,
    triage: Triage | None,
    first: Qc,
    checked: tuple[Finding, ...],
) -> tuple[tuple[Finding, ...], tuple[Observation, ...]]:
    """Findings on which two runs agree; where they do not, the criterion is unscored and the agent was unstable."""
    answer, seen = qc_agent.qc(
        revision,
        context,
        ask=panel.ask,
        model=panel.model,
        nonce_for=panel.nonce_for,
        triage=triage,
        purpose="second",
    )
    if isinstance(answer, Failed):
        return settle(first.findings, checked, context.rubric), seen
    second = {finding.criterion: finding for finding in answer.findings}
    merged = tuple(_merge(finding, second[finding.criterion]) for finding in first.findings)
    unstable = tuple(
        Observation("validator", "qc", "unstable", finding.criterion)
        for finding, before in zip(merged, first.findings, strict=True)
        if finding.result == "unscored" != before.result
    )
    return settle(merged, checked, context.rubric), (*seen, *unstable)


def _merge(first: Finding, second: Finding) -> Finding:
    if "unscored" in {first.result, second.result} or first.result == second.result:
        return first
    said = f"{first.result.replace('_', ' ')} / {second.result.replace('_', ' ')}"
    return Finding(first.criterion, first.kind, "unscored", f"two runs disagree: {said}")
