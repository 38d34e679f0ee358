"""Several models beside people on the same labelled tickets: how far each agrees, what it costs, and who is better.

Pure. What comes out is one JSON document: the terminal, the page and whoever asks for JSON read the same figures.
Positive is a fail, or a criterion that is not met. Where a person could not tell, or a model handed the ticket over or
scored nothing, that is counted apart and never as an error.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from itertools import combinations
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from agents.agreement import (
    FEWEST,
    Measure,
    Paired,
    Table,
    difference,
    labels_needed,
    measures,
    separated,
    wilson,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DOCUMENT_VERSION = 1
VERDICT = ""  # what a comparison is about where it is not a criterion
MEASURES = ("raw", "sensitivity", "specificity", "kappa", "ac1")
DIGITS = 6  # of a share: more only looks exact

_FAILS: Mapping[str, bool] = {"fail": True, "pass": False}


class Wanted(NamedTuple):
    """What a person said of a ticket: a verdict, or cannot_tell; and answers to criteria whose words are the same."""

    outcome: str
    findings: Mapping[str, str]


class Said(NamedTuple):
    """What a model made of a ticket, and what its calls took."""

    outcome: str
    findings: Mapping[str, str]
    cost_usd: Decimal
    latency_ms: int


@dataclass(frozen=True)
class Arm:
    """A model and what it said, ticket by ticket; None where its server rejected the question."""

    model: str
    demonstration: bool
    said: tuple[Said | None, ...]

    @property
    def judged(self) -> tuple[Said, ...]:
        return tuple(one for one in self.said if one is not None)


class Costs(NamedTuple):
    """In US$. `wrong`: a wrong verdict, None where nobody said; `look`: a person's look at what was handed over."""

    wrong: Decimal | None
    look: Decimal


class Beside(NamedTuple):
    """A model beside people. `left_open`: the model gave no verdict, or scored nothing; `unsure`: the person."""

    table: Table
    left_open: int
    unsure: int


def figures(wanted: Sequence[Wanted], arms: Sequence[Arm], *, criteria: Sequence[str], costs: Costs) -> dict[str, Any]:
    """The document. Every arm has as many answers as there are tickets, in their order."""
    labelled = [name for name in criteria if any(name in one.findings for one in wanted)]
    return {
        "version": DOCUMENT_VERSION,
        "tickets": len(wanted),
        "labels": sum(one.outcome in _FAILS for one in wanted),
        "criteria": labelled,  # in the rubric's order, which JSONB does not keep for keys
        "cost_of_wrong_usd": None if costs.wrong is None else float(costs.wrong),
        "cost_of_look_usd": float(costs.look),
        "models": [_arm_document(wanted, arm, criteria=labelled, costs=costs) for arm in arms],
        "pairs": list(_pairs(wanted, arms, subjects=(VERDICT, *labelled))),
    }


def _arm_document(wanted: Sequence[Wanted], arm: Arm, *, criteria: Sequence[str], costs: Costs) -> dict[str, Any]:
    judged = arm.judged
    escalated = sum(one.outcome == "escalate" for one in judged)
    latencies = sorted(one.latency_ms for one in judged)
    verdict = beside(wanted, arm, VERDICT)
    return {
        "model": arm.model,
        "demonstration": arm.demonstration,
        "judged": len(judged),
        "rejected": len(arm.said) - len(judged),
        "escalated": _share_document(escalated, len(judged)),
        "cost_usd": float(_cost_of_one(judged)) if judged else None,
        "p50_ms": _quantile(latencies, 0.5),
        "p95_ms": _quantile(latencies, 0.95),
        "expected_usd": _expected(verdict, judged, escalated=escalated, costs=costs),
        "verdict": _beside_document(verdict),
        "criteria": {name: _beside_document(beside(wanted, arm, name)) for name in criteria},
    }


def beside(wanted: Sequence[Wanted], arm: Arm, subject: str) -> Beside:
    """Everything that a person and this model said about the verdict, or about one criterion."""
    counts = {(person, machine): 0 for person in (True, False) for machine in (True, False)}
    left_open = unsure = 0
    for one, said in zip(wanted, arm.said, strict=True):
        person, machine = _person(one, subject), _machine(said, subject)
        if said is None:
            continue
        if person is None:
            unsure += subject == VERDICT
        elif machine is None:
            left_open += 1
        else:
            counts[person, machine] += 1
    table = Table(
        hits=counts[True, True], missed=counts[True, False], false=counts[False, True], clear=counts[False, False]
    )
    return Beside(table, left_open, unsure)


def _person(wanted: Wanted, subject: str) -> bool | None:
    """Whether a person says fail; None where they do not say."""
    if subject == VERDICT:
        return _FAILS.get(wanted.outcome)
    return wanted.findings[subject] == "not_met" if subject in wanted.findings else None


