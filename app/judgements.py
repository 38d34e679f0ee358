"""A judgement's rows: verdict, findings, triage, escalations, observations, and the ticket's row that shows them.

Every insert gives way to what is there already, so that whoever comes second changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, Text, and_, any_, bindparam, column, func, or_, select, true, update
from sqlalchemy import case as case_when
from sqlalchemy.dialects.postgresql import JSONB, insert

from agents.answer import Failed
from agents.judge import ENGINE_VERSION, Judgement
from agents.mechanical import intake_hits, rule_hits
from app import documents, tables
from app.clock import now
from app.patterns import notice
from app.runs import for_its_own_sake
from app.tables import bound, table_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from sqlalchemy import ColumnElement, Connection, ScalarSelect, Select, Update
    from sqlalchemy.orm import Session

    from agents.context import Context
    from agents.observation import Observation
    from agents.ticket import Revision
    from agents.triage import RuleHit, Triage
    from agents.verdict import Evidence


NO_MODEL = "none"  # panel of a verdict that no model had a part in
AND = " + "  # between the models of a panel, the worker first
NO_TRIAGE = "triage."  # before the failure code, where it stands in the place of an escalation rule

_VERDICTS, _OBSERVATIONS = table_of(tables.Verdict), table_of(tables.Observation)
_TICKETS = table_of(tables.Ticket)
_FINDINGS = table_of(tables.Finding)
_TRIAGE = insert(table_of(tables.Triage)).on_conflict_do_nothing()


@dataclass(frozen=True)
class Case:
    """What a job reads before it starts: a revision under the context in force."""

    revision_id: int
    ticket_id: int
    revision: Revision
    live: bool
    supplied: frozenset[str]
    context: Context
    triage: Triage | None


def record_intake(
    session: Session, case: Case, answer: Triage | Failed | None, observations: Iterable[Observation], *, model: str
) -> None:
    """An open ticket's triage and escalations, and its row, which shows whether a person should look.

    The rules that code applies need no triage, and so no model. Where triage was asked and gave no answer, nobody has
    applied the others, and so a person looks.
    """
    _record_by_code(session, case)
    if isinstance(answer, Failed):
        _record_escalation(session, case, rule=NO_TRIAGE + answer.code, agent="validator")
    elif answer is not None:
        _record_triage(session, case, answer, model=model)
        _record_escalations(session, case, answer.rules, missed_by_triage=frozenset())
    _record_observations(session, case, observations)
    row = update(_TICKETS).where(_TICKETS.c.revision_id == case.revision_id)
    session.execute(row.values(escalated=_escalation_of(case), review_state="open", review_note=""))


def escalate_by_code(session: Session, case: Case) -> None:
    """Where the model is waited for, the rules that code applies bring the ticket to a person already.

    Whoever gave it to a person before, triage for one, keeps it there: the verdict says what stands.
    """
    _record_by_code(session, case)
    raised = update(_TICKETS).where(_TICKETS.c.revision_id == case.revision_id, _escalation_of(case))
    session.execute(raised.values(escalated=True))


def _record_by_code(session: Session, case: Case) -> None:
    hits = rule_hits if case.revision.ticket.finished else intake_hits
    _record_escalations(session, case, hits(case.revision, case.context), missed_by_triage=frozenset())


def _escalation_of(case: Case) -> ColumnElement[bool]:
    return select(tables.Escalation.id).where(tables.Escalation.revision_id == case.revision_id).exists()


def record(session: Session, case: Case, judgement: Judgement, *, panel: str, demonstration: bool) -> None:
    """The judgement's rows; a second worker's verdict for the same key is a no-op."""
    verdict = judgement.verdict
    row = {
        "revision_id": case.revision_id,
        "context_version": case.context.version,
        "engine_version": ENGINE_VERSION,
        "panel": panel,
        "demonstration": demonstration,
        "route": judgement.route,
        "outcome": verdict.outcome,
        "score": verdict.score,
        "reasons": list(verdict.reasons),
        "models": panel.split(AND),
        "findings": documents.finding_rows(judgement.findings, case.context.rubric),
    }
    if session.scalar(_JUDGE, row) is not None:
        if judgement.triage is not None and case.triage is None:
            _record_triage(session, case, judgement.triage, model=panel.partition(AND)[0])
        _record_escalations(session, case, judgement.rules, missed_by_triage=judgement.missed_by_triage)
        _record_observations(session, case, judgement.observations)
    show(session, case.ticket_id, case.revision_id)


def _spent() -> ScalarSelect[Decimal | None]:
    """What a panel's runs about a revision under a context cost; null where a price is unknown."""
    run = tables.Run
    mine = (
        run.revision_id == bindparam("revision_id"),
        run.context_version == bindparam("context_version"),
        run.model == any_(bindparam("models", type_=ARRAY(Text))),
        for_its_own_sake(),
    )
    unpriced = func.bool_or(and_(run.replied, run.cost_usd.is_(None)))
    known = func.coalesce(func.sum(run.cost_usd), 0)
    return select(case_when((unpriced, None), else_=known)).where(*mine).scalar_subquery()


