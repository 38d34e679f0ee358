"""Message Batches: requests taken in whole, worked off after a while, told once as JSON lines in no order.

Source: the vendor's pages on batch processing and its published description. Two readings of ours where those leave
something open: `params` are checked only when their turn comes, so that a bad one is an errored result and no 400; and
a batch that is cancelled, or runs out of its 24 hours, has answered the share of its requests that its time allowed.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from tests.double.cache import PromptCache
from tests.double.faults import Fault, drawn
from tests.double.messages import ApiError, Ids, invalid
from tests.double.prompt import compact
from tests.double.state import BatchPlan, State, json_response, parse
from tests.double.wire import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.double.cache import CacheUse
    from tests.double.models import Json, Model
    from tests.double.prompt import Prompt

ROUTE = "/v1/messages/batches"
MOST_REQUESTS = 100_000
LIFETIME = 24 * 3600.0  # seconds
CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
KINDS = ("processing", "succeeded", "errored", "canceled", "expired")


@dataclass
class Batch:
    """Times are the state's clock; `results` are there once it has ended."""

    id: str
    requests: list[Json]
    created: float
    plan: BatchPlan
    cancelled: float | None = None
    ended: float | None = None
    results: list[Json] = field(default_factory=list)

    @property
    def end(self) -> float:
        """When it ends, as things stand."""
        asked = [] if self.cancelled is None else [self.cancelled]
        return min(self.created + self.plan.seconds, self.created + LIFETIME, *asked)

    @property
    def share(self) -> float:
        """Of its requests, how many had their turn by then."""
        whole = self.end >= self.created + self.plan.seconds  # a quotient of floats may be a little less than one
        return 1.0 if whole else (self.end - self.created) / self.plan.seconds


class Batches:
    """The batch endpoints. `answer` makes the message for one request's params, or raises ApiError."""

    def __init__(self, state: State, answer: Callable[[Json, Callable[[Prompt, Model], CacheUse]], Json]) -> None:
        self._state = state
        self._answer = answer
        self._wall = time.time() - state.clock()

    async def handle(self, request: Request, ids: Ids) -> Response | None:
        """Faults for agent `batch` are picked by the number of calls to these endpoints."""
        fault = self._state.pick_for_batches()
        if fault and fault.error is not None:
            raise fault.error
        if fault and fault.kind == "hang":
            await request.gone.wait()
            return None
        response = self._routed(request, ids)
        return None if fault and fault.kind == "cut_before" else _cut(response, fault)

    def _routed(self, request: Request, ids: Ids) -> Response:
        _, _, rest = request.path.partition(ROUTE)
        name, _, action = rest.strip("/").partition("/")
        headers = {"request-id": ids.request}
        match (request.method, bool(name), action):
            case ("POST", False, ""):
                return json_response(200, self._shown(self._create(request), request), headers)
            case ("GET", False, ""):
                return json_response(200, self._page(request), headers)
            case ("GET", True, ""):
                return json_response(200, self._shown(self._known(name), request), headers)
            case ("POST", True, "cancel"):
                return json_response(200, self._shown(self._cancel(self._known(name)), request), headers)
            case ("GET", True, "results"):
                return self._results(self._known(name), headers)
        raise ApiError(404, "not_found_error", f"Not found: {request.method} {request.path}")

    def _create(self, request: Request) -> Batch:
        requests = check_envelope(parse(request))
        state = self._state
        number = len(state.batches)
        tail = hashlib.sha256(f"batch {number}".encode()).hexdigest()[:22]
        batch = Batch(f"msgbatch_01{tail}", requests, state.now, state.batching)
        state.batches[batch.id] = batch
        return batch

    def _known(self, name: str) -> Batch:
        if name not in self._state.batches:
            raise ApiError(404, "not_found_error", f"Message Batch {name} not found")
        return self._settled(self._state.batches[name])

    def _cancel(self, batch: Batch) -> Batch:
        """It still says `canceling` in this answer; the next look finds it ended."""
        if batch.ended is not None:
            raise invalid("Batch processing has already ended; it cannot be canceled.")
        if batch.cancelled is None:
            batch.cancelled = self._state.now
        return batch

    def _settled(self, batch: Batch) -> Batch:
        if batch.ended is None and self._state.now >= batch.end:
            batch.ended = batch.end
            batch.results = self._worked_off(batch)
        return batch

    def _worked_off(self, batch: Batch) -> list[Json]:
        reached = round(len(batch.requests) * batch.share)
        rest = "canceled" if batch.cancelled is not None and batch.end == batch.cancelled else "expired"
        lines = [
            {
                "custom_id": one["custom_id"],
                "result": self._result(batch, number) if number < reached else {"type": rest},
            }
            for number, one in enumerate(batch.requests)
        ]
        return sorted(lines, key=lambda line: hashlib.sha256(line["custom_id"].encode()).digest())

    def _result(self, batch: Batch, number: int) -> Json:
        plan = batch.plan
        if drawn(plan.seed, f"{batch.id}:{number}:expired") < plan.expired:
            return {"type": "expired"}
        if drawn(plan.seed, f"{batch.id}:{number}:errored") < plan.errored:
            return _errored(ApiError(500, "api_error", "Internal server error"))
        hit = drawn(plan.seed, f"{batch.id}:{number}:hit") < plan.hits
        cache = self._state.cache if hit else PromptCache()
        try:
            params = batch.requests[number]["params"]
            message = self._answer(params, lambda prompt, model: cache.look_up(prompt, model, now=batch.end))
        except ApiError as error:
            return _errored(error)
        return {"type": "succeeded", "message": message}

    def _results(self, batch: Batch, headers: dict[str, str]) -> Response:
        if batch.ended is None:
            raise invalid("Batch results are not available until processing has ended.")
        lines = [compact(line) for line in batch.results]
        for number, (spoilt, line) in enumerate(zip(batch.plan.spoilt, batch.results, strict=False)):
            lines[number] = spoilt.replace("ID", line["custom_id"]).encode()
        body = b"".join(line + b"\n" for line in lines)
        return Response(200, body, headers, content_type="application/x-jsonl")

    def _page(self, request: Request) -> Json:
        """Newest first, as cursors have it."""
        limit, after, before = _cursor(request.query)
        listed = [self._settled(batch) for batch in reversed(self._state.batches.values())]
        names = [batch.id for batch in listed]
        if after is not None:
            listed = listed[names.index(after) + 1 :] if after in names else []
        if before is not None:
            listed = listed[: names.index(before)] if before in names else []
        data = [self._shown(batch, request) for batch in listed[:limit]]
        ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
        return {"data": data, "has_more": len(listed) > limit, **ends}

    def _shown(self, batch: Batch, request: Request) -> Json:
        ended = batch.ended is not None
        counts = (
            Counter(line["result"]["type"] for line in batch.results) if ended else {"processing": len(batch.requests)}
        )
        url = f"http://{request.headers.get('host', '')}{ROUTE}/{batch.id}/results"
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if ended else "canceling" if batch.cancelled is not None else "in_progress",
            "request_counts": {kind: counts.get(kind, 0) for kind in KINDS},
            "created_at": self._moment(batch.created),
            "expires_at": self._moment(batch.created + LIFETIME),
            "cancel_initiated_at": self._moment(batch.cancelled),
            "ended_at": self._moment(batch.ended),
            "archived_at": None,
            "results_url": url if ended else None,
        }

    def _moment(self, seconds: float | None) -> str | None:
        return None if seconds is None else datetime.fromtimestamp(self._wall + seconds, UTC).isoformat()


