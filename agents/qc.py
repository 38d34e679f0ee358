"""The qc agent: one finding with evidence for each judged criterion, and what triage should have seen.

The model answers small questions; score, verdict and escalation are computed elsewhere from verified findings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from agents.answer import Failed, InvalidAnswer, answered, closed_object, parse
from agents.evidence import verify
from agents.observation import TRIAGE_CODES, Code, Observation
from agents.prompt import fenced, read_hash, system_blocks, visible
from agents.question import Ask, NonceFor, Purpose, Question, Turn
from agents.triage import INTAKE_FIELDS, Triage
from agents.verdict import Evidence, Finding, Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agents.context import Context, Criterion
    from agents.ticket import Line, Revision

MAX_TOKENS = 1_500  # an answer is about 350; more than this is rambling
REASON_CHARS = 240
MOST_CITED_LINES = 3
CRITERIA_IN_REVERSE: frozenset[Purpose] = frozenset({"second"})

Said = Literal["met", "partly", "not_met", "absent", "not_applicable"]
SAID: tuple[Said, ...] = ("met", "partly", "not_met", "absent", "not_applicable")

ANSWER_FORM = """# Form of the answer
One JSON object. findings: for each criterion result, lines, quote, reason.
- lines: the numbers of one or two lines that show it; [] only for absent and not_applicable.
- quote: for not_met and partly, and for a critical criterion that is met, 3 to 12 words copied exactly from the first
of these lines; otherwise an empty string.
- reason: one short sentence, only for partly, not_met and absent; otherwise an empty string.
triage: what triage got wrong, each with code, subject (intake field, category, priority or rule id), line and quote;
usually []. Be brief."""


@dataclass(frozen=True)
class Qc:
    """QC's verified answer: findings in the rubric's order, and the escalation rules that only it says apply."""

    findings: tuple[Finding, ...]
    missed_rules: Mapping[str, Evidence]


class _Finding(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    result: Said
    lines: list[int]
    quote: str
    reason: str


class _TriageRemark(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    code: Literal["missed_information", "wrong_category", "wrong_priority", "missed_escalation"]
    subject: str
    line: int
    quote: str


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    findings: dict[str, _Finding]
    triage: list[_TriageRemark]


def schema(context: Context, *, reverse: bool = False) -> dict[str, Any]:
    """The closed JSON schema of the answer. A second run asks for the criteria from last to first."""
    finding = closed_object(
        result={"type": "string", "enum": list(SAID)},
        lines={"type": "array", "items": {"type": "integer"}},
        quote={"type": "string"},
        reason={"type": "string"},
    )
    remark = closed_object(
        code={"type": "string", "enum": list(TRIAGE_CODES)},
        subject={"type": "string", "enum": _subjects(context)},
        line={"type": "integer"},
        quote={"type": "string"},
    )
    ids = [criterion.id for criterion in context.rubric.judged]
    findings = closed_object(**{name: {"$ref": "#/$defs/finding"} for name in (reversed(ids) if reverse else ids)})
    whole = closed_object(findings=findings, triage={"type": "array", "items": remark})
    return {**whole, "$defs": {"finding": finding}}


def _subjects(context: Context) -> list[str]:
    """What triage can have got wrong."""
    return [*INTAKE_FIELDS, "category", "priority", *(rule.id for rule in context.rules)]


def question(  # noqa: PLR0913  what is asked has these parts
    revision: Revision,
    context: Context,
    *,
    model: str,
    nonce_for: NonceFor,
    triage: Triage | None,
    purpose: Purpose = "review",
    repetition: int = 0,
) -> Question:
    draft = Question(
        agent="qc",
        purpose=purpose,
        repetition=repetition,
        revision_hash=revision.hash,
        agent_hash=read_hash(context, "qc", purpose),
        model=model,
        schema=schema(context, reverse=purpose in CRITERIA_IN_REVERSE),
        system=(*system_blocks(context, "qc"), ANSWER_FORM),
        turns=(),
        max_tokens=MAX_TOKENS,
    )
    ticket = fenced(revision, nonce=nonce_for(draft.key), lines=revision.lines)
    return replace(draft, turns=(Turn("user", f"{ticket}\n\n{_what_triage_said(triage)}\n\nJudge this ticket."),))


def _what_triage_said(triage: Triage | None) -> str:
    """Ids only: triage's free words came out of the ticket and stay out of the next prompt."""
    if triage is None:
        return "Triage gave no answer."
    missing = [name for name, field in triage.fields.items() if field.state == "missing"]
    rules = [hit.rule for hit in triage.rules]
    return (
        f"Triage said: category {triage.category}, priority {triage.priority}, "
        f"missing {', '.join(missing) or 'nothing'}, escalation rules {', '.join(rules) or 'none'}."
    )


