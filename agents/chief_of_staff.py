"""The chief of staff (strong tier): one pattern of failures in, one proposal out. It proposes; people decide.

1. The question: its instruction and what the failing agent reads are stable; the pattern is a brief. Whatever comes out
   of tickets stands in a fence.
2. The answer: one kind, a reason, questions or edits, in a closed form.
3. What contradicts itself, or edits that may not be, is asked for once more and then given up.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

from agents.answer import Failed, InvalidAnswer, answered, closed_object, parse
from agents.context import READ_BY, RULES, numbered
from agents.context_lint import PREFIX_TOKENS, prefix_tokens
from agents.edit_lint import hostile, problems, text_problems
from agents.edits import Edit, Operation
from agents.observation import Observation, describe
from agents.prompt import FENCE, neutralise, visible
from agents.question import Question, Turn, reply_key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from agents.context import Context
    from agents.observation import Code, Direction
    from agents.question import Agent, Ask, NonceFor
    from agents.ticket import Revision

Kind = Literal["more_context", "rewrite", "escalation_rule", "unclear", "noise"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MAX_TOKENS = 16_000  # it thinks adaptively, and thought counts as output
WHY_CHARS = 400
MOST_QUESTIONS = 5
QUESTION_CHARS = 300
MOST_EDITS = 5
LINE_CHARS = 400  # of one line in the brief; a quote has at most twelve words

_INSTRUCTION = Path(__file__).with_name("chief_of_staff.md")


@dataclass(frozen=True)
class Sighting:
    """One observation of the pattern. `ticket` numbers the tickets of this brief from 1; `said` is the agent's word."""

    ticket: int
    code: Code
    version: str
    line: int = 0
    quote: str = ""
    said: str = ""


@dataclass(frozen=True)
class LabelBeside:
    """What a person decided about one criterion, or about the `verdict`, beside what the machine said."""

    ticket: int
    criterion: str
    person: str
    machine: str