def _machine(said: Said | None, subject: str) -> bool | None:
    """Whether a model says fail; None where it does not say."""
    if said is None:
        return None
    if subject == VERDICT:
        return _FAILS.get(said.outcome)
    result = said.findings.get(subject, "unscored")
    return None if result == "unscored" else result == "not_met"


def _cost_of_one(judged: Sequence[Said]) -> Decimal:
    return sum((one.cost_usd for one in judged), Decimal(0)) / len(judged)


def _quantile(ordered: Sequence[int], share: float) -> int | None:
    """The smallest that at least this share of them do not exceed."""
    return ordered[ceil(share * len(ordered)) - 1] if ordered else None


def _expected(verdict: Beside, judged: Sequence[Said], *, escalated: int, costs: Costs) -> dict[str, float] | None:
    """What a ticket costs with what follows: calls, looks at what is handed over, and verdicts that are wrong.

    The bounds are what the sum is at the lower and at the upper ends of both shares' 95 % intervals. None where nobody
    said what a wrong verdict costs, or where too few labels say how many are wrong.
    """
    table = verdict.table
    labelled, wrong = table.n + verdict.left_open, table.missed + table.false
    if costs.wrong is None or labelled < FEWEST:
        return None
    price, calls = costs.wrong, _cost_of_one(judged)
    looks, errors = wilson(escalated, len(judged)), wilson(wrong, labelled)

    def at(look: float, error: float) -> float:
        return float(calls + Decimal(look) * costs.look + Decimal(error) * price)

    return {
        "value": at(escalated / len(judged), wrong / labelled),
        "low": at(looks.low, errors.low),
        "high": at(looks.high, errors.high),
    }


def _beside_document(found: Beside) -> dict[str, Any]:
    """`measures` is null below FEWEST pairs."""
    known = measures(found.table)
    return {
        "n": found.table.n,
        "table": found.table._asdict(),
        "left_open": found.left_open,
        "unsure": found.unsure,
        "measures": {name: _measure_document(getattr(known, name)) for name in MEASURES} if known else None,
    }


def _share_document(hits: int, n: int) -> dict[str, Any]:
    share = Measure(hits / n, wilson(hits, n)) if n else Measure(None, None)
    return {"count": hits, **_measure_document(share)}


def _measure_document(measure: Measure) -> dict[str, float | None]:
    low, high = measure.interval or (None, None)
    return {name: _rounded(value) for name, value in (("value", measure.value), ("low", low), ("high", high))}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


@dataclass(frozen=True)
class Comparison:
    """Two models on tickets where both, and a person, said something. `better` is empty where nobody can tell.

    `more`: so many more such labels would show a difference like the one seen; None where there is none to show, or
    where there are too few to say anything, or where it is decided. `at_least`: where there are too few, so many more
    bring them to FEWEST, from where on `more` is known; None elsewhere.
    """

    subject: str
    first: str
    second: str
    n: int
    first_only: int
    second_only: int
    better: str = ""
    more: int | None = None
    at_least: int | None = None


def compare(wanted: Sequence[Wanted], first: Arm, second: Arm, subject: str) -> tuple[Comparison, Measure]:
    """Who is right more often, and the difference of the two shares that are right."""
    pairs = _paired(wanted, first, second, subject)
    found = Comparison(subject, first.model, second.model, *pairs)
    if pairs.n < FEWEST:
        return Comparison(**{**asdict(found), "at_least": FEWEST - pairs.n}), Measure(None, None)
    if separated(pairs):
        better = first if pairs.first_only > pairs.second_only else second
        return Comparison(**{**asdict(found), "better": better.model}), difference(pairs)
    needed = labels_needed(pairs)
    more = None if needed is None else max(1, needed - pairs.n)
    return Comparison(**{**asdict(found), "more": more}), difference(pairs)


def _paired(wanted: Sequence[Wanted], first: Arm, second: Arm, subject: str) -> Paired:
    n = first_only = second_only = 0
    for one, *said in zip(wanted, first.said, second.said, strict=True):
        person = _person(one, subject)
        left, right = (_machine(answer, subject) for answer in said)
        if person is None or left is None or right is None:
            continue
        n += 1
        first_only += left == person != right
        second_only += right == person != left
    return Paired(n, first_only, second_only)


def _pairs(wanted: Sequence[Wanted], arms: Sequence[Arm], *, subjects: Sequence[str]) -> Iterator[dict[str, Any]]:
    for subject in subjects:
        for first, second in combinations(arms, 2):
            found, apart = compare(wanted, first, second, subject)
            yield {**asdict(found), "difference": _measure_document(apart)}
