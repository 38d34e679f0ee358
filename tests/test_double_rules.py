"""What the double refuses, seen through the real SDK: as strict as the API, or tests against it prove nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from anthropic import BadRequestError, ContentTooLargeError, NotFoundError  # noqa: TID251  what the SDK makes of it

from tests.double.caller import BODY, GONE, HAIKU_4, SONNET, Caller, block, calling, closed, formatted, user
from tests.double.validate import described_problem, named_problem, typed_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.double.models import Json

TOOL: Json = {"name": "answer", "input_schema": {"type": "object"}}
FORCED: Json = {"type": "tool", "name": "answer"}
TURN: Json = {"role": "user", "content": "Hello"}
CITED: Json = {
    **block("as the manual says"),
    "citations": [
        {
            "type": "char_location",
            "cited_text": "manual",
            "document_index": 0,
            "document_title": None,
            "start_char_index": 7,
            "end_char_index": 13,
        }
    ],
}
PREFILL: Json = {"role": "assistant", "content": "{"}


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    with calling() as made:
        yield made


BAD: dict[str, tuple[Json, str]] = {
    "no max_tokens": ({"max_tokens": GONE}, "max_tokens: Field required"),
    "no messages": ({"messages": GONE}, "messages: Field required"),
    "no model": ({"model": GONE}, "model: Field required"),
    "max_tokens as text": ({"max_tokens": "400"}, "max_tokens: "),
    "negative max_tokens": ({"max_tokens": -1}, "max_tokens: "),
    "max_tokens above the model's": ({"max_tokens": 128_001}, "max_tokens: 128001 > 128000"),
    "temperature": ({"temperature": 1}, "temperature: Extra inputs are not permitted"),
    "top_p": ({"top_p": 1}, "top_p: Extra inputs are not permitted"),
    "top_k": ({"top_k": 5}, "top_k: Extra inputs are not permitted"),
    "the old output_format": ({"output_format": {}}, "output_format: Extra inputs are not permitted"),
    "a header's parameter in the body": ({"workspace_id": "w"}, "workspace_id: Extra inputs are not permitted"),
    "no message at all": ({"messages": []}, "messages: at least one message is required"),
    "the assistant begins": ({"messages": [PREFILL, TURN]}, 'first message must use the "user" role'),
    "prefill": ({"messages": [TURN, PREFILL]}, "does not support assistant message prefill"),
    "an unknown role": ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role: "),
    "an empty message": ({"messages": user("")}, "messages.0: user messages must have non-empty content"),
    "only white space": ({"messages": user(" \n")}, "text content blocks must contain non-whitespace text"),
    "a message of no blocks": ({"messages": [{"role": "user", "content": []}]}, "must have non-empty content"),
    "a block without text": (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages.0.content.0.text: Field required",
    ),
    "an unknown block": ({"messages": [{"role": "user", "content": [{"type": "sound"}]}]}, "messages.0.content.0"),
    "an extra key in a block": (
        {"messages": [{"role": "user", "content": [{**block("x"), "bold": True}]}]},
        "messages.0.content.0.bold: Extra inputs are not permitted",
    ),
    "an empty system block": ({"system": [block("")]}, "system.0.text"),
    "citations of a user": (
        {"messages": [{"role": "user", "content": [CITED]}]},
        "citations are not permitted in user text blocks",
    ),
    "thinking with a budget": (
        {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000},
        '"thinking.type.enabled" is not supported for this model',
    ),
    "a budget below the least": ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking"),
    "an unknown way of thinking": ({"thinking": {"type": "hard"}}, "thinking"),
    "no thinking at xhigh": ({"output_config": {"effort": "xhigh"}}, '"disabled" is not supported at effort "xhigh"'),
    "no thinking at max": ({"output_config": {"effort": "max"}}, '"disabled" is not supported at effort "max"'),
    "an unknown effort": ({"output_config": {"effort": "minimal"}}, "output_config.effort"),
    "Sonnet with thinking disabled": ({"model": SONNET}, 'send "thinking": {"type": "between_tools"} instead'),
    "Sonnet between tools at max": (
        {"model": SONNET, "thinking": {"type": "between_tools"}, "output_config": {"effort": "max"}},
        '"between_tools" is not supported at effort "max"',
    ),
    "Sonnet with a forced tool": (
        {"model": SONNET, "thinking": GONE, "tools": [TOOL], "tool_choice": FORCED},
        'tool_choice: type "tool" and "any" are not supported for this model',
    ),
    "Sonnet with any tool": (
        {"model": SONNET, "thinking": GONE, "tools": [TOOL], "tool_choice": {"type": "any"}},
        'tool_choice: type "tool" and "any" are not supported for this model',
    ),
    "Haiku 4.5 with an effort": ({"model": HAIKU_4, "output_config": {"effort": "low"}}, "effort parameter"),
    "Haiku 4.5 thinking adaptively": (
        {"model": HAIKU_4, "thinking": {"type": "adaptive"}},
        '"thinking.type.adaptive" is not supported for this model',
    ),
    "Haiku 4.5 with a budget over max_tokens": (
        {"model": HAIKU_4, "thinking": {"type": "enabled", "budget_tokens": 1024}},
        "`max_tokens` must be greater than `thinking.budget_tokens`",
    ),
    "Haiku 4.5 prefilled with a format": (
        {"model": HAIKU_4, "messages": [TURN, PREFILL], "output_config": formatted(closed())},
        "not compatible with assistant message prefill",
    ),
    "an unknown tool forced": (
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}},
        "Tool 'other' not found in provided tools",
    ),
    "a choice without tools": ({"tool_choice": FORCED}, "tool_choice: may only be specified while providing tools"),
    "two tools of one name": ({"tools": [TOOL, TOOL]}, "Tool names must be unique"),
    "a tool without a schema": ({"tools": [{"name": "answer"}]}, "tools.0"),
    "a tool's name with a space": ({"tools": [{**TOOL, "name": "the answer"}]}, "tools.0"),
    "five breakpoints": ({"system": [block("x", "5m")] * 5}, "A maximum of 4 blocks with cache_control"),
    "four breakpoints and the automatic one": (
        {"system": [block("x", "5m")] * 4, "cache_control": {"type": "ephemeral"}},
        "A maximum of 4 blocks with cache_control",
    ),
    "a time to live of ten minutes": ({"system": [block("x", "10m")]}, "cache_control.ttl"),
    "an hour after five minutes": (
        {"system": [block("x", "5m"), block("y", "1h")]},
        "a ttl='1h' block must not come after a ttl='5m' block",
    ),
    "a format of another type": ({"output_config": {"format": {"type": "json", "schema": {}}}}, "output_config.format"),
    "a format without a schema": ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format"),
    "warming with a format": (
        {"max_tokens": 0, "output_config": formatted(closed())},
        "max_tokens: 0 (cache pre-warming) is not supported together with output_config.format",
    ),
    "warming with a forced tool": (
        {"max_tokens": 0, "tools": [TOOL], "tool_choice": FORCED},
        "is not supported together with a forced tool_choice",
    ),
    "an empty stop sequence": ({"stop_sequences": [" "]}, "stop_sequences: each stop sequence"),
    "an unknown place": ({"inference_geo": "mars"}, "inference_geo"),
    "an unknown tier": ({"service_tier": "batch"}, "service_tier"),
    "fast": ({"speed": "fast"}, "speed: fast mode is not supported"),
    "an unknown speed": ({"speed": "slow"}, "speed"),
    "an unknown diagnosis": ({"diagnostics": {"why": "x"}}, "diagnostics.why: Extra inputs are not permitted"),
    "streaming": ({"stream": True}, "the double does not stream"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_body_is_a_400_that_names_the_field(name: str, caller: Caller) -> None:
    changes, message = BAD[name]
    with pytest.raises(BadRequestError) as caught:
        caller.send(**changes)
    assert caught.value.type == "invalid_request_error"
    assert message in str(caught.value.api_message)
    assert caught.value.request_id == caught.value.response.json()["request_id"]


GOOD: dict[str, Json] = {
    "the least": {},
    "thinking as it comes": {"thinking": GONE},
    "thinking adaptively": {"thinking": {"type": "adaptive", "display": "summarized"}},
    **{f"no thinking at {effort}": {"output_config": {"effort": effort}} for effort in ("low", "medium", "high")},
    "adaptive at max": {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
    "Sonnet between tools": {"model": SONNET, "thinking": {"type": "between_tools"}},
    "Haiku 4.5 prefilled": {"model": HAIKU_4, "messages": [TURN, PREFILL]},
    "Haiku 4.5 with a budget": {
        "model": HAIKU_4,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "max_tokens": 2000,
    },
    "a forced tool on Haiku": {"tools": [TOOL], "tool_choice": FORCED},
    "an hour before five minutes": {"system": [block("x", "1h"), block("y", "5m")]},
    "speed and diagnostics": {"speed": "standard", "diagnostics": {"previous_message_id": None}},
    "everything else": {
        "metadata": {"user_id": "u"},
        "service_tier": "standard_only",
        "inference_geo": "us",
        "stop_sequences": ["END"],
        "system": "Be brief.",
    },
}


@pytest.mark.parametrize("name", GOOD)
def test_what_the_api_accepts_is_accepted(name: str, caller: Caller) -> None:
    assert caller.send(**GOOD[name]).role == "assistant"


@pytest.mark.parametrize("model", ["claude-haiku-9", "claude-sonnet-4-20250514"])
def test_an_unknown_or_retired_model_is_a_404(model: str, caller: Caller) -> None:
    with pytest.raises(NotFoundError, match=f"model: {model}") as caught:
        caller.send(model=model)
    assert caught.value.type == "not_found_error"


def test_a_body_over_32_mb_is_a_413(caller: Caller) -> None:
    with pytest.raises(ContentTooLargeError):
        caller.send(messages=user("x" * (32 * 1024 * 1024)))
    assert caller.send().stop_reason == "end_turn"


def test_a_prompt_over_the_models_context_is_a_400(caller: Caller) -> None:
    with pytest.raises(BadRequestError, match="prompt is too long: 200001 tokens > 200000 maximum"):
        caller.send(model=HAIKU_4, messages=user("x" * 620_001))
    assert caller.send(model=HAIKU_4, messages=user("x" * 620_000)).usage.input_tokens == 200_000


def test_a_real_call_with_every_parameter_of_ours_passes(caller: Caller) -> None:
    reply = caller.client.messages.create(
        model=SONNET,
        max_tokens=400,
        system=[{"type": "text", "text": "Judge.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        messages=[{"role": "user", "content": "1| Printer is broken since Monday"}],
        thinking={"type": "between_tools"},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": closed(ok={"type": "boolean"})}},
    )
    assert reply.content[0].type == "text"


# Each layer alone, because one of them catching a body hides that another no longer does.

SPEC: dict[str, Json] = {
    "sampling": {"temperature": 1.0},
    "unknown key": {"output_format": {}},
    "unknown thinking": {"thinking": {"type": "hard"}},
    "unknown speed": {"speed": "slow"},
    "unknown diagnosis": {"diagnostics": {"why": "x"}},
    "empty text": {"messages": [{"role": "user", "content": [block("")]}]},
}
TYPES: dict[str, Json] = {
    "unknown effort": {"output_config": {"effort": "minimal"}},
    "unknown thinking": {"thinking": {"type": "hard"}},
    "unknown speed": {"speed": "slow"},
    "unknown ttl deep in a lazy list": {"system": [block("x"), block("x", "10m")]},
    "a bad block deep in a lazy list": {
        "messages": [TURN, {"role": "user", "content": [block("x"), {"type": "text"}]}]
    },
    "a bad tool in a lazy list": {"tools": [TOOL, {"name": "x"}]},
}
VALID: dict[str, Json] = {
    "between_tools": {"thinking": {"type": "between_tools"}},
    "speed": {"speed": "fast"},
    "diagnostics": {"diagnostics": {"previous_message_id": "msg_1"}},
}


@pytest.mark.parametrize("name", SPEC)
def test_the_published_description_alone_refuses(name: str) -> None:
    assert described_problem({**BODY, **SPEC[name]}, "messages")


@pytest.mark.parametrize("name", TYPES)
def test_the_sdks_types_alone_refuse_lazy_lists_too(name: str) -> None:
    assert typed_problem({**BODY, **TYPES[name]}, "messages")


@pytest.mark.parametrize("name", VALID)
def test_what_is_newer_than_the_description_was_patched_in(name: str) -> None:
    body = {**BODY, **VALID[name]}
    problems: list[Any] = [check(body, "messages") for check in (described_problem, typed_problem, named_problem)]
    assert problems == [None, None, None]


def test_names_that_create_cannot_send_are_refused() -> None:
    assert named_problem({**BODY, "top_k": 1}, "messages") == "top_k: Extra inputs are not permitted"
    assert named_problem(BODY, "messages") is None
    assert named_problem(BODY, "count_tokens") == "max_tokens: Extra inputs are not permitted"
