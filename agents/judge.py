"""One revision -> one judgement. The whole flow, without database, clock or network.

1. Deterministic checks.
2. Too long for the model, or no model: judged criteria stay unscored.
3. Escalation rules: those that code finds by its lists apply, and those that triage finds, where it has not looked yet.
   Where it gives no usable answer, a person decides.
4. QC; every quote verified. Checks settle the criteria that name them.
5. Where text in the ticket reads like instructions: QC without that text; another verdict means a person decides.
6. Else a second QC run with the criteria in another order, where the first alone should not decide; disagreement
   unscores, and no usable answer means that a person decides. And the strong model, if there is one, where nothing but
   unscored criteria keeps it from a verdict.
7. The verdict, from findings and escalations alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from agents import qc as qc_agent
from agents import triage as triage_agent
from agents.answer import Failed
from agents.checks import run_checks
from agents.gateway import CallFailed
from agents.instructions import instruction_spans, without
from agents.mechanical import rule_hits
from agents.observation import Observation
from agents.prompt import fenced
from agents.qc import Qc
from agents.tokens import token_estimate
from agents.triage import RuleHit, Triage
from agents.verdict import Finding, Verdict, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agents.context import Context, Rubric
    from agents.question import Ask, NonceFor, Purpose
    from agents.ticket import Line, Revision
    from agents.verdict import Span

ENGINE_VERSION = 6  # raise it when prompt, checks or verdict code change what a verdict can be
TOKEN_LIMIT = 30_000  # of one rendered ticket; beyond it checks run and a person decides
LOCAL_TOKEN_LIMIT = 8_000
NEAR_THE_MARK = 5.0  # points
SAMPLED_SHARE = 50  # one in fifty tickets gets a second run whatever the first said
SECOND_SHARE = 0.2  # at most this share of tickets gets a second run; whoever calls the judge keeps to it


Route = Literal["checks", "worker", "second", "masked", "strong"]  # the last step that a ticket went through


@dataclass(frozen=True)
class Strong:
    """The strong tier: asked only where the worker abstained."""

    model: str
    ask: Ask


@dataclass(frozen=True)
class Panel:
    """Who judges and under what limits. `allow_second` is asked once per ticket that deserves a second run.

    A replay or an evaluation is never judged a second time: what counts there is each model's own first word. A
    replay's runs are numbered, because a reply is kept by its number.
    """

    model: str
    ask: Ask
    nonce_for: NonceFor
    token_limit: int = TOKEN_LIMIT
    allow_second: Callable[[], bool] = field(default=lambda: True)
    purpose: Literal["review", "replay", "eval"] = "review"
    repetition: int = 0
    strong: Strong | None = None


@dataclass(frozen=True)
class Judgement:
    """Everything that judging one revision brought, ready to be stored or shown.

    `hostile`: a model was, or may have been, led by what the ticket says, and so a person decides. `strong` is the
    strong model's id where it was asked.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    triage: Triage | None
    observations: tuple[Observation, ...] = ()
    rules: tuple[RuleHit, ...] = ()
    missed_by_triage: frozenset[str] = frozenset()
    second_run: bool = False
    route: Route = "checks"
    hostile: bool = False
    strong: str = ""


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
    by_code = rule_hits(revision, context)
    if panel is None:
        return _unjudged(checked, context, "no model is configured", triage=triage, by_code=by_code)
    if why := too_long(revision, panel.token_limit):
        return _unjudged(checked, context, why, triage=triage, by_code=by_code, escalation=why)
    observations: tuple[Observation, ...] = ()
    answer: Triage | Failed | None = triage
    if answer is None:
        answer, observations = _triaged(revision, context, panel)
    judgement = _Judging(revision, context, panel, checked, answer, by_code).judgement()
    return replace(judgement, observations=(*observations, *judgement.observations))


def too_long(revision: Revision, limit: int, *, lines: Sequence[Line] | None = None) -> str:
    """Why no model is asked about this revision, or about some lines of it; empty where that is short enough."""
    tokens = token_estimate(fenced(revision, nonce="", lines=revision.lines if lines is None else lines))
    return f"too long to judge: about {tokens:,} tokens, the limit is {limit:,}" if tokens > limit else ""


def _triaged(revision: Revision, context: Context, panel: Panel) -> tuple[Triage | Failed, tuple[Observation, ...]]:
    return triage_agent.triage(
        revision,
        context,
        ask=panel.ask,
        model=panel.model,
        nonce_for=panel.nonce_for,
        purpose=panel.purpose,
        repetition=panel.repetition,
    )


