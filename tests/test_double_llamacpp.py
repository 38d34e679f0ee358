"""The lenient profile: what a llama.cpp server makes of the same calls; nothing of the vendor's is granted there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx2
import pytest
from anthropic import APIStatusError, BadRequestError, InternalServerError, NotFoundError  # noqa: TID251  as the SDK sees it

from tests.double import Fault
from tests.double.caller import GONE, Caller, block, calling, client_of, closed, formatted, text_of, user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.double.models import Json

SCHEMA = closed(ok={"type": "boolean"})
FORCED: Json = {
    "tools": [{"name": "answer", "input_schema": SCHEMA}],
    "tool_choice": {"type": "tool", "name": "answer", "disable_parallel_tool_use": True},
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Caller]:
    with calling(profile="llamacpp") as made:
        yield made


@pytest.fixture
def caller(shared: Caller) -> Caller:
    shared.double.reset()
    return shared


def test_a_format_is_ignored_so_the_answer_is_talk(caller: Caller) -> None:
    reply = caller.send(output_config=formatted(SCHEMA))
    with pytest.raises(json.JSONDecodeError):
        json.loads(text_of(reply))
    assert reply.stop_reason == "end_turn"


def test_a_forced_tool_is_called(caller: Caller) -> None:
    reply = caller.send(**FORCED)
    (call,) = reply.content
    assert call.type == "tool_use"
    assert (reply.stop_reason, call.name, list(call.input)) == ("tool_use", "answer", ["ok"])
    assert not call.id.startswith("toolu_")
    assert not reply.id.startswith("msg_")


def test_a_call_that_was_cut_carries_no_input(caller: Caller) -> None:
    reply = caller.send(**FORCED, max_tokens=2)
    (call,) = reply.content
    assert (reply.stop_reason, call.type == "tool_use" and call.input) == ("max_tokens", {})


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.2, "top_k": 1, "whatever": True},
        {"thinking": {"type": "enabled", "budget_tokens": 1}},
        {"system": [block("x", "5m")] * 9},
        {"model": "any-name-at-all"},
        {"max_tokens": GONE},
        {"output_config": formatted({"type": "object"})},
        {"messages": [*user("Hello"), {"role": "assistant", "content": "{"}]},
    ],
    ids=["unknown keys", "thinking", "breakpoints", "model", "no limit", "schema", "prefill"],
)
def test_what_the_vendor_refuses_is_taken_without_a_word(changes: Json, caller: Caller) -> None:
    assert caller.send(**changes).stop_reason == "end_turn"


def test_no_key_is_needed(caller: Caller) -> None:
    with client_of(caller.double, key="anything") as other:
        assert Caller(caller.double, other).send().role == "assistant"


def test_the_cache_is_the_longest_common_start_and_usage_says_so(caller: Caller) -> None:
    system = "s" * 3100
    first = caller.send(system=system, messages=user("one")).usage
    second = caller.send(system=system, messages=user("two")).usage
    assert first.cache_read_input_tokens == 0
    assert 1000 <= (second.cache_read_input_tokens or 0) < 1020
    assert second.cache_creation is None
    assert second.input_tokens + (second.cache_read_input_tokens or 0) == first.input_tokens


def test_two_agents_keep_a_slot_each(caller: Caller) -> None:
    reads = [caller.send(system=letter * 3100).usage.cache_read_input_tokens or 0 for letter in "abab"]
    assert max(reads[:2]) < 10  # what every prompt starts with
    assert min(reads[2:]) > 1000


def test_errors_lack_the_outer_type(caller: Caller) -> None:
    with pytest.raises(BadRequestError) as caught:
        caller.send(messages=GONE)
    body = caught.value.response.json()
    assert body.keys() == {"error"}
    assert (body["error"]["code"], body["error"]["message"]) == (400, "'messages' is required")


def test_faults_work_here_too(caller: Caller) -> None:
    caller.double.fault(Fault("server_error", at=(0,)), Fault("truncate", at=(1,)))
    with pytest.raises(InternalServerError):
        caller.send()
    assert caller.send(**FORCED).stop_reason == "max_tokens"


def test_health_and_calls_say_that_the_model_is_loading(caller: Caller) -> None:
    health = f"{caller.double.base_url}/health"
    assert httpx2.get(health).json() == {"status": "ok"}
    caller.double.loading(yes=True)
    assert httpx2.get(health).status_code == 503
    with pytest.raises(APIStatusError, match="Loading model") as caught:
        caller.send()
    assert caught.value.status_code == 503


def test_counting_and_listing_but_no_look_up(caller: Caller) -> None:
    count = caller.client.messages.count_tokens(model="any", messages=[{"role": "user", "content": "Hello"}])
    assert count.input_tokens > 0
    assert len(httpx2.get(f"{caller.double.base_url}/v1/models").json()["data"]) == 1
    with pytest.raises(NotFoundError):
        caller.client.models.retrieve("local.gguf")
