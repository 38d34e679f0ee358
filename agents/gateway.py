"""The only door to a model: one question in, one reply out, over the Messages API of any server that speaks it.

It sends nothing twice by itself: every attempt is one HTTP request, and whoever calls decides whether to try again.
Source of the protocol: the Messages API, version 2026-10-21, and the installed SDK.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from agents.api_errors import code_of, retry_after, shown
from agents.message_batches import MessageBatches
from agents.question import Outcome, Question, Reply, Turn, Usage

if TYPE_CHECKING:
    from datetime import datetime

    from anthropic.types import Message, ModelInfo

Mode = Literal["format", "tool"]
Ttl = Literal["5m", "1h"]  # how long a prefix stays in the vendor's cache after its last use
Heard = Callable[[str, Mapping[str, str]], None]  # model that was asked, headers of the answer; must not raise
FailureCode = Literal[
    "rate_limited", "overloaded", "server_error", "timeout", "connection",
    "bad_request", "no_key", "authentication", "billing", "permission", "unknown_model", "too_large",
    "over_budget",  # of whoever asks: not even sent
]  # fmt: skip

STRONG_AGENTS = frozenset({"chief_of_staff"})
ANSWER_TOOL = "answer"
MOST_ITEMS = 4  # of any list in an answer, where the server lets us say so
MOST_TOOL_TOKENS = 4_000  # of an answer in `tool` mode: nothing is thought there, and such a model's context is small
MOST_TOKENS = 1_000_000_000  # far more than any model reads or writes; what is more is no number of tokens
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # neither UTF-8 nor Postgres keeps these, and a paid reply must be kept
_NO_MODEL_LIST = frozenset({404, 405, 501})  # of servers that have only the messages
# What comes of using a value that has not the type which the SDK promises: it lets everything through.
_NOT_OF_THIS_API = (ValueError, TypeError, AttributeError)
# Whoever asks for a fruit gets this only if the format was enforced.
_ONLY_ONE_ANSWER = {
    "type": "object",
    "properties": {"word": {"type": "string", "enum": ["amaryllis"]}},
    "required": ["word"],
    "additionalProperties": False,
}
OUTCOMES: Mapping[str, Outcome] = {
    "end_turn": "answered",
    "tool_use": "answered",
    "max_tokens": "truncated",
    "refusal": "refused",
    "model_context_window_exceeded": "context_exceeded",
}


class CallFailed(Exception):  # noqa: N818  it names what went wrong
    """An attempt without a reply. `permanent`: trying again will not help. `stops_all`: nor will any other call."""

    def __init__(self, code: FailureCode, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.permanent = code in {"bad_request", "too_large"} or self.stops_all

    @property
    def stops_all(self) -> bool:
        return self.code in {"no_key", "authentication", "billing", "permission", "unknown_model"}

    @property
    def possibly_billed(self) -> bool:
        """True where the server may have worked although no answer reached us."""
        return self.code in {"timeout", "connection", "server_error"}


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served. `tool` mode is for servers that ignore `output_config.format` (llama.cpp does)."""

    api_key: str = field(repr=False)
    base_url: str | None = None
    mode: Mode = "format"
    timeout_seconds: float = 60.0
    strong_timeout_seconds: float = 300.0  # the strong tier thinks before it writes: docs/decisions/0001


@dataclass(frozen=True)
class ModelFacts:
    """What the server says of a model; empty sets where it says nothing."""

    id: str
    lifecycle: str = "active"
    retires_at: datetime | None = None
    max_input_tokens: int | None = None
    thinking: frozenset[str] = field(default_factory=frozenset)
    effort: frozenset[str] = field(default_factory=frozenset)


