"""The triage agent: what kind of ticket it is, what intake captured, which escalation rules apply, what to ask.

It sees subject, fields and description, never the thread, so that it judges what the first line had to work with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from agents.answer import Failed, InvalidAnswer, answered, closed_object, parse
from agents.evidence import verify
from agents.observation import Observation
from agents.prompt import fenced, read_hash, system_blocks, visible
from agents.question import Ask, NonceFor, Purpose, Question, Turn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agents.context import Context
    from agents.ticket import Revision
    from agents.verdict import Evidence

INTAKE_FIELDS = ("problem", "affected", "impact", "contact")
MAX_TOKENS = 600  # an answer is about 150; more than this is rambling
MOST_QUESTIONS = 4
QUESTION_CHARS = 200

FieldState = Literal["present", "missing", "unscored"]

ANSWER_FORM = """# Form of the answer
One JSON object. category and priority: one id each. problem, affected, impact, contact: the line number that shows it
and 3 to 12 words copied exactly from that line; line 0 and an empty quote where it is missing. rules: each escalation
rule that applies, with its line and quote; most tickets have none. ask: one short question for each missing field,
nothing else. Be brief."""


@dataclass(frozen=True)
class IntakeField:
    state: FieldState
    evidence: Evidence | None = None


@dataclass(frozen=True)
class RuleHit:
    """An escalation rule that applies, shown by verified evidence."""

    rule: str
    evidence: Evidence


@dataclass(frozen=True)
class Triage:
    """Triage's verified answer. `ask` holds one question for each thing that intake should have captured."""

    category: str
    priority: str
    fields: Mapping[str, IntakeField]
    rules: tuple[RuleHit, ...]
    ask: tuple[str, ...]


class _Cite(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    line: int
    quote: str


class _Rule(_Cite):
    rule: str


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    category: str
    priority: str
    problem: _Cite
    affected: _Cite
    impact: _Cite
    contact: _Cite
    rules: list[_Rule]
    ask: list[str]


def schema(context: Context) -> dict[str, Any]:
    """The closed JSON schema of the answer; the same bytes for the same context, because vendors cache it."""
    cite = {"line": {"type": "integer"}, "quote": {"type": "string"}}
    rule = {"rule": {"type": "string", "enum": [rule.id for rule in context.rules]}, **cite}
    return closed_object(
        category={"type": "string", "enum": list(context.categories)},
        priority={"type": "string", "enum": list(context.priorities)},
        **{name: closed_object(**cite) for name in INTAKE_FIELDS},
        rules={"type": "array", "items": closed_object(**rule)},
        ask={"type": "array", "items": {"type": "string"}},
    )


def question(  # noqa: PLR0913  what is asked has these parts
    revision: Revision,
    context: Context,
    *,
    model: str,
    nonce_for: NonceFor,
    purpose: Purpose = "review",
    repetition: int = 0,
) -> Question:
    form = schema(context)
    draft = Question(
        agent="triage",
        purpose=purpose,
        repetition=repetition,
        revision_hash=revision.intake_hash,
        agent_hash=read_hash(context, "triage", purpose),
        model=model,
        schema=form,
        system=(*system_blocks(context, "triage"), ANSWER_FORM),
        turns=(),
        max_tokens=MAX_TOKENS,
    )
    ticket = fenced(revision, nonce=nonce_for(draft.key), lines=revision.intake_lines)
    return replace(draft, turns=(Turn("user", f"{ticket}\n\nTriage this ticket."),))


def triage(  # noqa: PLR0913  what is asked has these parts
    revision: Revision,
    context: Context,
    *,
    ask: Ask,
    model: str,
    nonce_for: NonceFor,
    purpose: Purpose = "review",
    repetition: int = 0,
) -> tuple[Triage | Failed, tuple[Observation, ...]]:
    """Triage of one intake, verified, and what went wrong on the way. Asks once, or twice after a bad answer."""
    asked = question(revision, context, model=model, nonce_for=nonce_for, purpose=purpose, repetition=repetition)
    answer = answered(ask, asked, partial(_read, context=context))
    if isinstance(answer, Failed):
        return answer, (Observation("validator", "triage", answer.code),)
    return _verified(answer, revision)


def _read(text: str, *, context: Context) -> _Answer:
    answer = parse(text, _Answer)
    known = {"category": context.categories, "priority": context.priorities}
    for name, allowed in known.items():
        if getattr(answer, name) not in allowed:
            raise InvalidAnswer(f"{name} must be one of {', '.join(allowed)}")
    rules = [rule.id for rule in context.rules]
    if any(hit.rule not in rules for hit in answer.rules):
        raise InvalidAnswer(f"rules: rule must be one of {', '.join(rules)}")
    return answer


def _verified(answer: _Answer, revision: Revision) -> tuple[Triage, tuple[Observation, ...]]:
    fields = {name: _field(getattr(answer, name), revision) for name in INTAKE_FIELDS}
    missed = [name for name, state in fields.items() if state.state == "unscored"]
    found: dict[str, Evidence | None] = {}
    for hit in answer.rules:  # a rule may be named twice: one quote that is there is enough
        found[hit.rule] = found.get(hit.rule) or verify(revision.intake_lines, line=hit.line, quote=hit.quote)
    missed += [rule for rule, evidence in found.items() if evidence is None]
    result = Triage(
        category=answer.category,
        priority=answer.priority,
        fields=fields,
        rules=tuple(RuleHit(rule, evidence) for rule, evidence in found.items() if evidence is not None),
        ask=_questions(answer.ask),
    )
    return result, tuple(Observation("validator", "triage", "quote_not_found", subject) for subject in missed)


def _field(cite: _Cite, revision: Revision) -> IntakeField:
    if cite.line <= 0:
        return IntakeField("missing")
    evidence = verify(revision.intake_lines, line=cite.line, quote=cite.quote)
    return IntakeField("present", evidence) if evidence else IntakeField("unscored")


def _questions(asked: Sequence[str]) -> tuple[str, ...]:
    cleaned = (" ".join(visible(question).split())[:QUESTION_CHARS] for question in asked)
    return tuple(question for question in cleaned if question)[:MOST_QUESTIONS]
