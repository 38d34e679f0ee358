"""What agents, failures and what they are about are called on the pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from agents.observation import WHOLE_VERDICT, describe
from app.judgements import NO_TRIAGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agents.context import Context
    from agents.observation import Code, Direction

AGENTS: Mapping[str, str] = {"triage": "Triage", "qc": "Quality control", "chief_of_staff": "Chief of staff"}
_ABOUT_TRIAGE = "triage."  # quality control's remark on triage, itself wrong
_SUBJECTS: Mapping[str, str] = {
    "problem": "Problem",
    "affected": "Who or what is affected",
    "impact": "Impact",
    "contact": "How to reach them",
    "category": "Category",
    "priority": "Priority",
    WHOLE_VERDICT: "The verdict",
}


class Failure(Protocol):
    """What a row about failures has."""

    @property
    def agent(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def direction(self) -> str: ...


class FailureOn(Failure, Protocol):
    @property
    def subject(self) -> str: ...


@dataclass(frozen=True)
class Names:
    """Titles by id, of the context in force; what it no longer has is called by its id."""

    titles: Mapping[str, str]

    def subject(self, name: str) -> str:
        if name.startswith(_ABOUT_TRIAGE):
            return f"{self.subject(name.removeprefix(_ABOUT_TRIAGE))}, as it judged triage"
        return self.titles.get(name) or _SUBJECTS.get(name, name)

    def failure(self, row: FailureOn) -> str:
        """The pattern's title: who did what, and on what."""
        done = f"{self.agent(row.agent)} {self.words(row)}"
        return f"{done} ({self.subject(row.subject)})" if row.subject else done

    def escalation(self, rule: str) -> str:
        """Why an open ticket went to a person."""
        if rule.startswith(NO_TRIAGE):
            return f"triage {describe(cast('Code', rule.removeprefix(NO_TRIAGE)))}"
        return f"escalation rule: {self.titles.get(rule, rule)}"

    def agent(self, name: str) -> str:
        return AGENTS.get(name, name)

    def words(self, row: Failure) -> str:
        """What the agent did. Codes come from a closed list, so every stored one has its words."""
        return describe(cast("Code", row.code), cast("Direction", row.direction))


def of(context: Context | None) -> Names:
    if context is None:
        return Names({})
    rules = {rule.id: rule.title for rule in context.rules}
    return Names({**rules, **{criterion.id: criterion.title for criterion in context.rubric.criteria}})