class Gateway:
    """The Messages API through the SDK. Import and connection pool cost about a second: make one per process."""

    def __init__(self, endpoint: Endpoint) -> None:
        import anthropic  # noqa: PLC0415  74 MB and a second, only where a model is really called
        import httpx2  # noqa: PLC0415  comes with it

        self._sdk = anthropic
        self._http = httpx2
        self._endpoint = endpoint
        self._client = anthropic.Anthropic(
            api_key=endpoint.api_key,
            base_url=endpoint.base_url,
            max_retries=0,
            timeout=endpoint.timeout_seconds,
        )
        self._facts: dict[str, ModelFacts] = {}
        self._mode: Mode = endpoint.mode
        self._heard: Heard = lambda _model, _headers: None

    def listen(self, heard: Heard) -> None:
        """From now on `heard` is told the headers of every answer to a question, good or bad."""
        self._heard = heard

    def close(self) -> None:
        """Its connections are closed; it can ask nothing more."""
        self._client.close()

    @property
    def mode(self) -> Mode:
        return self._mode

    def look_up(self, model: str) -> ModelFacts:
        """What the server says of this model. Raises CallFailed: `unknown_model` if none or retired."""
        if self.mode == "tool":
            return ModelFacts(model)
        info = self._model_info(model)
        if info is None:
            return self._try_out(ModelFacts(model))
        if info.lifecycle == "retired":
            raise CallFailed("unknown_model", f"the model {model} is retired; name another one")
        able = info.capabilities
        facts = ModelFacts(
            id=model,
            lifecycle=getattr(info, "lifecycle", None) or "active",
            retires_at=getattr(info, "retires_at", None),
            max_input_tokens=info.max_input_tokens,
            thinking=_supported(able.thinking.types) if able else frozenset(),
            effort=_supported(able.effort) if able else frozenset(),
        )
        if able is None:
            return self._try_out(facts)
        self._facts[model] = facts
        return facts

    def _model_info(self, model: str) -> ModelInfo | None:
        """What the server's list of models says; None where it has no such list."""
        try:
            info: object = self._client.models.retrieve(model)
        except self._sdk.APIStatusError as error:
            in_form = isinstance(error.body, dict) and error.body.get("type") == "error"
            if error.status_code in _NO_MODEL_LIST and not in_form:
                return None
            raise self._failure(error) from error
        except self._sdk.AnthropicError as error:
            raise self._failure(error) from error
        except ValueError:  # the SDK lets a body through that is not JSON
            return None
        return info if isinstance(info, self._sdk.types.ModelInfo) else None

    def _try_out(self, facts: ModelFacts) -> ModelFacts:
        """Finds out whether a server that says nothing of itself honours output formats; some ignore them silently."""
        self._facts[facts.id] = facts
        request = {
            "model": facts.id,
            "max_tokens": 50,
            "messages": [{"role": "user", "content": "Name any fruit."}],
            "output_config": {"format": {"type": "json_schema", "schema": _ONLY_ONE_ANSWER}},
        }
        try:
            text, _ = self._read(self._create(request, patience=self._endpoint.timeout_seconds))
        except CallFailed as failure:
            if failure.code != "bad_request":
                raise
            text = ""
        if text.replace(" ", "") != '{"word":"amaryllis"}':
            self._mode = "tool"
        return facts

    def ask(self, question: Question, ttl: Ttl = "5m") -> Reply:
        """One attempt. A reply of any outcome is returned, because it is paid; no reply raises CallFailed.

        `ttl` is how long the vendor's cache keeps the stable prefix from its last use.
        """
        started = time.monotonic()
        message = self._create(self._request(question, ttl=ttl), patience=self._patience(question))
        latency = round((time.monotonic() - started) * 1000)
        text, outcome = self._read(message)
        return _reply(message, text=text, outcome=outcome, latency_ms=latency)

    def prime(self, question: Question, ttl: Ttl = "5m") -> Reply:
        """Writes the question's stable prefix into the vendor's cache, without its ticket, for one token of output.

        Not max_tokens 0: the API refuses that together with an output format, and the format is part of the prefix.
        """
        request = self._request(replace(question, max_tokens=1, turns=(Turn("user", "Ready?"),)), ttl=ttl)
        message = self._create(request, patience=self._patience(question))
        return _reply(message, text="", outcome="answered", latency_ms=0)

    @cached_property
    def batches(self) -> MessageBatches:
        """The same questions, many at once; a batch may take longer than the shorter cache lasts."""
        return MessageBatches(
            self._client.messages.batches,
            request_of=lambda question: self._request(question, ttl="1h"),
            reply_of=self._reply_in_batch,
            translated=self._batch_failures,
        )

    def _reply_in_batch(self, message: object) -> Reply | None:
        """None where it is no message of this API."""
        if not isinstance(message, dict) or not isinstance(message.get("content"), list):
            return None
        try:
            made = self._sdk.types.Message.construct(**message)
            text, outcome = self._read(made)
            return _reply(made, text=text, outcome=outcome, latency_ms=0)
        except _NOT_OF_THIS_API:
            return None

    @contextmanager
    def _batch_failures(self) -> Iterator[None]:
        """What goes wrong in a call about batches is a CallFailed. A 404 there says nothing of the model."""
        try:
            yield
        except self._sdk.APIStatusError as error:
            failure = self._failure(error)
            raise CallFailed("bad_request", str(failure)) if error.status_code in _NO_MODEL_LIST else failure from error
        except self._sdk.AnthropicError as error:
            raise self._failure(error) from error
        except self._http.HTTPError as error:  # results are read line by line, past the SDK's own care
            raise CallFailed("connection", f"the connection broke: {type(error).__name__}") from error
        except _NOT_OF_THIS_API as error:
            raise CallFailed("server_error", "the server's answer is not of this API") from error

    def probe(self, model: str) -> Reply:
        """The smallest call that is billed: whether key, account and model work at all."""
        request = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Ready?"}]}
        started = time.monotonic()
        message = self._create(request, patience=self._endpoint.timeout_seconds)
        return _reply(message, text="", outcome="answered", latency_ms=round((time.monotonic() - started) * 1000))

    def _patience(self, question: Question) -> float:
        """Seconds to wait for this answer; never fewer than for any other call to the same server."""
        least = self._endpoint.timeout_seconds
        return max(least, self._endpoint.strong_timeout_seconds) if question.agent in STRONG_AGENTS else least

    def _create(self, request: dict[str, Any], *, patience: float) -> Message:
        try:
            response = self._client.messages.with_raw_response.create(**request, timeout=patience)
            self._heard(request["model"], response.headers)
            message: object = response.parse()
        except self._sdk.APITimeoutError as error:
            raise CallFailed("timeout", f"no answer within {patience:g} s") from error
        except self._sdk.AnthropicError as error:
            if isinstance(error, self._sdk.APIStatusError):
                self._heard(request["model"], error.response.headers)
            raise self._failure(error) from error
        except ValueError as error:  # the SDK lets a body through that is not JSON
            raise CallFailed("server_error", "the server's answer is not JSON") from error
        if not isinstance(message, self._sdk.types.Message) or not isinstance(message.content, list):
            raise CallFailed("server_error", "the server's answer is no message of this API")
        return message

    def _request(self, question: Question, *, ttl: Ttl = "5m") -> dict[str, Any]:
        system: list[dict[str, Any]] = [{"type": "text", "text": block} for block in question.system]
        system[-1]["cache_control"] = {"type": "ephemeral", **({"ttl": ttl} if ttl != "5m" else {})}
        request: dict[str, Any] = {
            "model": question.model,
            "max_tokens": question.max_tokens,
            "system": system,
            "messages": [{"role": turn.role, "content": turn.text} for turn in question.turns],
        }
        if self.mode == "tool":
            schema = {"name": ANSWER_TOOL, "description": "Give the answer.", "input_schema": _bounded(question.schema)}
            choice = {"type": "tool", "name": ANSWER_TOOL, "disable_parallel_tool_use": True}
            tokens = min(question.max_tokens, MOST_TOOL_TOKENS)
            return {**request, "max_tokens": tokens, "tools": [schema], "tool_choice": choice}
        output: dict[str, Any] = {"format": {"type": "json_schema", "schema": dict(question.schema)}}
        return {**request, **self._effort(question, output)}

    def _effort(self, question: Question, output: dict[str, Any]) -> dict[str, Any]:
        """Workers think as little as the model allows, at low effort; the strong tier adaptively."""
        facts = self._facts.get(question.model) or self.look_up(question.model)
        if question.agent in STRONG_AGENTS:
            adaptive = {"thinking": {"type": "adaptive"}} if "adaptive" in facts.thinking else {}
            return {**adaptive, "output_config": output}
        if "low" in facts.effort:
            output = {"effort": "low", **output}
        least = next((kind for kind in ("disabled", "between_tools") if kind in facts.thinking), None)
        return {**({"thinking": {"type": least}} if least else {}), "output_config": output}

    def _read(self, message: Message) -> tuple[str, Outcome]:
        """The JSON text of an answer and what the stop reason means; blocks are picked by type, never by position."""
        outcome = OUTCOMES.get(message.stop_reason or "", "unusable")
        text = "".join(block.text or "" for block in message.content if block.type == "text")
        if self.mode == "tool":
            calls = [block.input for block in message.content if block.type == "tool_use"]
            if message.stop_reason == "tool_use" and len(calls) == 1:
                return json.dumps(calls[0], ensure_ascii=False, separators=(",", ":")), outcome
            return _json_object_in(text), outcome
        return text, "unusable" if message.stop_reason == "tool_use" else outcome

    def _failure(self, error: Exception) -> CallFailed:
        sdk = self._sdk
        if isinstance(error, sdk.APITimeoutError):
            return CallFailed("timeout", f"no answer within {self._endpoint.timeout_seconds:g} s")
        if isinstance(error, sdk.APIConnectionError):
            if type(error.__cause__).__name__ == "LocalProtocolError":  # nothing else that people set is a header
                return CallFailed("authentication", "the key holds a character that cannot be sent")
            return CallFailed("connection", f"cannot reach {self._endpoint.base_url or 'the API'}: {_why(error)}")
        if isinstance(error, sdk.APIStatusError):
            named = (_text(error.error_code), _text(error.type))
            message = _text(error.api_message)
            code = code_of(error.status_code, named=named, message=message)
            words = f"HTTP {error.status_code}: {shown(message or str(error))}"
            return CallFailed(code, words, retry_after=retry_after(error.response.headers))
        if isinstance(error, sdk.APIError):
            return CallFailed("server_error", f"the server's answer is not of this API: {shown(str(error))}")
        return CallFailed("authentication", f"the API key cannot be used: {error}")