@dataclass(frozen=True)
class Earlier:
    """A proposal for this pattern that a person rejected."""

    kind: Kind
    why: str
    reason: str
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True)
class Brief:
    """A pattern as the chief of staff is told of it. `rate` is failures in 100 runs, None where nothing was counted."""

    agent: Agent
    code: Code
    subject: str
    direction: Direction
    sightings: tuple[Sighting, ...]
    tickets: int
    requesters: int
    rate: float | None = None
    labels: tuple[LabelBeside, ...] = ()
    rejected: tuple[Earlier, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """What the chief of staff advises. Either edits or questions or neither, as the kind says."""

    kind: Kind
    why: str
    questions: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()


class _Edit(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    operation: Operation
    file: str
    item: str
    title: str
    text: str


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    kind: Kind
    why: str
    questions: list[str]
    edits: list[_Edit]


@cache
def instruction() -> str:
    """What the chief of staff is told of its work; a file of the package."""
    return _INSTRUCTION.read_text("utf-8").strip()


def schema(agent: str) -> dict[str, Any]:
    """The closed JSON schema of the answer about one agent."""
    edit = closed_object(
        operation={"type": "string", "enum": list(get_args(Operation))},
        file={"type": "string", "enum": list(READ_BY[agent])},
        item={"type": "string"},
        title={"type": "string"},
        text={"type": "string"},
    )
    return closed_object(
        kind={"type": "string", "enum": list(KINDS)},
        why={"type": "string"},
        questions={"type": "array", "items": {"type": "string"}},
        edits={"type": "array", "items": edit},
    )


def question(brief: Brief, context: Context, *, model: str, nonce_for: NonceFor, repetition: int = 0) -> Question:
    draft = Question(
        agent="chief_of_staff",
        purpose="propose",
        repetition=repetition,
        revision_hash=brief_hash(brief, context),
        agent_hash=hashlib.sha256(instruction().encode()).hexdigest(),
        model=model,
        schema=schema(brief.agent),
        system=(instruction(), f"# What {brief.agent} reads\n\n{numbered(context, brief.agent)}"),
        turns=(),
        max_tokens=MAX_TOKENS,
    )
    return replace(draft, turns=(Turn("user", "\n\n".join(_told(brief, context, nonce_for(draft.key)))),))


def brief_hash(brief: Brief, context: Context) -> str:
    """Equal for equal briefs under texts that read alike for the failing agent."""
    return reply_key(brief=json.dumps(asdict(brief), sort_keys=True), context=context.agent_hash(brief.agent))


def propose(  # noqa: PLR0913  what is asked has these parts
    brief: Brief,
    context: Context,
    *,
    tickets: Sequence[Revision],
    names: Collection[str],
    ask: Ask,
    model: str,
    nonce_for: NonceFor,
    repetition: int = 0,
) -> tuple[Proposal | Failed, tuple[Observation, ...]]:
    """A proposal that may be tried, or why there is none. `tickets` are all those that the brief is about."""
    asked = question(brief, context, model=model, nonce_for=nonce_for, repetition=repetition)
    read = partial(_read, agent=brief.agent, context=context, tickets=tickets, names=names)
    answer = answered(ask, asked, read)
    if isinstance(answer, Failed):
        return answer, (Observation("validator", "chief_of_staff", answer.code),)
    return answer, ()


def _told(brief: Brief, context: Context, nonce: str) -> Iterator[str]:
    yield _pattern(brief)
    yield f"# What was seen\n\n<{FENCE} {nonce}>\n" + "\n".join(_seen(brief.sightings)) + f"\n</{FENCE} {nonce}>"
    labels = [f"- ticket {one.ticket}, {one.criterion}: {one.machine} / {one.person}" for one in brief.labels]
    yield _section("What people decided about these tickets (machine / person)", labels, "nothing yet")
    rejected = [line for earlier in brief.rejected for line in _rejected(earlier)]
    yield _section("What was proposed for this pattern and rejected", rejected, "nothing yet")
    left = PREFIX_TOKENS - prefix_tokens(context, brief.agent)
    yield f"About {max(left, 0):,} tokens are left for {brief.agent} (about three characters each). What now?"


def _pattern(brief: Brief) -> str:
    rate = "not counted" if brief.rate is None else f"{brief.rate:.1f}"
    return (
        f"# The pattern\n\nagent: {brief.agent}\nfailure: {brief.code} ({describe(brief.code, brief.direction)})\n"
        f"about: {_line(brief.subject) or 'the whole answer'}\n"
        f"tickets: {brief.tickets}\nrequesters: {brief.requesters}\nfailures in 100 runs: {rate}"
    )


def _seen(sightings: Iterable[Sighting]) -> Iterator[str]:
    """Every line begins with our words, so that none of theirs can pass for one of ours."""
    for one in sightings:
        yield f"[ticket {one.ticket}, {one.code}, texts {one.version[:12]}]"
        if one.quote:
            yield f"quote, line {one.line}| {_line(one.quote)}"
        if one.said:
            yield f"the agent said| {_line(one.said)}"


def _rejected(earlier: Earlier) -> Iterator[str]:
    yield f"- {earlier.kind}: {_line(earlier.why)}"
    yield from (f"  {edit.operation} {edit.file} {edit.item}: {_line(edit.text)}" for edit in earlier.edits)
    yield f"  rejected because: {_line(earlier.reason)}"


def _section(title: str, lines: Sequence[str], none: str) -> str:
    return f"# {title}\n\n" + ("\n".join(lines) if lines else none)


def _line(text: str) -> str:
    """One line that nobody can mistake for a fence, without what cannot be seen."""
    return neutralise(" ".join(text.split()))[:LINE_CHARS]


def _read(
    text: str, *, agent: Agent, context: Context, tickets: Sequence[Revision], names: Collection[str]
) -> Proposal:
    """Raises InvalidAnswer where the answer is not in the form, contradicts itself, or may not be proposed."""
    answer = parse(text, _Answer)
    proposal = Proposal(
        kind=answer.kind,
        why=_flat(answer.why)[:WHY_CHARS],
        questions=tuple(asked for asked in map(_flat, answer.questions) if asked),
        edits=tuple(Edit(e.operation, e.file, e.item, _flat(e.title), _cleaned(e.text)) for e in answer.edits),
    )
    if wrong := _inconsistent(proposal, agent):
        raise InvalidAnswer(wrong)
    forbidden = hostile(context, tickets, names)
    for part, words in (("why", (proposal.why,)), ("questions", proposal.questions)):
        for problem in (problem for said in words for problem in text_problems(said, forbidden)):
            raise InvalidAnswer(f"{part} {problem}")
    for problem in problems(proposal.edits, base=context, tickets=tickets, names=names):
        raise InvalidAnswer(problem)
    return proposal


def _flat(text: str) -> str:
    return " ".join(visible(" ".join(text.split())).split())


def _cleaned(text: str) -> str:
    """Line by line without what cannot be seen: an edit is read by people before it counts."""
    return "\n".join(visible(line) for line in text.splitlines()).strip("\n")


def _inconsistent(proposal: Proposal, agent: Agent) -> str:
    """What in the answer does not go together; empty where it does."""
    if not proposal.why:
        return "why: say in one or two sentences why"
    if len(proposal.edits) > MOST_EDITS:
        return f"edits: give at most {MOST_EDITS}"
    if any(edit.file not in READ_BY[agent] for edit in proposal.edits):
        return f"edits: {agent} reads only {', '.join(READ_BY[agent])}"
    if any(len(asked) > QUESTION_CHARS for asked in proposal.questions):
        return f"questions: each has at most {QUESTION_CHARS} characters"
    return _FORMS[proposal.kind](proposal)


def _no_questions(proposal: Proposal) -> str:
    return f"questions: only unclear asks; {proposal.kind} has none" if proposal.questions else ""


def _more_context(proposal: Proposal) -> str:
    if not proposal.edits or any(edit.operation != "add" for edit in proposal.edits):
        return "edits: more_context adds at least one item and changes no old one; rewrite does that"
    return _no_questions(proposal)


def _rewrite(proposal: Proposal) -> str:
    if all(edit.operation == "add" for edit in proposal.edits):
        return "edits: rewrite updates or retires at least one item; more_context only adds"
    return _no_questions(proposal)


def _escalation_rule(proposal: Proposal) -> str:
    if not proposal.edits or any(edit.file != RULES for edit in proposal.edits):
        return f"edits: escalation_rule has at least one edit, and all of them in {RULES}"
    return _no_questions(proposal)


def _unclear(proposal: Proposal) -> str:
    if not 1 <= len(proposal.questions) <= MOST_QUESTIONS:
        return f"questions: unclear asks one to {MOST_QUESTIONS}"
    return "edits: unclear edits nothing" if proposal.edits else ""


def _noise(proposal: Proposal) -> str:
    return "edits: noise edits nothing" if proposal.edits else _no_questions(proposal)


_FORMS: Mapping[Kind, Callable[[Proposal], str]] = {
    "more_context": _more_context,
    "rewrite": _rewrite,
    "escalation_rule": _escalation_rule,
    "unclear": _unclear,
    "noise": _noise,
}
