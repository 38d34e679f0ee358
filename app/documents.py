"""What stands in our JSONB columns, and the one reader of each kind. Every document carries its `version`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.triage import IntakeField, RuleHit, Triage
from agents.verdict import Evidence, Finding, Span
from app import tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agents.context import Rubric

VERSION = 1


def evidence_document(evidence: Evidence) -> dict[str, Any]:
    return {"line": evidence.line, "quote": evidence.quote, "spans": [list(span) for span in evidence.spans]}


def evidence(document: Mapping[str, Any]) -> Evidence:
    return Evidence(document["line"], document["quote"], tuple(Span(*span) for span in document["spans"]))


def triage_document(triage: Triage) -> dict[str, Any]:
    return {
        "version": VERSION,
        "category": triage.category,
        "priority": triage.priority,
        "fields": {
            name: {"state": field.state, "evidence": field.evidence and evidence_document(field.evidence)}
            for name, field in triage.fields.items()
        },
        "rules": [{"rule": hit.rule, "evidence": evidence_document(hit.evidence)} for hit in triage.rules],
        "ask": list(triage.ask),
    }


def triage(document: Mapping[str, Any]) -> Triage:
    return Triage(
        category=document["category"],
        priority=document["priority"],
        fields={
            name: IntakeField(field["state"], evidence(field["evidence"]) if field["evidence"] else None)
            for name, field in document["fields"].items()
        },
        rules=tuple(RuleHit(hit["rule"], evidence(hit["evidence"])) for hit in document["rules"]),
        ask=tuple(document["ask"]),
    )


def finding_rows(verdict_id: int, findings: Iterable[Finding], rubric: Rubric) -> list[tables.Finding]:
    return [
        tables.Finding(
            verdict_id=verdict_id,
            criterion=finding.criterion,
            text_hash=rubric[finding.criterion].text_hash,
            kind=finding.kind,
            result=finding.result,
            reason=finding.reason,
            evidence=[evidence_document(found) for found in finding.evidence],
            absent=finding.absent,
            evidence_status=finding.evidence_status,
        )
        for finding in findings
    ]