def _text(value: object) -> str:
    """What a server's error names; the SDK hands on whatever stands there."""
    return value if isinstance(value, str) else ""


def _why(error: Exception) -> str:
    """Refused, no such host, no valid certificate: the cause tells. Other causes may quote headers, and so the key."""
    return str(error.__cause__ if type(error.__cause__).__name__ == "ConnectError" else error)


def _bounded(schema: Any) -> Any:  # noqa: ANN401  any part of a JSON schema
    """The schema with short lists only: a small model fills an unbounded one up to its last token.

    For `tool` mode alone; the API's own formats do not take array bounds.
    """
    if isinstance(schema, list):
        return [_bounded(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    bounded = {name: _bounded(part) for name, part in schema.items()}
    return {**bounded, "maxItems": MOST_ITEMS} if schema.get("type") == "array" else bounded


def _supported(capability: object) -> frozenset[str]:
    """Names of the sub-capabilities that are marked as supported."""
    values = vars(capability).items() if capability is not None else ()
    return frozenset(name for name, value in values if getattr(value, "supported", False) is True)


def _json_object_in(text: str) -> str:
    """The outermost braces of a text answer; small models like to talk around their JSON."""
    start, end = text.find("{"), text.rfind("}")
    return text[start : end + 1] if 0 <= start < end else text


def _reply(message: Message, *, text: str, outcome: Outcome, latency_ms: int) -> Reply:
    """Whatever a server left out: the reply is paid, and has to be kept."""
    request = getattr(message, "_request_id", None)  # the SDK's documented name; a batch's message has none
    words = (text, message.stop_reason, message.model, request)
    text, stop_reason, model, request_id = (_UNSTORABLE.sub("\ufffd", word or "") for word in words)
    geo = getattr(message.usage, "inference_geo", None)
    where = geo if isinstance(geo, str) else ""
    return Reply(text, outcome, stop_reason, _usage(message), model, request_id, latency_ms, _UNSTORABLE.sub("", where))


def _usage(message: Message) -> Usage:
    used = message.usage
    hour = _count(used and used.cache_creation, "ephemeral_1h_input_tokens")
    return Usage(
        input=_count(used, "input_tokens"),
        output=_count(used, "output_tokens"),
        cache_write_5m=max(_count(used, "cache_creation_input_tokens") - hour, 0),
        cache_write_1h=hour,
        cache_read=_count(used, "cache_read_input_tokens"),
    )


def _count(holder: object, name: str) -> int:
    """A number of tokens; 0 where the server gives none, or one that no reply can have."""
    value = getattr(holder, name, None)
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else 0