def qc(  # noqa: PLR0913  what is asked has these parts
    revision: Revision,
    context: Context,
    *,
    ask: Ask,
    model: str,
    nonce_for: NonceFor,
    triage: Triage | None,
    purpose: Purpose = "review",
    repetition: int = 0,
) -> tuple[Qc | Failed, tuple[Observation, ...]]:
    """Every judged criterion of one revision, verified, with what went wrong on the way."""
    asked = question(
        revision, context, model=model, nonce_for=nonce_for, triage=triage, purpose=purpose, repetition=repetition
    )
    answer = answered(ask, asked, partial(_read, context=context))
    if isinstance(answer, Failed):
        return answer, (Observation("validator", "qc", answer.code),)
    return _verified(answer, revision, context, triage)


def _read(text: str, *, context: Context) -> _Answer:
    answer = parse(text, _Answer)
    wanted = {criterion.id for criterion in context.rubric.judged}
    if missing := wanted - answer.findings.keys():
        raise InvalidAnswer(f"findings lacks {', '.join(sorted(missing))}")
    if unknown := answer.findings.keys() - wanted:
        raise InvalidAnswer(f"findings has {len(unknown)} criteria that were not asked for")
    if any(remark.subject not in _subjects(context) for remark in answer.triage):
        raise InvalidAnswer(f"triage: subject must be one of {', '.join(_subjects(context))}")
    return answer


def _verified(
    answer: _Answer, revision: Revision, context: Context, triage: Triage | None
) -> tuple[Qc, tuple[Observation, ...]]:
    findings = tuple(_finding(c, answer.findings[c.id], revision.lines) for c in context.rubric.judged)
    void = tuple(
        Observation("validator", "qc", "quote_not_found", finding.criterion)
        for finding in findings
        if finding.evidence_status == "void"
    )
    missed: dict[str, Evidence] = {}
    observations = list(void)
    for remark in answer.triage:
        evidence = verify(revision.lines, line=remark.line, quote=remark.quote)
        if (mistake := _mistake(remark, evidence, context)) is not None:
            observations.append(Observation("validator", "qc", mistake, f"triage.{remark.subject}"))
        elif evidence is not None and not _said_by(triage, remark):
            if remark.code == "missed_escalation":
                missed.setdefault(remark.subject, evidence)
            if triage is not None and not _shows_only_in_thread(remark, evidence, revision):
                observations.append(Observation("qc", "triage", remark.code, remark.subject, (evidence,)))
    return Qc(findings, missed), tuple(observations)


def _mistake(remark: _TriageRemark, evidence: Evidence | None, context: Context) -> Code | None:
    """What is wrong with a remark itself; such a failure is QC's own."""
    fitting = {
        "missed_information": INTAKE_FIELDS,
        "wrong_category": ("category",),
        "wrong_priority": ("priority",),
        "missed_escalation": tuple(rule.id for rule in context.rules),
    }
    if remark.subject not in fitting[remark.code]:
        return "invalid_answer"
    return "quote_not_found" if evidence is None else None


def _said_by(triage: Triage | None, remark: _TriageRemark) -> bool:
    """True where triage did say what the remark calls missed."""
    if triage is None:
        return False
    if remark.code == "missed_information":
        return triage.fields[remark.subject].state == "missing"
    return remark.code == "missed_escalation" and any(hit.rule == remark.subject for hit in triage.rules)


def _shows_only_in_thread(remark: _TriageRemark, evidence: Evidence, revision: Revision) -> bool:
    """A rule that applies by what came later is no failure of triage, which never sees the thread."""
    return remark.code == "missed_escalation" and evidence.line > len(revision.intake_lines)


def _finding(criterion: Criterion, said: _Finding, lines: Sequence[Line]) -> Finding:
    """Evidence or void: a quote that is not in the ticket, or is missing where due, leaves the criterion unscored."""
    result: Result = "not_met" if said.result == "absent" else said.result
    reason = " ".join(visible(said.reason).split())[:REASON_CHARS]
    if said.result == "not_applicable":
        return Finding(criterion.id, "judged", result, reason)
    if said.result == "absent":
        return Finding(criterion.id, "judged", result, reason, absent=True, evidence_status="absent")
    cited = _cited(said.lines, lines)
    if not said.quote.strip() and result == "met" and not criterion.critical:
        return Finding(criterion.id, "judged", result, reason, evidence=cited)
    found = verify(lines, line=said.lines[0] if said.lines else 0, quote=said.quote)
    if found is None:
        return Finding(criterion.id, "judged", "unscored", _why_void(said), evidence_status="void")
    rest = tuple(evidence for evidence in cited if evidence.line != found.line)
    return Finding(criterion.id, "judged", result, reason, evidence=(found, *rest), evidence_status="verified")


def _cited(numbers: Sequence[int], lines: Sequence[Line]) -> tuple[Evidence, ...]:
    """Cited lines that exist, once each, in the order given."""
    return tuple(Evidence(number) for number in dict.fromkeys(numbers) if 1 <= number <= len(lines))[:MOST_CITED_LINES]


def _why_void(said: _Finding) -> str:
    word = said.result.replace("_", " ")
    if not said.quote.strip():
        return f"the model said {word} without a quote"
    return f"the model said {word}, but its quote is not in the ticket"
