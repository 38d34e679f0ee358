"""Which tickets a proposal is tried on: the pattern's own, and those that people have labelled.

Chosen as things stood when the replay was made, so that a worker that takes it over tries it on the same tickets.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, func, literal, or_, select

from agents.ticket import FINISHED
from app import documents, patterns, tables
from app.cases import known_triage, placed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import Session

    from agents.context import Context
    from agents.ticket import Revision
    from agents.triage import Triage

MOST_LOOKED_AT = 5_000  # labels; of more the newest


@dataclass(frozen=True)
class ReplayCase:
    """A state of a ticket, and what is right about it. `triage` is the answer it had, where it is known."""

    ticket_id: int
    revision_id: int
    revision: Revision
    supplied: frozenset[str]
    target: bool
    label: str | None = None
    labelled_findings: Mapping[str, str] = field(default_factory=dict)
    triage: Triage | None = None


class Chosen(NamedTuple):
    """`available` counts the tickets there were to choose from."""

    cases: tuple[ReplayCase, ...]
    available: int

    @property
    def labelled(self) -> int:
        return sum(case.label is not None or bool(case.labelled_findings) for case in self.cases)


class _Picked(NamedTuple):
    revision_id: int
    ticket_id: int
    target: bool
    label: tables.Label | None


def choose(session: Session, pattern_id: int, *, base: Context, as_of: datetime, most: int) -> Chosen:
    """The pattern's tickets first, then the newest labels; at most `most` in all."""
    labels = {label.revision_id: (label, ticket) for label, ticket in session.execute(standing_labels(as_of))}
    targets = session.execute(_targets(pattern_id, as_of)).all()
    picked = {
        ticket: _Picked(revision, ticket, target=True, label=labels[revision][0] if revision in labels else None)
        for revision, ticket in targets
    }
    for revision, (label, ticket) in labels.items():
        picked.setdefault(ticket, _Picked(revision, ticket, target=False, label=label))
    taken = list(picked.values())[:most]
    return Chosen(tuple(_case(session, one, base=base) for one in taken), len(picked))


def labelled(session: Session, label: tables.Label, *, ticket_id: int, base: Context) -> ReplayCase:
    """The state of a ticket that a label is about, with the person's word on it."""
    return _case(session, _Picked(label.revision_id, ticket_id, target=False, label=label), base=base)


def _readable() -> ColumnElement[bool]:
    """Finished, because only then is there a verdict, and with its texts still there."""
    document = tables.Revision.document
    return and_(document["ticket"]["status"].astext.in_(FINISHED), ~document.has_key("removed"))


def _targets(pattern_id: int, as_of: datetime) -> Select[int, int]:
    """Of each of the pattern's tickets the newest finished state on which it was seen; the latest seen first."""
    seen, revision = tables.Observation, tables.Revision
    newest = (
        select(revision.ticket_id, func.max(seen.revision_id).label("revision_id"), func.max(seen.id).label("last"))
        .select_from(tables.Pattern)
        .join(seen, patterns.same())
        .join(revision, revision.id == seen.revision_id)
        .where(tables.Pattern.id == pattern_id, patterns.since_opened(), patterns.stands(), patterns.unsealed())
        .where(seen.recorded_at <= as_of, _readable())
        .group_by(revision.ticket_id)
        .subquery()
    )
    return select(newest.c.revision_id, newest.c.ticket_id).order_by(newest.c.last.desc())


def standing_labels(as_of: datetime) -> Select[tables.Label, int]:
    """The newest label about each revision, where it says something; the newest first."""
    label, revision, finding = tables.Label, tables.Revision, tables.LabelFinding
    newest = select(func.max(label.id)).where(label.recorded_at <= as_of).group_by(label.revision_id)
    says = or_(label.outcome != "cannot_tell", select(finding.label_id).where(finding.label_id == label.id).exists())
    return (
        select(label, revision.ticket_id)
        .join(revision, revision.id == label.revision_id)
        .where(label.id.in_(newest), label.split != literal(patterns.SEALED), says, _readable())
        .order_by(label.id.desc())
        .limit(MOST_LOOKED_AT)
    )


def _case(session: Session, picked: _Picked, *, base: Context) -> ReplayCase:
    found = placed(session, picked.revision_id)
    case = ReplayCase(
        ticket_id=picked.ticket_id,
        revision_id=picked.revision_id,
        revision=documents.revision(found.document),
        supplied=frozenset(found.supplied),
        target=picked.target,
        triage=known_triage(found, base, model=None),
    )
    return case if picked.label is None else _labelled(session, case, picked.label, base=base)


def _labelled(session: Session, case: ReplayCase, label: tables.Label, *, base: Context) -> ReplayCase:
    """With the person's word; of the findings only those about a criterion whose words are still the same."""
    words = {criterion.id: criterion.text_hash for criterion in base.rubric.criteria}
    rows = session.scalars(select(tables.LabelFinding).where(tables.LabelFinding.label_id == label.id))
    findings = {row.criterion: row.result for row in rows if words.get(row.criterion) == row.text_hash}
    outcome = label.outcome if label.outcome != "cannot_tell" else None
    return replace(case, label=outcome, labelled_findings=findings)
