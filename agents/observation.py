"""One failure of an agent, from a closed list of codes: who saw it, about whom, about what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from agents.question import Agent
    from agents.verdict import Evidence

Observer = Literal["validator", "qc", "person"]
Code = Literal[
    # seen by our own validation of an answer
    "quote_not_found", "invalid_answer", "refusal", "truncated", "context_exceeded", "unstable",
    # said by qc about triage
    "missed_information", "wrong_category", "wrong_priority", "missed_escalation",
    # a person's decision about qc
    "overruled",
]  # fmt: skip
TRIAGE_CODES: tuple[Code, ...] = ("missed_information", "wrong_category", "wrong_priority", "missed_escalation")


@dataclass(frozen=True)
class Observation:
    """`subject` is the criterion, intake field or rule it is about; empty where the whole answer failed.

    `direction` is of what a person overruled: false_fail or false_pass.
    """

    observer: Observer
    agent: Agent
    code: Code
    subject: str = ""
    evidence: tuple[Evidence, ...] = ()
    direction: str = ""
