"""What stands in our JSONB columns, and the one reader of each kind. Every document carries its `version`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from agents.ticket import Revision
from agents.triage import IntakeField, RuleHit, Triage
from agents.verdict import Evidence, Finding, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agents.context import Rubric
    from agents.rubric import Kind
    from agents.verdict import EvidenceStatus, Result
    from app import tables

VERSION = 1
REMOVED_SUBJECT = "(removed)"  # of a ticket whose texts retention has taken


def revision_document(revision: Revision) -> dict[str, Any]:
    return {"version": VERSION, **revision.model_dump(mode="json", by_alias=True)}


def revision(document: Mapping[str, Any]) -> Revision:
    """The revision that was stored; its hash is the same as it was, unless its texts were removed."""
    return Revision.model_validate({"ticket": document["ticket"], "masked": document["masked"]})


def removed(document: Mapping[str, Any]) -> bool:
    """True where retention has taken a revision's texts."""
    return "removed" in document


def context_document(files: Mapping[str, str]) -> dict[str, Any]:
    return {"version": VERSION, "files": dict(files)}


def context_files(document: Mapping[str, Any]) -> dict[str, str]:
    """A context version's files, byte-exact."""
    return dict(document["files"])


def evidence_document(evidence: Evidence) -> dict[str, Any]:
    return {"line": evidence.line, "quote": evidence.quote, "spans": [list(span) for span in evidence.spans]}


def evidence(documents: Iterable[Mapping[str, Any]]) -> tuple[Evidence, ...]:
    """What an `evidence` column holds."""
    return tuple(map(_evidence, documents))


def _evidence(document: Mapping[str, Any]) -> Evidence:
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
            name: IntakeField(field["state"], _evidence(field["evidence"]) if field["evidence"] else None)
            for name, field in document["fields"].items()
        },
        rules=tuple(RuleHit(hit["rule"], _evidence(hit["evidence"])) for hit in document["rules"]),
        ask=tuple(document["ask"]),
    )


def finding_rows(findings: Iterable[Finding], rubric: Rubric) -> list[dict[str, Any]]:
    """Rows for `findings`, one for each finding, without their verdict."""
    return [
        {
            "criterion": finding.criterion,
            "text_hash": rubric[finding.criterion].text_hash,
            "kind": finding.kind,
            "result": finding.result,
            "reason": finding.reason,
            "evidence": [evidence_document(found) for found in finding.evidence],
            "absent": finding.absent,
            "evidence_status": finding.evidence_status,
        }
        for finding in findings
    ]


def finding(row: tables.Finding) -> Finding:
    """The engine's own value; the database allows the same words as the engine."""
    return Finding(
        criterion=row.criterion,
        kind=cast("Kind", row.kind),
        result=cast("Result", row.result),
        reason=row.reason,
        evidence=evidence(row.evidence),
        absent=row.absent,
        evidence_status=cast("EvidenceStatus | None", row.evidence_status),
    )
