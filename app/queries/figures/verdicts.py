"""Verdicts: how many pass, fail and need a person, under which texts, and which criteria are not met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, BigInteger, any_, func, select
from sqlalchemy.dialects.postgresql import distinct_on

from app.judgements import NO_MODEL
from app.queries.figures.tickets import counted, within
from app.shares import Share
from app.tables import Finding, Revision, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Row, Subquery
    from sqlalchemy.orm import Session

    from app.periods import Period


@dataclass(frozen=True)
class Outcomes:
    """Verdicts; `demonstration` and `unjudged` (checks only) are among them."""

    passed: int = 0
    failed: int = 0
    escalated: int = 0
    demonstration: int = 0
    unjudged: int = 0

    @property
    def total(self) -> int:
        return self.passed + self.failed + self.escalated

    @property
    def fail(self) -> Share:
        """Of those that passed or failed; what a person has to decide is neither."""
        return Share(self.failed, self.passed + self.failed)

    @property
    def escalate(self) -> Share:
        return Share(self.escalated, self.total)


@dataclass(frozen=True)
class VersionRow:
    version: str
    outcomes: Outcomes


@dataclass(frozen=True)
class CriterionRow:
    """A criterion in its newest words. `before` is under the same words; a changed text starts a new count."""

    criterion: str
    met: int
    partly: int
    not_met: int
    not_applicable: int
    unscored: int
    before_not_met: int = 0
    before_scored: int = 0
    reworded: bool = False  # in the period, or since before it

    @property
    def share(self) -> Share:
        """Not met, of what was scored."""
        return Share(self.not_met, self.met + self.partly + self.not_met)

    @property
    def before(self) -> Share:
        return Share(self.before_not_met, self.before_scored)


def outcomes(session: Session, period: Period, *, history: bool = False) -> Outcomes:
    """One verdict a revision: a model's before one of checks alone, then the newest."""
    verdict = standing(period, history=history)
    return Outcomes(**session.execute(select(*counts(verdict))).one()._asdict())


def by_version(session: Session, period: Period, *, history: bool = False) -> tuple[VersionRow, ...]:
    """In the order in which they were first judged by."""
    verdict = standing(period, history=history)
    version = verdict.c.context_version
    rows = session.execute(select(version, *counts(verdict)).group_by(version).order_by(func.min(verdict.c.id)))
    return tuple(VersionRow(name, Outcomes(*numbers)) for name, *numbers in rows)


def by_criterion(
    session: Session, period: Period, *, before: Period, history: bool = False
) -> tuple[CriterionRow, ...]:
    """The least met first; last those with too few to say."""
    found = _criteria(session, period, history=history)
    earlier = _criteria(session, before, history=history)
    newest = {row.criterion: row for row in sorted(found, key=lambda row: row.newest)}
    rows = [_criterion_row(row, [*found, *earlier], earlier) for row in newest.values()]
    return tuple(sorted(rows, key=lambda row: (not row.share.enough, -row.share.value, row.criterion)))


def _criterion_row(row: Row[Any], known: Sequence[Row[Any]], earlier: Sequence[Row[Any]]) -> CriterionRow:
    mine = [other for other in known if other.criterion == row.criterion]
    same = next(
        (other for other in earlier if other.criterion == row.criterion and other.text_hash == row.text_hash), None
    )
    return CriterionRow(
        row.criterion,
        **{name: getattr(row, name) for name in _RESULTS},
        before_not_met=same.not_met if same else 0,
        before_scored=same.met + same.partly + same.not_met if same else 0,
        reworded=any(other.text_hash != row.text_hash for other in mine),
    )


def standing(period: Period, *, history: bool = False) -> Subquery:
    """The verdict of each revision that was judged in the period."""
    order = (Verdict.revision_id, Verdict.panel == NO_MODEL, Verdict.id.desc())
    return (
        select(
            Verdict.id, Verdict.revision_id, Revision.ticket_id, Verdict.context_version, Verdict.outcome,
            Verdict.panel, Verdict.demonstration, Verdict.recorded_at,
        )
        .ext(distinct_on(Verdict.revision_id))
        .join(Revision, Revision.id == Verdict.revision_id)
        .where(within(Verdict.recorded_at, period), counted(history=history))
        .order_by(*order)
        .subquery()
    )  # fmt: skip


def counts(verdict: Subquery) -> tuple[ColumnElement[int], ...]:
    """The columns of Outcomes."""
    conditions = {
        "passed": verdict.c.outcome == "pass",
        "failed": verdict.c.outcome == "fail",
        "escalated": verdict.c.outcome == "escalate",
        "demonstration": verdict.c.demonstration,
        "unjudged": verdict.c.panel == NO_MODEL,
    }
    return tuple(func.count().filter(condition).label(name) for name, condition in conditions.items())


_RESULTS = ("met", "partly", "not_met", "not_applicable", "unscored")


def _criteria(session: Session, period: Period, *, history: bool) -> list[Row[Any]]:
    """By criterion and words.

    The verdicts' ids come as an array, so that their findings are looked up: joined, the planner reads every finding.
    """
    verdict = standing(period, history=history)
    ids = func.array(select(verdict.c.id).scalar_subquery(), type_=ARRAY(BigInteger))
    results = (func.count().filter(Finding.result == name).label(name) for name in _RESULTS)
    rows: list[Row[Any]] = []
    rows += session.execute(
        select(Finding.criterion, Finding.text_hash, func.max(Finding.verdict_id).label("newest"), *results)
        .where(Finding.verdict_id == any_(ids))
        .group_by(Finding.criterion, Finding.text_hash)
    )
    return rows
