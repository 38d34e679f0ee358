"""The lenient profile: llama.cpp's server as it speaks this API.

It honours a forced tool and ignores `output_config.format`, `cache_control`, `thinking` and whatever it does not know,
without a word. It needs no key, its errors lack the outer `type`, its ids look different, and its prompt cache is real:
the longest common start with what a slot last held.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING

from tests.double.answers import prose, recognise
from tests.double.cache import CacheUse
from tests.double.messages import ApiError
from tests.double.prompt import compact, output_schema, tokens_of, user_text
from tests.double.state import State, asked_schema, json_response, parse, pick_tool

if TYPE_CHECKING:
    from tests.double.account import Call
    from tests.double.faults import Fault
    from tests.double.models import Json
    from tests.double.wire import Request, Response

SLOTS = 2  # one for each agent, as the product starts it
MODEL = "local.gguf"
DEFAULT_MAX_TOKENS = 4096
CODES = {"rate_limit_error": "unavailable_error", "overloaded_error": "unavailable_error", "api_error": "server_error"}


class LlamaCpp:
    """`/health`, `/v1/models`, `/v1/messages` and `/v1/messages/count_tokens`."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def handle(self, request: Request) -> Response | None:
        try:
            if (request.method, request.path) == ("POST", "/v1/messages"):
                return await self._message(request)
            return self._at_once(request)
        except ApiError as error:
            return _error(error)

    def _at_once(self, request: Request) -> Response:
        match request.method, request.path:
            case "GET", "/health":
                self._must_be_loaded()
                return json_response(200, {"status": "ok"})
            case "GET", "/v1/models":
                return json_response(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
            case "POST", "/v1/messages/count_tokens":
                self._must_be_loaded()
                return json_response(200, {"input_tokens": tokens_of(len(_rendered(_checked(parse(request)))))})
        raise ApiError(404, "not_found_error", "File Not Found")

    async def _message(self, request: Request) -> Response | None:
        """The vendor's order without its validation: parse, faults, cache, wait, answer."""
        account = self._state.account
        call = account.open(now=time.monotonic())
        try:
            self._must_be_loaded()
            body = _checked(parse(request))
            fault = self._pick_fault(call, body)
            self._state.bodies.append(body)
            call.use = self._cached(_rendered(body))
            await self._state.wait(request, call, fault)
            if fault and fault.kind == "hang":
                return None
            reply = self._reply(body, call, fault)
            return self._state.send(request, call, fault, json_response(200, reply))
        except ApiError as error:
            call.status = error.status
            raise
        finally:
            account.close(call, now=time.monotonic())

    def _must_be_loaded(self) -> None:
        if self._state.loading:
            raise ApiError(503, "unavailable_error", "Loading model")

    def _pick_fault(self, call: Call, body: Json) -> Fault | None:
        tool = pick_tool(body)
        schema = asked_schema(body, tool)
        call.model, call.kind = str(body.get("model", MODEL)), recognise(schema)
        call.schema = hashlib.sha256(compact(schema)).hexdigest()[:16] if schema else ""
        fault = self._state.plan.pick(call.index, user_text(body), call.kind)
        if fault is None:
            return None
        call.fault = fault.kind
        if fault.error is not None:
            raise fault.error
        return fault

    def _cached(self, prompt: bytes) -> CacheUse:
        """Takes the slot that shares the most with this prompt, else the one that was used longest ago."""
        slots = self._state.slots  # used longest ago first
        best = max(slots, key=lambda held: _shared(held, prompt), default=b"")
        read = min(tokens_of(_shared(best, prompt)), tokens_of(len(prompt)) - 1)
        if _shared(best, prompt) >= len(prompt) // 10:
            slots.remove(best)
        slots.append(prompt)
        del slots[:-SLOTS]
        return CacheUse(input=tokens_of(len(prompt)) - read, read=read)

    def _reply(self, body: Json, call: Call, fault: Fault | None) -> Json:
        tool = pick_tool(body)
        said = self._state.say(body, fault, schema=asked_schema(body, tool))
        text, stop = said.text, said.stop_reason
        limit = int(body.get("max_tokens", DEFAULT_MAX_TOKENS))
        if tokens_of(len(text.encode())) > limit:
            text, stop = text.encode()[: int(limit * 3.1)].decode(errors="ignore"), "max_tokens"
        call.output = tokens_of(len(text.encode()))
        content, call.stop_reason = _content(body, text, stop, tool=tool, index=call.index)
        use = call.use or CacheUse(0)
        return {
            "id": f"chatcmpl-{hashlib.sha256(str(call.index).encode()).hexdigest()[:32]}",
            "type": "message",
            "role": "assistant",
            "model": call.model,
            "content": content,
            "stop_reason": call.stop_reason,
            "stop_sequence": None,
            "usage": {
                "input_tokens": use.input,
                "cache_read_input_tokens": use.read,
                "output_tokens": call.output,
            },
        }


def _content(body: Json, text: str, stop: str, *, tool: Json | None, index: int) -> tuple[list[Json], str]:
    """A forced tool is called, with no input where the answer was cut; a format is ignored, so the answer is talk."""
    whole = stop == "end_turn"
    if tool is not None and text:
        block_id = hashlib.sha256(f"tool {index}".encode()).hexdigest()[:32]
        block: Json = {"type": "tool_use", "id": block_id, "name": tool["name"], "input": {}}
        if whole:
            block["input"] = _object(text)
        return [block], "tool_use" if whole else stop
    if output_schema(body) is not None and whole and text.startswith("{") and text.endswith("}"):
        text = prose(text)
    return ([{"type": "text", "text": text}] if text else []), stop


def _object(text: str) -> Json:
    """A forced tool's grammar allows nothing but an object, so a scripted answer that is none becomes an empty one."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _checked(body: Json) -> Json:
    """The one thing without which the real one cannot work either."""
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise ApiError(400, "invalid_request_error", "'messages' is required")
    return body


def _rendered(body: Json) -> bytes:
    """The prompt as its chat template lays it out: tools and system first, then the turns."""
    return compact([body.get("tools"), body.get("system"), body["messages"]])


def _shared(held: bytes, prompt: bytes) -> int:
    """How many bytes both start with, found by halving, because prompts are long."""
    low, high = 0, min(len(held), len(prompt))
    while low < high:
        middle = (low + high + 1) // 2
        if held.startswith(prompt[:middle]):
            low = middle
        else:
            high = middle - 1
    return low


def _error(error: ApiError) -> Response:
    kind = CODES.get(error.kind, error.kind)
    inner = {"code": error.status, "message": error.message, "type": kind}
    return json_response(error.status, {"error": inner}, error.headers)
