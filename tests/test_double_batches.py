"""The double's batch endpoints: what is let in, what is told when, what it costs."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from anthropic import BadRequestError, InternalServerError, NotFoundError, RequestTooLargeError  # noqa: TID251  as the SDK sees it

from tests.double import BatchPlan, Fault, wire
from tests.double.batches import LIFETIME
from tests.double.caller import BODY, Caller, block, calling, user
from tests.double.prompt import compact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anthropic.types.messages import MessageBatch  # noqa: TID251  the same

    from tests.double.models import Json


@pytest.fixture(scope="module")
def shared() -> Iterator[Caller]:
    with calling() as made:
        yield made


@pytest.fixture
def caller(shared: Caller) -> Caller:
    shared.double.reset()
    return shared


def request(name: str, **changes: object) -> Json:
    return {"custom_id": name, "params": {**BODY, "messages": user(f"ticket {name}"), **changes}}


def make(caller: Caller, *requests: Json) -> MessageBatch:
    return caller.client.messages.batches.create(requests=requests)  # type: ignore[arg-type]  # bodies as they are


def results(caller: Caller, batch: MessageBatch) -> dict[str, Any]:
    return {line.custom_id: line.result for line in caller.client.messages.batches.results(batch.id)}


def test_a_batch_is_worked_off_and_told_once_in_no_order(caller: Caller) -> None:
    caller.double.batching(BatchPlan(seconds=60))
    batch = make(caller, *(request(f"t{number}") for number in range(9)))
    assert (batch.processing_status, batch.request_counts.processing, batch.results_url) == ("in_progress", 9, None)
    assert not batch.model_extra
    with pytest.raises(BadRequestError):
        caller.client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=object)
    caller.double.advance(60)
    ended = caller.client.messages.batches.retrieve(batch.id)
    assert (ended.processing_status, ended.request_counts.succeeded, ended.request_counts.processing) == ("ended", 9, 0)
    assert ended.ended_at is not None
    assert ended.created_at < ended.ended_at < ended.expires_at
    told = results(caller, ended)
    assert sorted(told) == [f"t{number}" for number in range(9)] != list(told)
    message = told["t3"].message
    assert (message.role, message.usage.service_tier, message.model_extra) == ("assistant", "batch", {})


@pytest.mark.parametrize(
    "requests",
    [
        [],
        [request("same"), request("same")],
        [request("")],
        [request("x" * 65)],
        [request("a b")],
        [request("ä")],
        [{"custom_id": "a"}],
        [{"params": BODY}],
        [{**request("a"), "priority": 1}],
        ["a"],
    ],
)
def test_a_wrong_envelope_is_a_400(requests: list[Any], caller: Caller) -> None:
    with pytest.raises(BadRequestError):
        make(caller, *requests)
    with pytest.raises(BadRequestError):
        caller.client.post("/v1/messages/batches", body={"requests": requests or "none", "x": 1}, cast_to=object)
    assert caller.double.batch_ids == []


def test_a_batch_that_is_too_large_is_a_413(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole request counts, to the byte, and a batch may be larger than a message."""
    assert (wire.BATCH_LIMIT, wire.BODY_LIMIT) == (256 * 2**20, 32 * 2**20)
    body = {"requests": [request("a", messages=user("x" * 10_000))]}
    sent = compact(body)
    monkeypatch.setattr(wire, "BODY_LIMIT", 1_000)
    monkeypatch.setattr(wire, "BATCH_LIMIT", len(sent))
    headers = {"content-type": "application/json"}
    caller.client.post("/v1/messages/batches", content=sent, cast_to=object, options={"headers": headers})
    monkeypatch.setattr(wire, "BATCH_LIMIT", len(sent) - 1)
    with pytest.raises(RequestTooLargeError) as caught:
        caller.client.post("/v1/messages/batches", content=sent, cast_to=object, options={"headers": headers})
    assert (caught.value.status_code, caught.value.type) == (413, "request_too_large")
    assert len(caller.double.batch_ids) == 1


def test_params_are_checked_like_a_message_when_their_turn_comes(caller: Caller) -> None:
    batch = make(
        caller,
        request("good"),
        request("hot", temperature=0.0),
        request("streamed", stream=True),
        request("warming", max_tokens=0),
        request("nobody", model="claude-haiku-9"),
    )
    told = results(caller, batch)
    assert told.pop("good").type == "succeeded"
    assert {one.type for one in told.values()} == {"errored"}
    assert told["hot"].error.error.type == "invalid_request_error"
    assert told["nobody"].error.error.type == "not_found_error"


