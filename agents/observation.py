"""One failure of an agent, from a closed list of codes: who saw it, about whom, about what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agents.question import Agent
    from agents.verdict import Evidence

Observer = Literal["validator", "qc", "person"]
Direction = Literal["", "false_fail", "false_pass"]
Code = Literal[
    # seen by our own validation of an answer
    "quote_not_found", "invalid_answer", "refusal", "truncated", "context_exceeded", "unstable",
    "leaked", "swayed",
    # said by qc about triage
    "missed_information", "wrong_category", "wrong_priority", "missed_escalation",
    # a person decided otherwise; the direction says how
    "overruled",
]  # fmt: skip
TRIAGE_CODES: tuple[Code, ...] = ("missed_information", "wrong_category", "wrong_priority", "missed_escalation")
WHOLE_VERDICT = "verdict"  # the subject where a person overruled the verdict itself and not one finding

_WORDS: Mapping[Code, str] = {
    "quote_not_found": "quoted words that are not in the ticket",
    "invalid_answer": "gave an answer that could not be used",
    "refusal": "refused to answer",
    "truncated": "gave an answer that was cut off",
    "context_exceeded": "got more text than the model can read",
    "unstable": "said something else when asked again",
    "leaked": "repeated what it was told to keep to itself",
    "swayed": "came to another verdict by text in the ticket that reads like instructions",
    "missed_information": "did not see that information was missing",
    "wrong_category": "chose a category that does not fit",
    "wrong_priority": "chose a priority that does not fit",
    "missed_escalation": "did not name an escalation rule that applies",
    "overruled": "was overruled by a person",
}
_DIRECTIONS: Mapping[Direction, str] = {
    "": "",
    "false_fail": "too strict",
    "false_pass": "too lenient",
}


class Fingerprint(NamedTuple):
    """What is the same about failures that are the same."""

    agent: str
    code: str
    subject: str
    direction: str = ""


@dataclass(frozen=True)
class Observation:
    """`subject` is the criterion, intake field or rule it is about; empty where the whole answer failed.

    `direction` is only of what a person overruled: the machine was too strict (false_fail) or too lenient (false_pass).
    """

    observer: Observer
    agent: Agent
    code: Code
    subject: str = ""
    evidence: tuple[Evidence, ...] = ()
    direction: Direction = ""

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.agent, self.code, self.subject, self.direction)


def describe(code: Code, direction: Direction = "") -> str:
    """What the agent did, in words for people that follow its name."""
    words = _WORDS[code]
    return f"{words}: {_DIRECTIONS[direction]}" if direction else words
