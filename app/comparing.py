"""A ticket's verdict beside the one it would have under other texts: what moved. Pure, with the document it is kept as.

The reasons of agents stay, as they do with verdicts; no words of the ticket are kept here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agents.judge import Judgement
    from agents.rubric import Rubric

DOCUMENT_VERSION = 1


class Before(NamedTuple):
    """A finding of the verdict that stands."""

    criterion: str
    text_hash: str
    kind: str
    result: str


class Move(NamedTuple):
    """A finding that is another. `old` or `new` is None where that version has no such criterion."""

    criterion: str
    title: str
    old: str | None
    new: str | None
    reason: str  # for the new one
    reworded: bool  # the criterion has other words


class Comparison(NamedTuple):
    """`reasons` say what decides the new verdict."""

    reasons: tuple[str, ...]
    moves: tuple[Move, ...]


def compare(before: Iterable[Before], judgement: Judgement, rubric: Rubric, *, by_model: bool) -> Comparison:
    """Not `by_model`: only what checks can answer is compared, because all else is unscored for want of a model."""
    return Comparison(judgement.verdict.reasons, tuple(_moves(before, judgement, rubric, by_model=by_model)))


def _moves(before: Iterable[Before], judgement: Judgement, rubric: Rubric, *, by_model: bool) -> Iterator[Move]:
    """In the rubric's order; what it has no more comes last."""
    old = {one.criterion: one for one in before if by_model or one.kind == "checked"}
    for new in judgement.findings:
        was = old.pop(new.criterion, None)
        if (was is None or was.result != new.result) and (by_model or new.kind == "checked"):
            criterion = rubric[new.criterion]
            reworded = was is not None and was.text_hash != criterion.text_hash
            result = None if was is None else was.result
            yield Move(new.criterion, criterion.title, result, new.result, new.reason, reworded)
    known = {criterion.id for criterion in rubric.criteria}
    for gone in old.values():
        if gone.criterion not in known:
            yield Move(gone.criterion, "", gone.result, None, "", reworded=False)


def document(comparison: Comparison) -> dict[str, Any]:
    moves = [move._asdict() for move in comparison.moves]
    return {"version": DOCUMENT_VERSION, "reasons": list(comparison.reasons), "moves": moves}


def read(document: Mapping[str, Any]) -> Comparison:
    return Comparison(tuple(document["reasons"]), tuple(Move(**move) for move in document["moves"]))
