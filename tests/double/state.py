"""What both profiles share: the settings, the clock, the account, the plan of faults, and what the model says."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.double.account import Account, Call
from tests.double.answers import Answer, Answerer, answer, recognise
from tests.double.cache import PromptCache
from tests.double.faults import Fault, FaultPlan
from tests.double.messages import ApiError, invalid
from tests.double.prompt import compact, output_schema
from tests.double.wire import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.double.batches import Batch
    from tests.double.models import Json

KEPT_BODIES = 500
KEY = "double-key"  # what a client sends unless a test says otherwise


@dataclass(frozen=True)
class BatchPlan:
    """How batches go: seconds until they end, and of their requests the shares that find the cache warm or get none.

    `spoilt` lines are told in place of the first results as they are, but for ID, which is the result's custom_id.
    """

    seconds: float = 0.0
    hits: float = 1.0
    errored: float = 0.0
    expired: float = 0.0
    spoilt: tuple[str, ...] = ()
    seed: int = 0


@dataclass
class State:
    """`clock` is the cache's; the account's times are always time.monotonic, because they measure."""

    latency: float = 0.0
    keys: frozenset[str] = frozenset({KEY})
    answerer: Answerer | None = None
    clock: Callable[[], float] = time.monotonic
    advanced: float = 0.0
    loading: bool = False  # llamacpp: the model is not there yet
    account: Account = field(default_factory=Account)
    cache: PromptCache = field(default_factory=PromptCache)
    slots: list[bytes] = field(default_factory=list)  # llamacpp: the prompts that it last held
    plan: FaultPlan = field(default_factory=FaultPlan)
    bodies: deque[Json] = field(default_factory=lambda: deque(maxlen=KEPT_BODIES))
    batching: BatchPlan = field(default_factory=BatchPlan)
    batches: dict[str, Batch] = field(default_factory=dict)
    batch_calls: int = 0

    @property
    def now(self) -> float:
        return self.clock() + self.advanced

    def reset(self) -> None:
        """Nothing has happened yet: no calls, no cache, no faults, and the clock is where it was at the start."""
        self.account, self.cache, self.plan = Account(), PromptCache(), FaultPlan()
        self.batching, self.batch_calls = BatchPlan(), 0
        self.batches.clear()
        self.bodies.clear()
        self.slots.clear()
        self.advanced = 0.0
        self.loading = False

    def pick_for_batches(self) -> Fault | None:
        """What goes wrong with this call to the batch endpoints."""
        self.batch_calls += 1
        return self.plan.pick(self.batch_calls - 1, "", "batch")

    def knows_key(self, header: str) -> bool:
        scheme, _, key = header.partition(" ")
        return scheme == "Bearer" and any(hmac.compare_digest(key.encode(), known.encode()) for known in self.keys)

    def say(self, body: Json, fault: Fault | None, *, schema: Json | None) -> Answer:
        """What the model says to this body, before any limit cuts it."""
        if fault and fault.kind == "refuse":
            return Answer("", "refusal", refused=fault.category, thinking=0)
        if fault and fault.kind == "empty":
            return Answer("", thinking=0)
        said = self._unhindered(body, fault, schema=schema)
        if fault and fault.kind == "truncate":
            return Answer(said.text[: max(1, len(said.text) // 2)], "max_tokens")
        return said

    def _unhindered(self, body: Json, fault: Fault | None, *, schema: Json | None) -> Answer:
        if fault and fault.answer and schema is not None:
            return Answer(answer(body, schema, kind=fault.answer))
        if self.answerer is not None:
            said = self.answerer(body)
            return said if isinstance(said, Answer) else Answer(said)
        return Answer("Understood." if schema is None else answer(body, schema))

    async def wait(self, request: Request, call: Call, fault: Fault | None) -> None:
        """Until the reply is due, counted from the request's arrival; for ever, where the fault is to hang."""
        if fault and fault.kind == "hang":
            await request.gone.wait()
            return
        late = fault.seconds if fault else 0.0
        await asyncio.sleep(max(0.0, call.start + self.latency + late - time.monotonic()))

    def send(self, request: Request, call: Call, fault: Fault | None, response: Response) -> Response | None:
        """The reply on its way; it is billed whether it arrives or not."""
        call.status = response.status
        if request.gone.is_set():
            call.delivered = False
        if fault and fault.kind == "cut_before":
            call.delivered = False
            return None
        if fault and fault.kind == "cut_middle":
            call.delivered = False
            return Response(response.status, response.body, response.headers, cut_after=0.5)
        return response


def parse(request: Request) -> Json:
    """The body as a JSON object, or the API's own complaint."""
    if request.too_large:
        raise ApiError(413, "request_too_large", "Request exceeds the maximum size")
    try:
        body: Any = json.loads(request.body)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise invalid(f"The request body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise invalid("The request body must be a JSON object")
    return body


def json_response(status: int, value: object, headers: dict[str, str] | None = None) -> Response:
    return Response(status, compact(value), headers or {})


def pick_tool(body: Json) -> Json | None:
    """The tool that the model calls: the forced one, the first under `any`, none otherwise."""
    choice = body.get("tool_choice") or {}
    tools = body.get("tools") or []
    if choice.get("type") == "tool":
        return next((tool for tool in tools if tool.get("name") == choice.get("name")), None)
    return tools[0] if choice.get("type") == "any" and tools else None


def asked_schema(body: Json, tool: Json | None) -> Json | None:
    return tool["input_schema"] if tool is not None else output_schema(body)


def agent_of(body: Json, tool: Json | None) -> str:
    return recognise(asked_schema(body, tool))
