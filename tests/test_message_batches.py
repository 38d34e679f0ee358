"""Batches through the gateway, against the double's endpoints over real HTTP."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from agents.gateway import CallFailed, Endpoint, Gateway
from agents.message_batches import NO_MESSAGE, UNREADABLE, MessageBatches
from agents.question import Turn
from tests.cast import MODEL
from tests.double import BatchPlan, Double, Fault, running
from tests.test_gateway import gateway, qc_question, triage_question

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agents.question import Question


@pytest.fixture(scope="module")
def shared() -> Iterator[Double]:
    with running() as server:
        yield server


@pytest.fixture
def double(shared: Double) -> Double:
    shared.reset()
    return shared


def questions(count: int) -> list[Question]:
    return [replace(qc_question(), repetition=number) for number in range(count)]


def test_a_batch_brings_the_replies_that_live_calls_bring(double: Double) -> None:
    asked = [*questions(3), triage_question()]
    speaker = gateway(double)
    made = speaker.batches.submit(asked)
    assert (made.ended, made.total, made.counts.processing) == (False, 4, 4)
    assert made.expires_at - made.created_at == timedelta(days=1)
    state = speaker.batches.look(made.id)
    assert (state.ended, state.counts.succeeded) == (True, 4)
    told = {result.custom_id: result for result in speaker.batches.results(made.id)}
    assert told.keys() == {question.key for question in asked}
    for question in asked:
        reply, live = told[question.key].reply, speaker.ask(question)
        assert reply is not None
        assert (reply.text, reply.outcome, reply.usage.output) == (live.text, live.outcome, live.usage.output)


def test_what_a_batch_sends_is_the_live_question_with_a_cache_of_an_hour(double: Double) -> None:
    speaker = gateway(double)
    speaker.ask(qc_question())
    speaker.batches.look(speaker.batches.submit([qc_question()]).id)
    live, batched = double.bodies
    assert batched["system"][-1].pop("cache_control") == {"type": "ephemeral", "ttl": "1h"}
    assert live["system"][-1].pop("cache_control") == {"type": "ephemeral"}
    assert live == batched


def test_primed_for_an_hour_every_request_reads_the_prefix(double: Double) -> None:
    speaker = gateway(double)
    primed = speaker.prime(qc_question(), ttl="1h").usage
    assert primed.cache_write_1h > 0 == primed.cache_write_5m
    made = speaker.batches.submit(questions(4))
    speaker.batches.look(made.id)
    for result in speaker.batches.results(made.id):
        assert result.reply is not None
        assert result.reply.usage.cache_read == primed.cache_write_1h


def test_each_kind_of_result_says_whether_asking_again_may_help(double: Double) -> None:
    double.batching(BatchPlan(errored=0.3, expired=0.3))
    speaker = gateway(double)
    asked = [*questions(30), replace(qc_question(), repetition=99, turns=(Turn("user", " "),))]
    made = speaker.batches.submit(asked)
    speaker.batches.look(made.id)
    told = {result.custom_id: result for result in speaker.batches.results(made.id)}
    bad = told.pop(asked[-1].key)
    assert {result.kind for result in told.values()} == {"succeeded", "errored", "expired"}
    assert not any(result.final for result in told.values())
    assert all((result.reply is not None) == (result.kind == "succeeded") for result in told.values())
    assert bad.kind == "expired" or (bad.final and "invalid_request_error" in bad.problem)


NOBODYS = ("<html>Bad gateway", "\x00", '{"custom_id":', "[" * 100_000, "null", "[]", "7", "{}", '{"custom_id":7}')


@pytest.mark.parametrize(
    ("spoilt", "problem", "final"),
    [
        ({}, UNREADABLE, False),
        ({"result": None}, UNREADABLE, False),
        ({"result": {"type": "postponed"}}, UNREADABLE, False),
        ({"result": {"type": ["succeeded"]}}, UNREADABLE, False),
        ({"result": {"type": "errored"}}, UNREADABLE, False),
        ({"result": {"type": "errored", "error": None}}, UNREADABLE, False),
        ({"result": {"type": "errored", "error": {"error": {"type": []}}}}, UNREADABLE, False),
        ({"result": {"type": "errored", "error": {"error": {"type": "api_error"}}}}, "api_error: ", False),
        (
            {"result": {"type": "errored", "error": {"error": {"type": "not_found_error", "message": "\0no"}}}},
            "not_found_error: no",
            True,
        ),
        ({"result": {"type": "succeeded"}}, UNREADABLE, False),
        ({"result": {"type": "succeeded", "message": "words"}}, NO_MESSAGE, False),
        ({"result": {"type": "succeeded", "message": {"content": "words"}}}, NO_MESSAGE, False),
        ({"result": {"type": "succeeded", "message": {"content": ["words"]}}}, NO_MESSAGE, False),
        ({"result": {"type": "succeeded", "message": {"content": [], "stop_reason": ["end_turn"]}}}, NO_MESSAGE, False),
        ({"result": {"type": "succeeded", "message": {"content": [], "usage": 7}}}, NO_MESSAGE, False),
    ],
)
def test_a_result_that_cannot_be_read_is_an_error_of_its_own_request(
    double: Double, spoilt: dict[str, Any], problem: str, *, final: bool
) -> None:
    double.batching(BatchPlan(spoilt=(json.dumps({"custom_id": "ID", **spoilt}),)))
    speaker = gateway(double)
    made = speaker.batches.submit(questions(3))
    speaker.batches.look(made.id)
    strange, *others = speaker.batches.results(made.id)
    assert strange.custom_id in {question.key for question in questions(3)}
    assert (strange.kind, strange.reply, strange.problem, strange.final) == ("errored", None, problem, final)
    assert [other.kind for other in others] == ["succeeded"] * 2


@pytest.mark.parametrize("spoilt", [*NOBODYS, '{"custom_id":"a\\u0000","result":{"type":"expired"}}'])
def test_a_line_that_does_not_say_whose_it_is_takes_nothing_from_the_others(double: Double, spoilt: str) -> None:
    """The SDK's own decoder ends at the first one that is not JSON."""
    double.batching(BatchPlan(spoilt=(spoilt, "", " ")))
    speaker = gateway(double)
    made = speaker.batches.submit(questions(5))
    speaker.batches.look(made.id)
    nobodys, *others = speaker.batches.results(made.id)
    assert (nobodys.custom_id, nobodys.reply) == ("", None)
    assert [other.kind for other in others] == ["succeeded"] * 2, "and an empty line says nothing"


