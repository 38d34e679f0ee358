"""The opening of the weekly report: a model may write it; a number that is not in the data drops its sentence.

The figures are (name, value in words) pairs, made by code. Nothing of a ticket is among them.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from agents.answer import Failed, InvalidAnswer, answered, closed_object, parse
from agents.prompt import visible
from agents.question import Question, Turn, reply_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agents.question import Ask

MAX_TOKENS = 4_000  # the strong tier thinks before it writes
MOST_SENTENCES = 5
SENTENCE_CHARS = 300

INSTRUCTIONS = """You write the opening of a weekly report about a system that reviews service tickets. Its readers are
service managers with one minute. From the figures you are given say in two to five plain sentences what happened this
week: what changed most against before, what needs a person, what it cost. Judge nobody. Use only the figures you are
given, each written with the same digits as there; compute none, round none. A sentence with another number is deleted.
Where a figure says that there are too few to say, say so or leave it out."""

_NUMBER = re.compile(r"\d+(?:[.,\u00a0\u202f ]\d+)*")
_GROUPING = re.compile(r"[,\u00a0\u202f ](?=\d{3}(?!\d))")
_WORDS = {
    word: str(value)
    for value, word in enumerate(
        "two three four five six seven eight nine ten eleven twelve".split(),  # noqa: SIM905  readable so
        start=2,
    )
} | {"twice": "2", "dozen": "12", "half": "50", "third": "33", "quarter": "25", "hundred": "100", "thousand": "1000"}
_WORD = re.compile(r"\b(?:" + "|".join(_WORDS) + r")\b", re.IGNORECASE)
# 31 tickets in the data are no 31 %, and no $31.
_WITH_UNIT = (
    ("%", re.compile(r"(\d[\d.,]*)\s?(?:%|per ?cent\b)", re.IGNORECASE)),
    ("$", re.compile(r"(?:\$|\busd)\s?(\d[\d.,]*)|(\d[\d.,]*)\s?(?:usd|dollars?)\b", re.IGNORECASE)),
)
_LINK = re.compile(r"https?:|www\.|[<>\[\]]", re.IGNORECASE)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    sentences: list[str]


def schema() -> dict[str, Any]:
    return closed_object(sentences={"type": "array", "items": {"type": "string"}})


def question(figures: Mapping[str, str], *, model: str, repetition: int = 0) -> Question:
    """The same figures are the same question."""
    told = "\n".join(f"- {name}: {value}" for name, value in figures.items())
    return Question(
        agent="chief_of_staff",
        purpose="opening",
        repetition=repetition,
        revision_hash=reply_key(figures=json.dumps(figures, sort_keys=True)),
        agent_hash=reply_key(instructions=INSTRUCTIONS),
        model=model,
        schema=schema(),
        system=(INSTRUCTIONS,),
        turns=(Turn("user", f"The figures of the week:\n{told}\n\nWrite the opening."),),
        max_tokens=MAX_TOKENS,
    )


def write(figures: Mapping[str, str], *, ask: Ask, model: str, repetition: int = 0) -> str | Failed:
    """The model's paragraph with every sentence dropped that says what the data does not. Raises what `ask` raises."""
    answer = answered(ask, question(figures, model=model, repetition=repetition), _read)
    if isinstance(answer, Failed):
        return answer
    kept = " ".join(checked(sentence, figures) for sentence in answer.sentences[:MOST_SENTENCES])
    text = " ".join(kept.split())
    return text or Failed("invalid_answer", "no sentence of the opening keeps to the figures")


def _read(text: str) -> _Answer:
    answer = parse(text, _Answer)
    if not any(sentence.strip() for sentence in answer.sentences):
        raise InvalidAnswer("sentences: write at least one sentence")
    return answer


def checked(text: str, figures: Mapping[str, str]) -> str:
    """The text's sentences that hold no number, in digits or words, and no link that is not in the figures."""
    known = {number for name, value in figures.items() for number in _numbers(f"{name} {value}")}
    return " ".join(sentence for sentence in _sentences(text) if _numbers(sentence) <= known and not _odd(sentence))


def plain(figures: Mapping[str, str]) -> str:
    """The paragraph without a model: the figures as they are, one after the other."""
    return " ".join(f"{_capital(name)}: {value}." for name, value in figures.items())


def _sentences(text: str) -> list[str]:
    """A dot between digits or before a small letter ends nothing."""
    flat = " ".join(visible(unicodedata.normalize("NFKC", text)).split())
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+(?=[^a-z])", flat) if part.strip()]


def _odd(sentence: str) -> bool:
    return len(sentence) > SENTENCE_CHARS or _LINK.search(sentence) is not None


def _numbers(text: str) -> set[str]:
    """Every number in the text in one form: 1,234 and 1 234 are 1234; 0.50 is 0.5; twelve is 12; with its unit too."""
    flat = visible(unicodedata.normalize("NFKC", text))
    digits = _GROUPING.sub("", flat)
    found = {_plain_number(match[0]) for match in _NUMBER.finditer(digits)}
    for unit, pattern in _WITH_UNIT:
        numbers = (match[1] or match[match.lastindex or 1] for match in pattern.finditer(digits))
        found |= {unit + _plain_number(number.rstrip(".,")) for number in numbers}
    return found | {_WORDS[match[0].lower()] for match in _WORD.finditer(flat)}


def _plain_number(digits: str) -> str:
    number = digits.replace(",", ".")
    whole, dot, rest = number.partition(".")
    return f"{whole.lstrip('0') or '0'}.{rest.rstrip('0')}".rstrip(".") if dot else (whole.lstrip("0") or "0")


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