def check_envelope(body: Json) -> list[Json]:
    """The requests, where everything about them but their params is right."""
    requests: Any = body.get("requests")
    if unknown := sorted(body.keys() - {"requests"}):
        raise invalid(f"{unknown[0]}: Extra inputs are not permitted")
    if not isinstance(requests, list) or not requests:
        raise invalid("requests: at least one request is required")
    if len(requests) > MOST_REQUESTS:
        raise invalid(f"requests: at most {MOST_REQUESTS} requests are allowed")
    seen: set[str] = set()
    for number, one in enumerate(requests):
        _check_request(one, f"requests.{number}", seen)
    return requests


def _check_request(one: Any, where: str, seen: set[str]) -> None:  # noqa: ANN401  whatever was sent
    if not isinstance(one, dict):
        raise invalid(f"{where}: Input should be an object")
    if unknown := sorted(one.keys() - {"custom_id", "params"}):
        raise invalid(f"{where}.{unknown[0]}: Extra inputs are not permitted")
    name, params = one.get("custom_id"), one.get("params")
    if not isinstance(name, str) or not CUSTOM_ID.fullmatch(name):
        raise invalid(f"{where}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
    if not isinstance(params, dict):
        raise invalid(f"{where}.params: Field required")
    if name in seen:
        raise invalid(f"{where}.custom_id: custom_id must be unique within a batch: {name}")
    seen.add(name)


def _cursor(query: str) -> tuple[int, str | None, str | None]:
    given = {name: values[-1] for name, values in parse_qs(query).items()}
    limit = given.get("limit", "20")
    if not limit.isdecimal() or not 1 <= int(limit) <= 1000:
        raise invalid("limit: Input should be between 1 and 1000")
    return int(limit), given.get("after_id"), given.get("before_id")


def _errored(error: ApiError) -> Json:
    return {"type": "errored", "error": json.loads(compact(error.body("")))}


def _cut(response: Response, fault: Fault | None) -> Response:
    if fault and fault.kind == "cut_middle":
        return Response(response.status, response.body, response.headers, response.content_type, cut_after=0.5)
    return response