def test_an_answer_without_any_line_that_says_whose_it_is_is_no_answer(double: Double) -> None:
    """A proxy's page must not end a batch that is paid for."""
    double.batching(BatchPlan(spoilt=NOBODYS))
    speaker = gateway(double)
    made = speaker.batches.submit(questions(len(NOBODYS)))
    speaker.batches.look(made.id)
    told = speaker.batches.results(made.id)
    with pytest.raises(CallFailed) as caught:
        assert not any(result.custom_id for result in told)
    assert (caught.value.code, caught.value.permanent) == ("server_error", False)


class Cut:
    """A proxy's answer that ends in the middle of a line as if that were its end."""

    def __init__(self, lines: Sequence[str], *, left: int) -> None:
        self.http_response = self
        self._bytes = "\n".join(lines).encode()[:-left]

    def results(self, _batch_id: str) -> Cut:
        return self

    def iter_bytes(self) -> Iterator[bytes]:
        yield self._bytes

    def close(self) -> None:
        """Nothing is open."""


def test_results_that_are_cut_off_are_read_again_and_not_taken_for_all(double: Double) -> None:
    lines = [json.dumps({"custom_id": str(number) * 64, "result": {"type": "expired"}}) for number in range(3)]
    speaker = gateway(double)
    told = MessageBatches(
        Cut(lines, left=9),
        request_of=lambda _: {},
        reply_of=lambda _: None,
        translated=speaker._batch_failures,  # noqa: SLF001
    ).results("msgbatch_1")
    assert [next(told).custom_id[0] for _ in range(2)] == ["0", "1"]
    with pytest.raises(CallFailed) as caught:
        next(told)
    assert not caught.value.permanent


