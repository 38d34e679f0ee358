"""From a reply's text to a value: validation, one repair turn, and the failure code where even that does not help."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from agents.gateway import CallFailed
from agents.lookalikes import skeleton
from agents.prompt import neutralise
from agents.question import Ask, Outcome, Purpose, Question, Reply, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from agents.observation import Code

T = TypeVar("T")
Shape = TypeVar("Shape", bound=BaseModel)

FAILURES: Mapping[Outcome, Code] = {
    "truncated": "truncated",
    "refused": "refusal",
    "context_exceeded": "context_exceeded",
    "unusable": "invalid_answer",
}
_REPAIR: Mapping[Purpose, Purpose] = {
    "review": "repair",
    "second": "second_repair",
    "masked": "masked_repair",
    "strong": "strong_repair",
    "replay": "replay_repair",
    "eval": "eval_repair",
    "shadow": "shadow_repair",
    "propose": "propose_repair",
    "opening": "opening_repair",
}
LONGEST_REPEATED = 20_000  # characters of an answer that is to be mended; no usual one comes near
_AGAIN: Mapping[Code, str] = {
    "truncated": "That answer was too long and was cut off. Give the whole answer again, with fewer words.",
    "invalid_answer": "No answer came. Give the whole answer, in the form that was asked for.",
}
NOTHING = "(nothing)"  # the API refuses a turn without words
LONGEST_PLACE = 80  # characters of where a mistake is
# Names there may be the model's own, and so the ticket's: outside the fence no sentence of theirs is repeated.
_NAME = re.compile(r"\w{1,40}", re.ASCII)
_NO_LETTER = re.compile(r"[\W_]+")


class InvalidAnswer(ValueError):  # noqa: N818  it names what went wrong
    """An answer that does not have the shape that was asked for; the message tells the model what to mend."""


@dataclass(frozen=True)
class Failed:
    """No usable answer after everything that is allowed was tried. `detail` is for people."""

    code: Code
    detail: str


def closed_object(**properties: object) -> dict[str, Any]:
    """A JSON schema object in which every property is required and no other is allowed."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def parse(text: str, shape: type[Shape]) -> Shape:
    """JSON text -> the given closed shape. Raises InvalidAnswer."""
    try:
        return shape.model_validate_json(text)
    except ValidationError as error:
        raise InvalidAnswer(_first_problem(error)) from None


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    parts = (str(part) for part in first["loc"])
    where = ".".join(part if _NAME.fullmatch(part) else "?" for part in parts)[:LONGEST_PLACE] or "the answer"
    return f"{where}: {first['msg']}"


def answered(ask: Ask, question: Question, read: Callable[[str], T]) -> T | Failed:
    """Asks, reads the answer, and asks once more where it cannot be read or did not come to its end.

    Not where it was refused, or did not fit: the ticket stays the same.
    """
    reply = _reply(ask, question)
    if isinstance(reply, Failed):
        remark = _AGAIN.get(reply.code)
        return _second_try(ask, question, read, shown=NOTHING, remark=remark) if remark else reply
    try:
        return read(reply.text)
    except InvalidAnswer as mistake:
        remark = f"That answer cannot be used: {mistake}. Give the whole answer again, in the form that was asked for."
        return _second_try(ask, question, read, shown=_repeated(reply.text), remark=remark)


def _second_try(ask: Ask, question: Question, read: Callable[[str], T], *, shown: str, remark: str) -> T | Failed:
    turns = (*question.turns, Turn("assistant", shown), Turn("user", remark))
    reply = _reply(ask, replace(question, purpose=_REPAIR[question.purpose], turns=turns))
    if isinstance(reply, Failed):
        return reply
    try:
        return read(reply.text)
    except InvalidAnswer as still:
        return Failed("invalid_answer", f"invalid answer, also after a second try: {still}")


def _repeated(text: str) -> str:
    """An answer as the model sees it again: it may quote the ticket, so it is made as harmless, and one line."""
    line = " ".join(text[:LONGEST_REPEATED].splitlines())
    return neutralise(line).strip() or NOTHING


def _reply(ask: Ask, question: Question) -> Reply | Failed:
    """A reply with an answer in it. A question that the server finds too long is none that may be asked again."""
    try:
        reply = ask(question)
    except CallFailed as failure:
        if failure.code != "too_large":
            raise
        return _failed("context_exceeded")
    return _no_answer(reply, question) or reply


def _no_answer(reply: Reply, question: Question) -> Failed | None:
    """Why a reply is not even read. What repeats the private words was told to by the ticket: asking again is vain."""
    if question.private and _repeats(reply.text, question.private):
        return Failed("leaked", "hostile text: the answer repeats what only an instruction in the ticket can ask for")
    return None if reply.outcome == "answered" else _failed(reply.outcome, reply.stop_reason)


def _repeats(text: str, words: Iterable[str]) -> bool:
    """True where a word stands in the text, also spaced out, backwards, in other letters or behind JSON's escapes."""
    texts = [text]
    if "\\" in text:
        with suppress(ValueError, RecursionError):
            texts.append(json.dumps(json.loads(text), ensure_ascii=False))
    said = [spelled for one in texts if (spelled := _spelled(one))]
    sought = [form for word in map(_spelled, words) for form in (word, word[::-1])]
    return any(word in one for word in sought for one in said)


def _spelled(text: str) -> str:
    """The letters and digits alone, as the eye reads them."""
    return _NO_LETTER.sub("", skeleton(text))


def _failed(outcome: Outcome, stop_reason: str = "") -> Failed:
    words = {
        "truncated": "the model's answer was cut off",
        "refused": "the model refused to answer",
        "context_exceeded": "the text did not fit into the model",
        "unusable": f"the model stopped without an answer ({stop_reason or 'no reason given'})",
    }
    return Failed(FAILURES[outcome], words[outcome])
