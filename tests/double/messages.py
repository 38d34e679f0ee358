"""Bodies and headers as the vendor sends them: a message, its usage, an error, the rate-limit headers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from tests.double.models import THINKING_OFF, Json, Model
from tests.double.prompt import tokens_of

if TYPE_CHECKING:
    from tests.double.answers import Answer
    from tests.double.cache import CacheUse

# Output tokens that adaptive thinking costs, by effort; max is 14 times low, as one public comparison measured it.
THINKING_TOKENS = {"low": 60, "medium": 200, "high": 400, "xhigh": 640, "max": 840}
REQUESTS_PER_MINUTE = 4000


class ApiError(Exception):
    """An answer other than 200, in the API's own words."""

    def __init__(
        self, status: int, kind: str, message: str, headers: dict[str, str] | None = None, *, code: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.kind = kind
        self.message = message
        self.headers = headers or {}

    def body(self, request_id: str) -> Json:
        details = {"details": {"error_code": self.code}} if self.code else {}
        error = {"type": self.kind, "message": self.message, **details}
        return {"type": "error", "error": error, "request_id": request_id}


def invalid(message: str) -> ApiError:
    return ApiError(400, "invalid_request_error", message)


class Ids(NamedTuple):
    """The ids of one exchange, in the vendor's form; numbered, so that a run can be repeated."""

    request: str
    message: str

    @classmethod
    def numbered(cls, index: int) -> Ids:
        tail = hashlib.sha256(str(index).encode()).hexdigest()[:22]
        return cls(f"req_01{tail}", f"msg_01{tail}")


@dataclass(frozen=True)
class Spoken:
    """What the model said after the limits were applied. `thinking` is None where it did not think at all."""

    text: str
    stop_reason: str
    output: int
    thinking: int | None = None
    stop_sequence: str | None = None
    refused: str | None = None


def speak(answer: Answer, body: Json, model: Model, *, prompt_tokens: int) -> Spoken:
    """The answer as it comes out: thinking, then text, cut at max_tokens, a stop sequence or the context's end."""
    if body["max_tokens"] == 0:
        return Spoken("", "max_tokens", 0)
    thinking = _thinking_tokens(body, model) if answer.thinking is None else answer.thinking
    text, stop, sequence = _stopped(answer, body)
    room = min(body["max_tokens"], model.context - prompt_tokens)
    thought = min(thinking or 0, room)
    said = tokens_of(len(text.encode()))
    if thought + said > room:
        text = text.encode()[: int((room - thought) * 3.1)].decode(errors="ignore")
        stop = "max_tokens" if room == body["max_tokens"] else "model_context_window_exceeded"
        sequence = None
        said = room - thought
    return Spoken(text, stop, max(1, thought + said), thought if thinking else None, sequence, answer.refused)


def _stopped(answer: Answer, body: Json) -> tuple[str, str, str | None]:
    found = [(answer.text.find(stop), stop) for stop in body.get("stop_sequences") or () if stop in answer.text]
    if not found:
        return answer.text, answer.stop_reason, None
    at, sequence = min(found)
    return answer.text[:at], "stop_sequence", sequence


def _thinking_tokens(body: Json, model: Model) -> int | None:
    """None where the request turns thinking off, or the model does not think unless asked."""
    thinking = body.get("thinking")
    if thinking is None and not model.thinks_by_default:
        return None
    kind = (thinking or {"type": "adaptive"})["type"]
    if kind in THINKING_OFF or _forced(body):
        return None
    effort = (body.get("output_config") or {}).get("effort") or model.default_effort
    return THINKING_TOKENS[effort]


def _forced(body: Json) -> bool:
    return (body.get("tool_choice") or {}).get("type") in {"tool", "any"}


def as_tool_use(spoken: Spoken, name: str, *, ids: Ids) -> tuple[Spoken, Json]:
    """The same answer as a tool call. One that was cut short carries no input, because it is not JSON."""
    whole = spoken.stop_reason in {"end_turn", "tool_use"}
    block: Json = {"type": "tool_use", "id": f"toolu_{ids.message.removeprefix('msg_')}", "name": name}
    block["input"] = json.loads(spoken.text) if whole else {}
    return (replace(spoken, stop_reason="tool_use") if whole else spoken), block


def message(  # noqa: PLR0913  a message has these parts
    spoken: Spoken, body: Json, *, ids: Ids, use: CacheUse, call: Json | None = None, tier: str = "standard"
) -> Json:
    """The body of a 200. `call` is a tool_use block that stands in place of the text."""
    content: list[Json] = []
    if spoken.thinking is not None:
        shown = (body.get("thinking") or {}).get("display") == "summarized"
        words = "The ticket is read line by line." if shown else ""
        content.append({"type": "thinking", "thinking": words, "signature": "c2lnbmF0dXJl"})
    if call is not None:
        content.append(call)
    elif spoken.text:
        content.append({"type": "text", "text": spoken.text, "citations": None})
    refusal = {"type": "refusal", "category": spoken.refused, "explanation": None} if spoken.refused else None
    return {
        "id": ids.message,
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "container": None,
        "content": content,
        "diagnostics": None,
        "stop_details": refusal,
        "stop_reason": spoken.stop_reason,
        "stop_sequence": spoken.stop_sequence,
        "usage": {**_usage(spoken, body, use), "service_tier": tier},
    }


def _usage(spoken: Spoken, body: Json, use: CacheUse) -> Json:
    return {
        "input_tokens": use.input,
        "cache_creation_input_tokens": use.write,
        "cache_read_input_tokens": use.read,
        "cache_creation": {"ephemeral_5m_input_tokens": use.write_5m, "ephemeral_1h_input_tokens": use.write_1h},
        "output_tokens": spoken.output,
        "output_tokens_details": {"thinking_tokens": spoken.thinking or 0},
        "server_tool_use": None,
        "inference_geo": body.get("inference_geo") or "global",
        "speed": "standard",
    }


def limit_headers(used: int) -> dict[str, str]:
    """The anthropic-ratelimit-* headers; the bucket is never empty by itself, faults make the 429s."""
    left = max(0, REQUESTS_PER_MINUTE - used)
    reset = "2026-11-23T09:31:00Z"
    return {
        "anthropic-ratelimit-requests-limit": str(REQUESTS_PER_MINUTE),
        "anthropic-ratelimit-requests-remaining": str(left),
        "anthropic-ratelimit-requests-reset": reset,
        "anthropic-ratelimit-input-tokens-limit": "4000000",
        "anthropic-ratelimit-input-tokens-remaining": "4000000",
        "anthropic-ratelimit-input-tokens-reset": reset,
        "anthropic-ratelimit-output-tokens-limit": "800000",
        "anthropic-ratelimit-output-tokens-remaining": "800000",
        "anthropic-ratelimit-output-tokens-reset": reset,
        "anthropic-organization-id": "00000000-0000-4000-8000-00000000d0b1",
    }