@pytest.mark.parametrize("tokens", [10**20, -5, True, "7", 1.5])
def test_tokens_that_no_reply_can_have_are_none(double: Double, tokens: object) -> None:
    """They would not fit into the ledger, or take from what was spent."""
    usage = {"input_tokens": tokens, "output_tokens": 3}
    message = {"type": "message", "content": [], "model": MODEL, "stop_reason": "end_turn", "usage": usage}
    line = json.dumps({"custom_id": "0" * 64, "result": {"type": "succeeded", "message": message}})
    double.batching(BatchPlan(spoilt=(line,)))
    speaker = gateway(double)
    made = speaker.batches.submit(questions(1))
    speaker.batches.look(made.id)
    (told,) = speaker.batches.results(made.id)
    if told.reply is not None:  # or the SDK could not read it
        assert (told.reply.usage.input, told.reply.usage.output) == (0, 3)


def test_a_long_answer_arrives_whole_whatever_it_says(double: Double) -> None:
    """Its line comes in many pieces; what ends a line in a text ends none in a file of JSON lines."""
    long = "é\u2028\x85" * 20_000
    double.answer_with(lambda _: long)
    speaker = gateway(double)
    made = speaker.batches.submit([replace(qc_question(), max_tokens=128_000)])
    speaker.batches.look(made.id)
    (told,) = speaker.batches.results(made.id)
    assert told.reply is not None
    assert told.reply.text == long


def test_a_batch_that_was_taken_without_a_word_is_found_again(double: Double) -> None:
    speaker = gateway(double)
    double.fault(Fault("cut_before", agent="batch", times=1))
    with pytest.raises(CallFailed) as caught:
        speaker.batches.submit(questions(2))
    assert caught.value.possibly_billed
    (found,) = speaker.batches.recent(since=speaker.batches.look(double.batch_ids[0]).created_at)
    assert (found.id, found.total) == (double.batch_ids[0], 2)
    assert speaker.batches.recent(since=found.created_at + timedelta(seconds=1)) == []


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault("rate_limit", agent="batch", retry_after=7), "rate_limited"),
        (Fault("overloaded", agent="batch"), "overloaded"),
        (Fault("server_error", agent="batch"), "server_error"),
        (Fault("billing", agent="batch"), "billing"),
        (Fault("cut_middle", agent="batch"), "connection"),
    ],
)
def test_failures_of_the_endpoints_have_the_codes_of_any_call(fault: Fault, code: str, double: Double) -> None:
    speaker = gateway(double)
    made = speaker.batches.submit(questions(2))
    speaker.batches.look(made.id)
    double.fault(fault)
    for call in (
        lambda: speaker.batches.submit(questions(1)),
        lambda: speaker.batches.look(made.id),
        lambda: list(speaker.batches.results(made.id)),
    ):
        with pytest.raises(CallFailed) as caught:
            call()
        assert caught.value.code == code


def test_a_server_without_batches_is_not_a_server_without_the_model() -> None:
    with running(profile="llamacpp") as double:
        speaker = Gateway(Endpoint(double.key, double.base_url, mode="tool"))
        with pytest.raises(CallFailed) as caught:
            speaker.batches.submit(questions(1))
    assert (caught.value.code, caught.value.permanent, caught.value.stops_all) == ("bad_request", True, False)


def test_an_unknown_batch_does_not_stop_all_work(double: Double) -> None:
    with pytest.raises(CallFailed) as caught:
        gateway(double).batches.look("msgbatch_gone")
    assert not caught.value.stops_all


def test_the_size_is_no_less_than_what_is_sent(double: Double) -> None:
    speaker = gateway(double)
    asked = replace(qc_question(), turns=(Turn("user", "Grüße — ünïcode \U0001f600" * 50),))
    speaker.batches.look(speaker.batches.submit([asked]).id)
    entry: dict[str, Any] = {"custom_id": asked.key, "params": double.bodies[-1]}
    assert speaker.batches.size(asked) >= len(json.dumps(entry, ensure_ascii=False).encode())