@dataclass(frozen=True)
class _Judging:
    """The flow from QC on. Where triage failed a person decides, whatever QC says: nobody has judged the intake."""

    revision: Revision
    context: Context
    panel: Panel
    checked: tuple[Finding, ...]
    triaged: Triage | Failed
    by_code: tuple[RuleHit, ...]

    @property
    def triage(self) -> Triage | None:
        return None if isinstance(self.triaged, Failed) else self.triaged

    def judgement(self) -> Judgement:
        answer, seen = self._qc(self.panel.purpose)
        first = self._concluded(answer, seen)
        if self.panel.purpose != "review":
            return first
        if spans := instruction_spans(self.revision.lines):
            return first if first.verdict.outcome == "escalate" else self._without(spans, first)
        return self._by_strong(self._again(answer, first))

    def _without(self, spans: Sequence[Span], first: Judgement) -> Judgement:
        """The first judgement stands where it is the same without the text that reads like instructions."""
        lines = without(self.revision.lines, spans)
        answer, seen = self._qc("masked", lines=lines)
        bare = self._concluded(answer, seen)
        judgement = replace(first, observations=(*first.observations, *seen), route="masked")
        if bare.verdict.outcome == first.verdict.outcome:
            return judgement
        where = f"hostile text from line {spans[0].line} on"
        if isinstance(answer, Failed):
            return self._escalated(judgement, f"{where}: it could not be judged without it ({answer.detail})")
        why = f"{where}: the verdict is {first.verdict.outcome} with it and {bare.verdict.outcome} without it"
        swayed = Observation("validator", "qc", "swayed")
        return self._escalated(replace(judgement, observations=(*judgement.observations, swayed)), why)

    def _escalated(self, judgement: Judgement, why: str, *, hostile: bool = True) -> Judgement:
        reasons = [why, *_escalations(judgement.rules, self.context)]
        verdict = decide(judgement.findings, self.context.rubric, escalations=reasons)
        return replace(judgement, verdict=verdict, hostile=hostile)

    def _again(self, answer: Qc | Failed, first: Judgement) -> Judgement:
        """What two runs agree on, where the first alone should not decide."""
        if isinstance(answer, Failed) or not _deserves_second(self.revision, first, self.context.rubric):
            return first
        if not self.panel.allow_second():
            return first
        second, seen = self._qc("second")
        both = (*first.observations, *seen)
        if isinstance(second, Failed):
            return self._without_second(second, replace(first, observations=both, second_run=True, route="second"))
        agreed, unstable = _agreed(answer, second)
        return replace(self._concluded(agreed, (*both, *unstable)), second_run=True, route="second")

    def _without_second(self, second: Failed, first: Judgement) -> Judgement:
        """A person decides what the first run alone should not; where only the sample asked twice, it stands."""
        if second.code == "leaked":
            return self._escalated(first, second.detail)
        if not _doubtful(first, self.context.rubric):
            return first
        return self._escalated(first, f"the second run gave no usable answer: {second.detail}", hostile=False)

    def _by_strong(self, worker: Judgement) -> Judgement:
        """The strong model's word for what the worker left unscored, where that alone keeps it from a verdict.

        Where it gives no answer, the ticket goes to the person to whom it was going anyway.
        """
        strong = self.panel.strong
        for_a_person = worker.hostile or worker.rules or worker.triage is None
        left = any(finding.result == "unscored" for finding in worker.findings)
        if strong is None or worker.verdict.outcome != "escalate" or for_a_person or not left:
            return worker
        try:
            answer, seen = self._qc("strong", by=strong)
        except CallFailed as failure:
            if failure.code == "over_budget":  # then the ticket waits, as for any other call
                raise
            return worker
        asked = replace(worker, observations=(*worker.observations, *seen), route="strong", strong=strong.model)
        if isinstance(answer, Failed):
            return asked
        filled = Qc(_filled(worker.findings, answer.findings), answer.missed_rules)
        judgement = self._concluded(filled, asked.observations)
        return replace(judgement, second_run=worker.second_run, route="strong", strong=strong.model)

    def _qc(
        self, purpose: Purpose, *, by: Strong | None = None, lines: Sequence[Line] | None = None
    ) -> tuple[Qc | Failed, tuple[Observation, ...]]:
        return qc_agent.qc(
            self.revision,
            self.context,
            ask=by.ask if by else self.panel.ask,
            model=by.model if by else self.panel.model,
            nonce_for=self.panel.nonce_for,
            triage=self.triage,
            purpose=purpose,
            repetition=self.panel.repetition,
            lines=lines,
        )

    def _concluded(self, answer: Qc | Failed, observations: tuple[Observation, ...]) -> Judgement:
        said = Qc(_unscored(self.context, answer.detail), {}) if isinstance(answer, Failed) else answer
        failed = [each for each in (self.triaged, answer) if isinstance(each, Failed)]
        leaked = [each.detail for each in failed if each.code == "leaked"]
        findings = settle(said.findings, self.checked, self.context.rubric)
        of_triage = self.triage.rules if self.triage else ()
        missed = (RuleHit(rule, evidence) for rule, evidence in said.missed_rules.items())
        rules = (*self.by_code, *of_triage, *missed)
        silent = [f"triage gave no usable answer: {self.triaged.detail}"] if isinstance(self.triaged, Failed) else []
        reasons = [*(leaked[:1] or silent), *_escalations(rules, self.context)]
        return Judgement(
            verdict=decide(findings, self.context.rubric, escalations=reasons),
            findings=findings,
            triage=self.triage,
            observations=observations,
            rules=rules,
            missed_by_triage=frozenset(said.missed_rules),
            route="worker",
            hostile=bool(leaked),
        )