def test_half_the_price_cache_included(caller: Caller) -> None:
    system = [block("s" * 31_000, "1h")]
    caller.send(system=system, max_tokens=1)
    primed = caller.double.account.cost
    batch = make(caller, *(request(str(number), system=system) for number in range(4)))
    live = [caller.send(**request(str(number), system=system)["params"]).usage for number in range(4)]
    told = results(caller, batch)
    assert [told[str(number)].message.usage.cache_read_input_tokens for number in range(4)] == [10_000] * 4
    calls = caller.double.account.calls
    by_batch = sum((call.cost for call in calls if call.batch), Decimal(0))
    assert len(live) == 4
    assert by_batch * 2 == caller.double.account.cost - primed - by_batch


def test_the_cache_is_hit_as_often_as_it_is_told(caller: Caller) -> None:
    system = [block("s" * 31_000, "1h")]
    caller.send(system=system, max_tokens=1)
    caller.double.batching(BatchPlan(hits=0.6))
    told = results(caller, make(caller, *(request(str(number), system=system) for number in range(100))))
    read = [one.message.usage.cache_read_input_tokens for one in told.values()]
    written = [one.message.usage.cache_creation.ephemeral_1h_input_tokens for one in told.values()]
    assert 45 <= sum(tokens == 10_000 for tokens in read) <= 75
    assert all(a + b == 10_000 for a, b in zip(read, written, strict=True))


def test_some_are_errored_or_expired_and_not_billed(caller: Caller) -> None:
    caller.double.batching(BatchPlan(errored=0.3, expired=0.3))
    told = results(caller, make(caller, *(request(str(number)) for number in range(60))))
    kinds = [one.type for one in told.values()]
    assert set(kinds) == {"succeeded", "errored", "expired"}
    assert caller.double.account.totals.replies == kinds.count("succeeded")


def test_cancelled_in_the_middle_the_answered_ones_stay(caller: Caller) -> None:
    caller.double.batching(BatchPlan(seconds=100))
    batch = make(caller, *(request(str(number)) for number in range(10)))
    caller.double.advance(40)
    assert caller.client.messages.batches.cancel(batch.id).processing_status == "canceling"
    ended = caller.client.messages.batches.retrieve(batch.id)
    counts = ended.request_counts
    assert (ended.processing_status, counts.succeeded, counts.canceled) == ("ended", 4, 6)
    assert ended.cancel_initiated_at is not None
    with pytest.raises(BadRequestError):
        caller.client.messages.batches.cancel(batch.id)


def test_after_a_day_what_is_left_expires(caller: Caller) -> None:
    caller.double.batching(BatchPlan(seconds=2 * LIFETIME))
    batch = make(caller, *(request(str(number)) for number in range(10)))
    caller.double.advance(LIFETIME)
    counts = caller.client.messages.batches.retrieve(batch.id).request_counts
    assert (counts.succeeded, counts.expired) == (5, 5)


def test_batches_are_listed_newest_first_by_pages(caller: Caller) -> None:
    made = [make(caller, request("a")).id for _ in range(5)]
    listed = caller.client.messages.batches.list(limit=2)
    assert [batch.id for batch in listed] == made[::-1]
    assert [batch.id for batch in caller.client.messages.batches.list(limit=2).data] == [made[4], made[3]]
    with pytest.raises(BadRequestError):
        caller.client.messages.batches.list(limit=0)
    with pytest.raises(NotFoundError):
        caller.client.messages.batches.retrieve("msgbatch_unknown")


def test_faults_of_the_endpoints_themselves(caller: Caller) -> None:
    caller.double.fault(Fault("server_error", agent="batch", at=(0,)), Fault("cut_before", agent="batch", at=(1,)))
    with pytest.raises(InternalServerError):
        make(caller, request("a"))
    assert caller.double.batch_ids == []
    with pytest.raises(Exception, match="onnection"):
        make(caller, request("a"))
    assert len(caller.double.batch_ids) == 1, "taken, although nobody was told so"
    assert caller.client.messages.batches.list().data[0].id == caller.double.batch_ids[0]
