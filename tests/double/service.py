"""The strict profile: the Messages API of the vendor, version 2026-10-21, as the double's tests pin it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.double import messages as words
from tests.double.account import Call, cost_of
from tests.double.batches import ROUTE, Batches
from tests.double.messages import ApiError, Ids, Spoken
from tests.double.models import MODELS, Json, Model, describe
from tests.double.prompt import Prompt, render
from tests.double.rules import check_count, check_message, check_model
from tests.double.state import State, agent_of, asked_schema, json_response, parse, pick_tool
from tests.double.validate import check_shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.double.cache import CacheUse
    from tests.double.faults import Fault
    from tests.double.wire import Request, Response

API_VERSION = "2026-10-21"


class Service:
    """Answers what the SDK sends to api.anthropic.com: messages, count_tokens, models."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._batches = Batches(state, self._of_batch)

    async def handle(self, request: Request) -> Response | None:
        if (request.method, request.path) == ("POST", "/v1/messages"):
            return await self._message(request)
        ids = Ids.numbered(-1)
        try:
            if request.path == ROUTE or request.path.startswith(f"{ROUTE}/"):
                self._let_in(request)
                return await self._batches.handle(request, ids)
            return self._at_once(request, ids)
        except ApiError as error:
            return self._error(error, ids)

    def _at_once(self, request: Request, ids: Ids) -> Response:
        self._let_in(request)
        route, _, name = request.path.rpartition("/")
        if request.method == "GET" and request.path == "/v1/models":
            listed = [describe(model) for model in MODELS.values()]
            page = {"data": listed, "has_more": False, "first_id": listed[0]["id"], "last_id": listed[-1]["id"]}
            return json_response(200, page, {"request-id": ids.request})
        if request.method == "GET" and route == "/v1/models":
            return json_response(200, describe(_known(name)), {"request-id": ids.request})
        if (request.method, request.path) == ("POST", "/v1/messages/count_tokens"):
            body = parse(request)
            check_shape(body, "count_tokens")
            check_count(body, check_model(body))
            return json_response(200, {"input_tokens": render(body).tokens}, {"request-id": ids.request})
        raise ApiError(404, "not_found_error", f"Not found: {request.method} {request.path}")

    async def _message(self, request: Request) -> Response | None:
        account = self._state.account
        call = account.open(now=time.monotonic())
        ids = Ids.numbered(call.index)
        try:
            return await self._reply(request, call, ids)
        except ApiError as error:
            call.status = error.status
            return self._error(error, ids)
        finally:
            account.close(call, now=time.monotonic())

    async def _reply(self, request: Request, call: Call, ids: Ids) -> Response | None:
        """1. let in 2. validate 3. error faults 4. read the cache 5. wait 6. fill the cache, bill, answer."""
        self._let_in(request)
        body = parse(request)
        check_shape(body, "messages")
        model = check_model(body)
        prompt = render(body)
        check_message(body, model, prompt)
        self._state.bodies.append(body)
        fault = self._pick_fault(call, body, prompt)
        use = self._state.cache.look_up(prompt, model, now=self._state.now)
        await self._state.wait(request, call, fault)
        if fault and fault.kind == "hang":
            return None
        self._state.cache.write(prompt, model, now=self._state.now)
        spoken, tool_use = self._spoken(body, model, fault, prompt=prompt, ids=ids)
        call.use, call.output, call.stop_reason = use, spoken.output, spoken.stop_reason
        call.cost = cost_of(model, use, output=spoken.output, geo=body.get("inference_geo"))
        reply = words.message(spoken, body, ids=ids, use=use, call=tool_use)
        return self._state.send(request, call, fault, json_response(200, reply, self._headers(ids)))

    def _of_batch(self, body: Json, look_up: Callable[[Prompt, Model], CacheUse]) -> Json:
        """The message for one request of a batch, booked; what it wrote into the cache is there for the next."""
        check_shape(body, "messages")
        model = check_model(body)
        prompt = render(body)
        check_message(body, model, prompt)
        if body["max_tokens"] == 0:
            raise words.invalid("max_tokens: 0 (cache pre-warming) is not supported in a batch")
        call = self._state.account.of_batch(now=time.monotonic())
        ids = Ids.numbered(call.index)
        self._state.bodies.append(body)
        fault = self._pick_fault(call, body, prompt)
        use = look_up(prompt, model)
        self._state.cache.write(prompt, model, now=self._state.now)
        spoken, tool_use = self._spoken(body, model, fault, prompt=prompt, ids=ids)
        call.use, call.output, call.stop_reason, call.status = use, spoken.output, spoken.stop_reason, 200
        call.cost = cost_of(model, use, output=spoken.output, geo=body.get("inference_geo"), batch=True)
        return words.message(spoken, body, ids=ids, use=use, call=tool_use, tier="batch")

    def _pick_fault(self, call: Call, body: Json, prompt: Prompt) -> Fault | None:
        call.model, call.schema, call.prefix = body["model"], prompt.schema_digest, prompt.stable_digest
        call.stable_tokens = prompt.stable_tokens
        call.kind = agent_of(body, pick_tool(body))
        fault = self._state.plan.pick(call.index, prompt.text, call.kind)
        if fault is None:
            return None
        call.fault = fault.kind
        if fault.error is not None:
            raise fault.error
        return fault

    def _spoken(
        self, body: Json, model: Model, fault: Fault | None, *, prompt: Prompt, ids: Ids
    ) -> tuple[Spoken, Json | None]:
        """What is said, and the tool_use block that stands for it where a tool was forced."""
        tool = pick_tool(body)
        said = self._state.say(body, fault, schema=asked_schema(body, tool))
        spoken = words.speak(said, body, model, prompt_tokens=prompt.tokens)
        if tool is None or spoken.stop_reason == "refusal" or body["max_tokens"] == 0:
            return spoken, None
        return words.as_tool_use(spoken, tool["name"], ids=ids)

    def _let_in(self, request: Request) -> None:
        if not self._state.knows_key(request.headers.get("authorization", "")):
            raise ApiError(401, "authentication_error", "invalid bearer token")
        version = request.headers.get("anthropic-version")
        if version is None:
            raise words.invalid("anthropic-version: header is required")
        if version != API_VERSION:
            raise words.invalid(f'anthropic-version: "{version}" is not valid; the double speaks {API_VERSION}')

    def _headers(self, ids: Ids) -> dict[str, str]:
        return {"request-id": ids.request, **words.limit_headers(self._state.account.most_in_flight)}

    def _error(self, error: ApiError, ids: Ids) -> Response:
        return json_response(error.status, error.body(ids.request), {**self._headers(ids), **error.headers})


def _known(name: str) -> Model:
    if name not in MODELS:
        raise ApiError(404, "not_found_error", f"model: {name}")
    return MODELS[name]