def _unjudged(  # noqa: PLR0913  what is known without a model
    checked: tuple[Finding, ...],
    context: Context,
    why: str,
    *,
    triage: Triage | None,
    by_code: tuple[RuleHit, ...],
    escalation: str = "",
) -> Judgement:
    """What the checks, code and triage alone allow to say; every judged criterion that no check settles is unscored."""
    findings = settle(_unscored(context, why), checked, context.rubric)
    rules = (*by_code, *(triage.rules if triage else ()))
    reasons = [*([escalation] if escalation else []), *_escalations(rules, context)]
    return Judgement(decide(findings, context.rubric, escalations=reasons), findings, triage, rules=rules)


def _unscored(context: Context, why: str) -> tuple[Finding, ...]:
    return tuple(Finding(criterion.id, "judged", "unscored", why) for criterion in context.rubric.judged)


def settle(judged: tuple[Finding, ...], checked: tuple[Finding, ...], rubric: Rubric) -> tuple[Finding, ...]:
    """All findings in the rubric's order; a criterion whose named check is not met is not met, whoever said what."""
    results = {finding.criterion: finding for finding in (*judged, *checked)}
    for criterion in rubric.judged:
        failed = [results[name] for name in criterion.settled_by if results[name].result == "not_met"]
        if failed:
            results[criterion.id] = replace(failed[0], criterion=criterion.id)
    return tuple(results[criterion.id] for criterion in rubric.criteria)


def _escalations(rules: tuple[RuleHit, ...], context: Context) -> list[str]:
    """One reason for each rule, with every place that shows it and who found it."""
    places: dict[str, list[str]] = {}
    for hit in rules:
        by = "by code" if hit.by == "code" else "by the agent"
        places.setdefault(hit.rule, []).append(f"line {hit.evidence.line}, {by}")
    titled = [(rule.title, places[rule.id]) for rule in context.rules if rule.id in places]
    return [f"escalation rule: {title} ({'; '.join(found)})" for title, found in titled]


def _deserves_second(revision: Revision, first: Judgement, rubric: Rubric) -> bool:
    """Where the first is in doubt; and a fixed sample of tickets."""
    return int(revision.hash[:8], 16) % SAMPLED_SHARE == 0 or _doubtful(first, rubric)


def _doubtful(first: Judgement, rubric: Rubric) -> bool:
    """Near the mark, or a critical criterion not fully met by the model's word alone.

    Not where nothing that a second run says could change the verdict: it only takes scores away, so what goes to a
    person stays there, and so does the fail of a critical check.
    """
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


def _filled(worker: tuple[Finding, ...], strong: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The worker's findings, and the strong model's where those are unscored."""
    by_strong = {finding.criterion: finding for finding in strong}
    return tuple(
        by_strong.get(finding.criterion, finding) if finding.result == "unscored" else finding for finding in worker
    )


def _merge(first: Finding, second: Finding) -> Finding:
    if "unscored" in {first.result, second.result} or first.result == second.result:
        return first
    said = f"{first.result.replace('_', ' ')} / {second.result.replace('_', ' ')}"
    return Finding(first.criterion, first.kind, "unscored", f"two runs disagree: {said}")
