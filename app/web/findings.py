"""Findings beside the criterion's words as they were when it was judged, in the order in which people need them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from app.web.thread import Cite

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agents.context import Context, Criterion
    from agents.verdict import Finding, Result
    from app.queries.ticket import EscalationRow

# What was found -> its name on the page; what asks for work first.
RESULTS: Mapping[Result, str] = {
    "not_met": "Not met",
    "partly": "Partly met",
    "unscored": "Not scored",
    "met": "Met",
    "not_applicable": "Does not apply",
}
FOLDED: frozenset[Result] = frozenset({"met", "not_applicable"})


@dataclass(frozen=True)
class Shown:
    """One finding on the page. `criterion` is None only where the pinned context does not know it."""

    finding: Finding
    criterion: Criterion | None

    @property
    def title(self) -> str:
        return self.criterion.title if self.criterion else self.finding.criterion

    @property
    def anchor(self) -> str:
        return f"f-{self.finding.criterion}"


class Group(NamedTuple):
    result: Result
    label: str
    shown: tuple[Shown, ...]
    folded: bool

    @property
    def size(self) -> int:
        return len(self.shown)

    @property
    def judged(self) -> bool:
        """True where a model answered one of them."""
        return self.result != "unscored" and any(one.finding.kind == "judged" for one in self.shown)

    @property
    def shared_reason(self) -> str:
        """The reason that all of several findings have, said once; nothing where they differ."""
        reasons = {one.finding.reason for one in self.shown}
        return reasons.pop() if len(self.shown) > 1 and len(reasons) == 1 else ""


def groups(findings: Iterable[Finding], context: Context) -> tuple[Group, ...]:
    """The findings by result, each group in the rubric's order, empty ones left out."""
    known = {criterion.id: criterion for criterion in context.rubric.criteria}
    place = {name: number for number, name in enumerate(known)}
    ordered = sorted(findings, key=lambda finding: place.get(finding.criterion, len(place)))
    shown = [Shown(finding, known.get(finding.criterion)) for finding in ordered]
    found = {result: tuple(one for one in shown if one.finding.result == result) for result in RESULTS}
    return tuple(Group(result, RESULTS[result], some, result in FOLDED) for result, some in found.items() if some)


def cites(shown: Iterable[Group], escalations: Sequence[EscalationRow], titles: Mapping[str, str]) -> tuple[Cite, ...]:
    """Everything that points into the thread; what decides before what does not."""
    rules = (Cite(row.anchor, titles.get(row.rule, row.rule), "escalate", row.evidence) for row in escalations)
    found = (
        Cite(one.anchor, one.title, group.result, one.finding.evidence)
        for group in shown
        for one in group.shown
        if one.finding.evidence
    )
    return (*rules, *found)