def _judging() -> Select[int]:
    """A verdict and its findings, or nothing of either where there is such a verdict."""
    row = bound(_VERDICTS, without=("id", "cost_usd", "recorded_at"))
    made = insert(_VERDICTS).values(**row, cost_usd=_spent()).on_conflict_do_nothing().returning(_VERDICTS.c.id)
    verdict = made.cte("verdict")
    columns = [column(one.name, one.type) for one in _FINDINGS.c if one.name not in ("id", "verdict_id")]
    given = func.jsonb_to_recordset(bindparam("findings", type_=JSONB)).table_valued(*columns)
    each = given.render_derived(with_types=True)
    rows = select(verdict.c.id, *each.c).select_from(verdict).join(each, true())
    found = insert(_FINDINGS).from_select(["verdict_id", *(one.name for one in columns)], rows)
    return select(verdict.c.id).add_cte(found.cte("found"))


_JUDGE = _judging()  # built once: it is a part of every review


def current_verdict(revision_id: int | ColumnElement[int]) -> Select[tables.Verdict]:
    """Of a revision's verdicts the one that counts: newest context in force, newest engine, a model's before none."""
    verdict, release = tables.Verdict, tables.Release
    in_force = select(func.max(release.id)).where(release.context_version == verdict.context_version).scalar_subquery()
    newest = (in_force.desc().nulls_last(), verdict.engine_version.desc(), verdict.panel == NO_MODEL, verdict.id.desc())
    return select(verdict).where(verdict.revision_id == revision_id).order_by(*newest).limit(1)


def standing_label(revision_id: int) -> Select[tables.Label]:
    """Of the decisions that people took about a revision the one that stands: the newest."""
    label = tables.Label
    return select(label).where(label.revision_id == revision_id).order_by(label.id.desc()).limit(1)


def show(session: Session | Connection, ticket_id: int, revision_id: int) -> None:
    """The ticket's row shows the current verdict of this revision, if it has one and is still the newest revision."""
    session.execute(_SHOW, {"of_ticket": ticket_id, "of_revision": revision_id})


def _showing() -> Update:
    current = current_verdict(bindparam("of_revision")).subquery()
    row = table_of(tables.Ticket)
    return (
        update(row)
        .where(row.c.id == bindparam("of_ticket"), row.c.revision_id == bindparam("of_revision"))
        .where(or_(row.c.review_state != "done", row.c.verdict_id.is_distinct_from(current.c.id)))
        .values(
            review_state="done",
            review_note="",
            verdict_id=current.c.id,
            outcome=current.c.outcome,
            score=current.c.score,
            escalated=current.c.outcome == "escalate",
            changed_at=func.clock_timestamp(),
        )
    )


_SHOW = _showing()


def _record_triage(session: Session, case: Case, triage: Triage, *, model: str) -> None:
    row = {
        "ticket_id": case.ticket_id,
        "revision_id": case.revision_id,
        "intake_hash": case.revision.intake_hash,
        "agent_hash": case.context.agent_hash("triage"),
        "model": model,
        "answer": documents.triage_document(triage),
    }
    session.execute(_TRIAGE, row)


def _record_escalations(
    session: Session, case: Case, rules: Iterable[RuleHit], *, missed_by_triage: frozenset[str]
) -> None:
    for hit in rules:
        agent = "code" if hit.by == "code" else "qc" if hit.rule in missed_by_triage else "triage"
        _record_escalation(session, case, hit.evidence, rule=hit.rule, agent=agent)


def _record_escalation(session: Session, case: Case, *shown: Evidence, rule: str, agent: str) -> None:
    row = {
        "ticket_id": case.ticket_id,
        "revision_id": case.revision_id,
        "rule": rule,
        "agent": agent,
        "evidence": [documents.evidence_document(evidence) for evidence in shown],
    }
    session.execute(insert(table_of(tables.Escalation)).values(**row).on_conflict_do_nothing())


def observe(
    session: Session,
    seen: Iterable[Observation],
    *,
    revision_id: int,
    context_version: str,
    label_id: int | None = None,
) -> None:
    """One row for each failure, and the patterns that they complete are open. Imported history must not get here."""
    new = [
        one.fingerprint
        for one in seen
        if _inserted(session, one, revision_id=revision_id, context_version=context_version, label_id=label_id)
    ]
    notice(session, new, now=now())


def _inserted(session: Session, seen: Observation, **pinned: Any) -> bool:  # noqa: ANN401  columns
    """False where this failure is on record already."""
    row = {
        "observer": seen.observer,
        "agent": seen.agent,
        "code": seen.code,
        "subject": seen.subject,
        "direction": seen.direction,
        "evidence": [documents.evidence_document(evidence) for evidence in seen.evidence],
        **pinned,
    }
    added = insert(_OBSERVATIONS).values(**row).on_conflict_do_nothing().returning(_OBSERVATIONS.c.id)
    return session.scalar(added) is not None


def _record_observations(session: Session, case: Case, observations: Iterable[Observation]) -> None:
    """Imported history makes none: what failed there is not a failure of this week."""
    if case.live:
        observe(session, observations, revision_id=case.revision_id, context_version=case.context.version)
