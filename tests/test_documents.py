"""What stands in JSONB columns comes back as what went in, through real JSON and through Postgres."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from agents.judge import Judgement
from agents.triage import INTAKE_FIELDS, FieldState, IntakeField, RuleHit, Triage
from agents.verdict import Evidence, Finding, Span, Verdict
from app import documents, tables
from app.cases import read_case
from app.documents import VERSION, evidence_document, revision_document, triage_document
from app.judgements import record
from tests.cast import revision, shipped_context
from tests.factories import make_context, make_ticket, make_triage

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

HARD = 'Only "half" of it: \\u0000 naïve 漢字 🎫 \u2028\n\t' + "x" * 100_000

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
numbers = st.integers(0, 10_000)
evidences = st.builds(
    Evidence, numbers, texts, st.lists(st.builds(Span, numbers, numbers, numbers), max_size=3).map(tuple)
)
fields = st.builds(IntakeField, st.sampled_from(get_args(FieldState)), st.none() | evidences)
triages = st.builds(
    Triage,
    category=texts,
    priority=texts,
    fields=st.fixed_dictionaries(dict.fromkeys(INTAKE_FIELDS, fields)),
    rules=st.lists(st.builds(RuleHit, texts, evidences), max_size=3).map(tuple),
    ask=st.lists(texts, max_size=4).map(tuple),
)


def first_revision(session: Session) -> tables.Revision:
    return session.get_one(tables.Revision, make_ticket(session).revision_id)


@given(evidences)
def test_evidence_comes_back_as_it_was(found: Evidence) -> None:
    assert documents.evidence(json.loads(json.dumps([evidence_document(found)]))) == (found,)


@given(triages)
def test_triage_comes_back_as_it_was(answer: Triage) -> None:
    assert documents.triage(json.loads(json.dumps(triage_document(answer)))) == answer


@given(triages)
def test_a_triage_document_names_its_version(answer: Triage) -> None:
    assert triage_document(answer)["version"] == VERSION


def test_a_document_of_today_is_readable_as_it_stands_in_the_database() -> None:
    """The stored form is a promise to rows that exist; a change of it needs a new version and its reader."""
    found = Evidence(7, "drops every ten minutes", (Span(7, 38, 61),))
    answer = Triage(
        category="network",
        priority="p3",
        fields={"problem": IntakeField("present", found), "contact": IntakeField("missing")},
        rules=(RuleHit("security_incident", found),),
        ask=("How can we reach you?",),
    )
    stored = {"line": 7, "quote": "drops every ten minutes", "spans": [[7, 38, 61]]}
    assert triage_document(answer) == {
        "version": 1,
        "category": "network",
        "priority": "p3",
        "fields": {
            "problem": {"state": "present", "evidence": stored},
            "contact": {"state": "missing", "evidence": None},
        },
        "rules": [{"rule": "security_incident", "evidence": stored}],
        "ask": ["How can we reach you?"],
    }


@pytest.mark.parametrize("quote", ["naïve “quotes” and 漢字 🎫", 'back\\slash " and \u2028 separators', ""])
def test_triage_survives_postgres(session: Session, quote: str) -> None:
    found = Evidence(1, quote, (Span(1, 0, len(quote)),))
    answer = Triage("network", "p3", {"problem": IntakeField("present", found)}, (RuleHit("vip", found),), (quote,))
    row = make_triage(session, first_revision(session), answer=triage_document(answer))
    session.expire(row)
    assert documents.triage(session.scalars(select(tables.Triage)).one().answer) == answer


def test_findings_become_rows_that_pin_the_words_of_their_criterion(session: Session) -> None:
    rubric = shipped_context().rubric
    first, second, *_ = rubric.judged
    quoted = Evidence(9, "Replaced the expired client certificate", (Span(9, 0, 39),))
    findings = (
        Finding(first.id, "judged", "partly", HARD, (quoted, Evidence(10)), evidence_status="verified"),
        Finding(second.id, "judged", "not_met", "Nothing of it.", absent=True, evidence_status="absent"),
    )
    make_context(session)
    case = read_case(session, first_revision(session).id, None)
    assert case is not None
    judgement = Judgement(Verdict("fail", 50.0, ("it says so",)), findings, None)
    record(session, case, judgement, panel="none", demonstration=False)
    rows = {row.criterion: row for row in session.scalars(select(tables.Finding))}
    assert {row.text_hash for row in rows.values()} == {first.text_hash, second.text_hash}
    assert tuple(documents.finding(rows[finding.criterion]) for finding in findings) == findings


def test_a_revision_comes_back_as_it_was() -> None:
    entry = {"author_role": "agent", "body": "The password: Tr0ub4dor&3xyz", "minutes": 12.5}
    before = revision(entries=[entry], events=[{"at": None, "from": "open", "to": "closed"}], extra={"a": [1, None]})
    assert before.masked
    stored = json.loads(json.dumps(revision_document(before)))
    after = documents.revision(stored)
    assert (after, after.hash, after.intake_hash) == (before, before.hash, before.intake_hash)
    assert stored["version"] == VERSION
    assert not documents.removed(stored)


def test_context_files_come_back_byte_for_byte() -> None:
    files = dict(shipped_context().files) | {"qc.md": "\ufeff# é\r\n"}
    assert documents.context_files(json.loads(json.dumps(documents.context_document(files)))) == files
