"""What the double says by itself: answers that fit any schema, and real evidence for our own two questions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import qc, triage
from tests.cast import MODEL, nonce_for, revision, shipped_context
from tests.double import Answer, Fault
from tests.double.answers import answer, recognise, ticket_lines
from tests.double.caller import Caller, calling, closed, formatted, text_of, user
from tests.double.instances import instance
from tests.double.prompt import tokens_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agents.question import Question
    from agents.ticket import Revision
    from tests.double.answers import AnswerKind
    from tests.double.models import Json


@pytest.fixture(scope="module")
def shared() -> Iterator[Caller]:
    with calling() as made:
        yield made


@pytest.fixture
def caller(shared: Caller) -> Caller:
    shared.double.reset()
    return shared


def asked_of(agent: Any, ticket: Revision, **more: object) -> Question:  # noqa: ANN401  the module of an agent
    question: Question = agent.question(ticket, shipped_context(), model=MODEL, nonce_for=nonce_for, **more)
    return question


def said(question: Question, kind: AnswerKind = "three_not_met") -> str:
    return answer({"messages": user(question.turns[0].text)}, dict(question.schema), kind=kind)


# --- any schema

SCHEMAS: st.SearchStrategy[Json] = st.recursive(
    st.sampled_from(
        [
            {"type": "string"},
            {"type": "string", "format": "date"},
            {"type": "integer"},
            {"type": "number"},
            {"type": "boolean"},
            {"type": "null"},
            {"enum": ["a", 2, None]},
            {"const": "c"},
            {"type": ["string", "null"]},
            {"$ref": "#/$defs/shared"},
        ]
    ),
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("abcd"), inner, max_size=3).map(lambda parts: closed(**parts)),
        inner.map(lambda items: {"type": "array", "items": items, "minItems": 1}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"anyOf": parts}),
    ),
    max_leaves=8,
)


@given(schema=SCHEMAS, seed=st.text(max_size=5))
def test_an_instance_fits_its_schema_and_is_the_same_for_the_same_seed(schema: Json, seed: str) -> None:
    whole = {**closed(answer=schema), "$defs": {"shared": closed(x={"type": "integer"})}}
    made = instance(whole, seed=seed)
    jsonschema.validate(made, whole)
    assert instance(whole, seed=seed) == made


def test_any_structured_request_gets_an_answer_that_fits(caller: Caller) -> None:
    schema = closed(name={"type": "string"}, tags={"type": "array", "items": {"enum": ["x", "y"]}})
    first, second = (text_of(caller.send(output_config=formatted(schema))) for _ in range(2))
    jsonschema.validate(json.loads(first), schema)
    assert first == second


def test_a_request_without_a_schema_gets_words(caller: Caller) -> None:
    assert text_of(caller.send()) == "Understood."


# --- our own questions


def test_our_questions_are_recognised() -> None:
    assert recognise(dict(asked_of(qc, revision(), triage=None).schema)) == "qc"
    assert recognise(dict(asked_of(triage, revision()).schema)) == "triage"
    assert recognise(closed(findings={"type": "string"})) == "other"
    assert recognise(None) == "other"


def test_the_qc_answer_judges_every_criterion_with_three_not_met_and_real_quotes() -> None:
    ticket = revision()
    question = asked_of(qc, ticket, triage=None)
    text = said(question)
    made = json.loads(text)
    jsonschema.validate(made, dict(question.schema))
    assert set(made["findings"]) == {criterion.id for criterion in shipped_context().rubric.judged}
    short = [finding for finding in made["findings"].values() if finding["result"] == "not_met"]
    assert len(short) == 3
    work = made["findings"]["work_performed"]
    assert work["result"] == "met"
    for finding in [*short, work]:
        assert finding["quote"] in ticket.lines[finding["lines"][0] - 1].text
        assert 3 <= len(finding["quote"].split()) <= 12
    assert all(finding["reason"] for finding in short)
    assert "\n" not in text
    assert '": ' not in text


def test_the_product_verifies_every_quote_of_the_default_answers() -> None:
    ticket, context = revision(), shipped_context()

    def ask(question: Question) -> Any:  # noqa: ANN401  the product's own Reply
        return _reply(said(question), question)

    judged, observations = qc.qc(ticket, context, ask=ask, model=MODEL, nonce_for=nonce_for, triage=None)
    assert isinstance(judged, qc.Qc)
    assert observations == ()
    assert sum(finding.result == "not_met" for finding in judged.findings) == 3
    assert {finding.evidence_status for finding in judged.findings} <= {"verified", None}


def _reply(text: str, question: Question) -> Any:  # noqa: ANN401  the product's own Reply
    from agents.question import Reply, Usage  # noqa: PLC0415  only this test needs them

    return Reply(text=text, outcome="answered", stop_reason="end_turn", usage=Usage(), model=question.model)


def test_the_triage_answer_takes_the_tickets_own_fields_and_real_words() -> None:
    ticket = revision()
    question = asked_of(triage, ticket)
    made = json.loads(said(question))
    jsonschema.validate(made, dict(question.schema))
    assert made["category"] == "network"
    assert made["contact"] == {"line": 0, "quote": ""}
    assert len(made["ask"]) == 1
    for name in ("problem", "affected", "impact"):
        assert made[name]["quote"] in ticket.intake_lines[made[name]["line"] - 1].text


def test_answers_are_as_short_as_the_product_budgets_them() -> None:
    long = revision(
        description="The scanner on the second floor sends empty pages to every mailbox since the move.\n" * 9
    )
    assert 250 <= tokens_of(len(said(asked_of(qc, long, triage=None)))) <= 380
    assert 90 <= tokens_of(len(said(asked_of(triage, long)))) <= 150


def test_other_kinds_of_answer() -> None:
    question = asked_of(qc, revision(), triage=None)
    met = json.loads(said(question, "all_met"))["findings"].values()
    assert {finding["result"] for finding in met} == {"met"}
    false = json.loads(said(question, "false_quote"))["findings"].values()
    quotes = {finding["quote"] for finding in false} - {""}
    assert quotes
    assert not any(quote in line.text for quote in quotes for line in revision().lines)


def test_a_ticket_without_a_quotable_line_is_absent_rather_than_quoted() -> None:
    question = asked_of(qc, revision(), triage=None)
    made = json.loads(answer({"messages": user("Judge this ticket.")}, dict(question.schema)))
    assert sorted({finding["result"] for finding in made["findings"].values()}) == ["absent", "met"]


def test_ticket_lines_are_read_as_they_are_numbered() -> None:
    text = "<ticket-text x>\n[subject]\n1| No sound\n2| | a pipe\n12|\n3| 4| nested\n1| again\n</ticket-text x>"
    assert ticket_lines(text) == [(1, "No sound"), (2, "| a pipe"), (3, "4| nested")]


# --- scripted


def test_a_scripted_answer_is_said_as_it_is(caller: Caller) -> None:
    caller.double.answer_with(lambda body: f"You said: {body['messages'][0]['content']}")
    try:
        assert text_of(caller.send()) == "You said: Hello"
    finally:
        caller.double.answer_with(None)


def test_a_scripted_stop_reason(caller: Caller) -> None:
    caller.double.answer_with(lambda _: Answer('{"a"', "pause_turn"))
    try:
        assert caller.send().stop_reason == "pause_turn"
    finally:
        caller.double.answer_with(None)


def test_a_stop_sequence_ends_the_text_before_it(caller: Caller) -> None:
    reply = caller.send(stop_sequences=["stood", "nothing"])
    assert (text_of(reply), reply.stop_reason, reply.stop_sequence) == ("Under", "stop_sequence", "stood")


def test_a_forced_tool_is_called_with_input_that_fits(caller: Caller) -> None:
    schema = closed(ok={"type": "boolean"})
    forced = {"tools": [{"name": "answer", "input_schema": schema}], "tool_choice": {"type": "tool", "name": "answer"}}
    reply = caller.send(**forced)
    assert reply.stop_reason == "tool_use"
    (call,) = reply.content
    assert call.type == "tool_use"
    jsonschema.validate(call.input, schema)
    caller.double.fault(Fault("truncate"))
    cut = caller.send(**forced)
    assert (cut.stop_reason, cut.content[0].type == "tool_use" and cut.content[0].input) == ("max_tokens", {})
