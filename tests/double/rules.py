"""What the API refuses although its shape is right: turns, thinking, tools, caching, limits, by model.

Each rule says where a caller would have to look; the wording follows the real one where that is known.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from tests.double.grammar import check_grammar
from tests.double.messages import ApiError, invalid
from tests.double.models import EFFORTS_WITHOUT_THINKING, MODELS, THINKING_OFF, Json, Model
from tests.double.prompt import Prompt, output_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BREAKPOINTS = 4
FORCED = frozenset({"tool", "any"})


def check_model(body: Json) -> Model:
    """The model that was named, or 404: unknown and retired ones are answered alike."""
    model = MODELS.get(body["model"])
    if model is None or model.lifecycle == "retired":
        raise ApiError(404, "not_found_error", f"model: {body['model']}")
    return model


def check_message(body: Json, model: Model, prompt: Prompt) -> None:
    """Everything that `POST /v1/messages` refuses with a 400 beyond the body's shape."""
    if body.get("stream"):
        raise invalid("stream: the double does not stream; leave it out or send false")
    check_count(body, model)
    _check_limits(body, model)
    _check_warming(body)
    if prompt.tokens > model.context:
        raise invalid(f"prompt is too long: {prompt.tokens} tokens > {model.context} maximum")


def check_count(body: Json, model: Model) -> None:
    """What counting refuses as well."""
    _check_turns(body, model)
    _check_texts(body)
    _check_thinking(body, model)
    _check_tools(body, model)
    _check_breakpoints(body)
    if (schema := output_schema(body)) is not None:
        check_grammar(schema)


# --- turns and texts


def _check_turns(body: Json, model: Model) -> None:
    turns = body["messages"]
    if not turns:
        raise invalid("messages: at least one message is required")
    if turns[0]["role"] != "user":
        raise invalid('messages: first message must use the "user" role')
    if turns[-1]["role"] == "assistant":
        if not model.prefill:
            raise invalid(
                "This model does not support assistant message prefill. The conversation must end with a user message."
            )
        if output_schema(body) is not None:
            raise invalid("output_config.format: not compatible with assistant message prefill")


def _check_texts(body: Json) -> None:
    for number, turn in enumerate(body["messages"]):
        if not turn["content"]:
            raise invalid(f"messages.{number}: {turn['role']} messages must have non-empty content")
        for block in _blocks(turn["content"]):
            _check_block(block, turn["role"], f"messages.{number}.content")
    for block in _blocks(body.get("system") or ()):
        _check_block(block, "system", "system")


def _check_block(block: Json, role: str, where: str) -> None:
    kind = block.get("type")
    if kind == "text" and not block["text"].strip():
        raise invalid(f"{where}: text content blocks must contain non-whitespace text")
    if kind == "text" and role == "user" and block.get("citations"):
        raise invalid(f"{where}: citations are not permitted in user text blocks")
    if kind == "document" and role == "assistant":
        raise invalid(f"{where}: document blocks are not permitted in assistant messages")


def _blocks(content: str | list[Json] | tuple[()]) -> list[Json]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


# --- thinking and effort


def _check_thinking(body: Json, model: Model) -> None:
    effort = (body.get("output_config") or {}).get("effort")
    if effort is not None and effort not in model.efforts:
        raise invalid("This model does not support the effort parameter.")
    thinking = body.get("thinking")
    if thinking is None:
        return
    kind = thinking["type"]
    if kind not in model.thinking:
        raise invalid(_no_such_thinking(kind, model))
    if kind in THINKING_OFF and (effort or model.default_effort) not in EFFORTS_WITHOUT_THINKING:
        raise invalid(f'thinking: "{kind}" is not supported at effort "{effort}"; use high or lower')
    if kind == "enabled" and "max_tokens" in body and thinking["budget_tokens"] >= body["max_tokens"]:
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`")


def _no_such_thinking(kind: str, model: Model) -> str:
    said = f'"thinking.type.{kind}" is not supported for this model.'
    if kind == "disabled" and "between_tools" in model.thinking:
        return (
            f'{said} To turn thinking off on this model, send "thinking": {{"type": "between_tools"}} instead of'
            ' {"type": "disabled"}.'
        )
    if kind == "enabled":
        return f'{said} Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
    return f"{said} It takes {' or '.join(sorted(model.thinking))}."


# --- tools


def _check_tools(body: Json, model: Model) -> None:
    tools = body.get("tools") or []
    names = [tool.get("name") for tool in tools]
    if len(set(names)) < len(names):
        raise invalid("tools: Tool names must be unique.")
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not tools:
        raise invalid("tool_choice: may only be specified while providing tools")
    if choice["type"] in FORCED:
        if not model.forced_tools:
            raise invalid('tool_choice: type "tool" and "any" are not supported for this model.')
        if (body.get("thinking") or {}).get("type") == "enabled":
            raise invalid("tool_choice: Thinking may not be enabled when tool_choice forces tool use.")
    if choice["type"] == "tool" and choice["name"] not in names:
        raise invalid(f"tool_choice: Tool '{choice['name']}' not found in provided tools")


# --- caching


def _check_breakpoints(body: Json) -> None:
    ttls = list(_ttls(body))
    if len(ttls) > MOST_BREAKPOINTS:
        raise invalid(f"A maximum of 4 blocks with cache_control may be provided. Found {len(ttls)}.")
    for earlier, later in pairwise(ttls):
        if (earlier, later) == ("5m", "1h"):
            raise invalid("cache_control: a ttl='1h' block must not come after a ttl='5m' block")


def _ttls(body: Json) -> Iterator[str]:
    """The breakpoints' times to live in the order in which the prompt is cached."""
    contents = [body.get("tools") or (), body.get("system") or (), *(turn["content"] for turn in body["messages"])]
    for content in contents:
        for block in _blocks(content):
            if block.get("cache_control"):
                yield block["cache_control"].get("ttl", "5m")
    if body.get("cache_control"):
        yield body["cache_control"].get("ttl", "5m")


def _check_warming(body: Json) -> None:
    """max_tokens 0 fills the cache and answers nothing, so nothing that shapes an answer goes with it."""
    if body["max_tokens"] != 0:
        return
    refused = {
        "output_config.format": output_schema(body) is not None,
        "thinking.type.enabled": (body.get("thinking") or {}).get("type") == "enabled",
        "a forced tool_choice": (body.get("tool_choice") or {}).get("type") in FORCED,
    }
    for what, is_there in refused.items():
        if is_there:
            raise invalid(f"max_tokens: 0 (cache pre-warming) is not supported together with {what}")


# --- limits


def _check_limits(body: Json, model: Model) -> None:
    if body["max_tokens"] > model.max_output:
        raise invalid(
            f"max_tokens: {body['max_tokens']} > {model.max_output}, which is the maximum allowed number of output"
            f" tokens for {model.id}"
        )
    if any(not stop.strip() for stop in body.get("stop_sequences") or ()):
        raise invalid("stop_sequences: each stop sequence must contain non-whitespace")
    if body.get("inference_geo") not in {None, "us", "global"}:
        raise invalid(f"inference_geo: {body['inference_geo']!r} is not one of us, global")
    if body.get("speed") == "fast":
        raise invalid("speed: fast mode is not supported for this model")
