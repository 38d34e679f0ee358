"""Every way in which the double can go wrong, as the real SDK sees it, and which calls a plan picks."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

import httpx2
import pytest
from anthropic import (  # noqa: TID251  what the SDK makes of each fault
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    InternalServerError,
    OverloadedError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
)

from tests.double import Fault, running
from tests.double.caller import Caller, block, calling, client_of, closed, formatted, text_of, user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.double.faults import Kind

FORM = formatted(closed(answer={"type": "string"}, many={"type": "array", "items": {"type": "integer"}}))


@pytest.fixture(scope="module")
def shared() -> Iterator[Caller]:
    with calling() as made:
        yield made


@pytest.fixture
def caller(shared: Caller) -> Caller:
    shared.double.reset()
    return shared


@pytest.mark.parametrize(
    ("kind", "error", "status", "name"),
    [
        ("rate_limit", RateLimitError, 429, "rate_limit_error"),
        ("overloaded", OverloadedError, 529, "overloaded_error"),
        ("server_error", InternalServerError, 500, "api_error"),
        ("invalid_key", AuthenticationError, 401, "authentication_error"),
        ("billing", PaymentRequiredError, 402, "billing_error"),
        ("permission", PermissionDeniedError, 403, "permission_error"),
    ],
)
def test_an_error_instead_of_a_reply(
    kind: Kind, error: type[APIStatusError], status: int, name: str, caller: Caller
) -> None:
    caller.double.fault(Fault(kind, at=(0,)))
    with pytest.raises(error) as caught:
        caller.send()
    assert (caught.value.status_code, caught.value.type) == (status, name)
    assert caught.value.request_id
    assert caller.send().stop_reason == "end_turn"
    assert [call.status for call in caller.double.account.calls] == [status, 200]


@pytest.mark.parametrize("kind", ["rate_limit", "overloaded"])
def test_retry_after_is_sent_in_seconds(kind: Kind, caller: Caller) -> None:
    caller.double.fault(Fault(kind, retry_after=1.5))
    with pytest.raises(APIStatusError) as caught:
        caller.send()
    assert caught.value.response.headers["retry-after"] == "1.5"
    assert "anthropic-ratelimit-requests-remaining" in caught.value.response.headers


def test_the_sdks_own_retries_get_through_a_passing_fault(caller: Caller) -> None:
    caller.double.fault(Fault("overloaded", at=(0,)))
    patient = caller.client.with_options(max_retries=1)
    started = time.monotonic()
    patient.messages.create(model="claude-haiku-5-5", max_tokens=9, messages=[{"role": "user", "content": "x"}])
    assert len(caller.double.account.calls) == 2
    assert time.monotonic() - started > 0.3


def test_a_call_that_hangs_ends_with_the_clients_patience(caller: Caller) -> None:
    caller.double.fault(Fault("hang", at=(0,)))
    with client_of(caller.double, timeout=0.3) as hasty, pytest.raises(APITimeoutError):
        hasty.messages.create(model="claude-haiku-5-5", max_tokens=9, messages=[{"role": "user", "content": "x"}])
    assert caller.send().stop_reason == "end_turn"
    assert caller.double.account.calls[0].use is None


def test_a_hanging_call_does_not_keep_the_double_from_stopping() -> None:
    errors: list[Exception] = []

    def hang(caller: Caller) -> None:
        try:
            caller.send()
        except APIConnectionError as error:
            errors.append(error)

    with calling() as caller:
        caller.double.fault(Fault("hang"))
        thread = threading.Thread(target=hang, args=(caller,))
        thread.start()
        while not caller.double.account.calls:
            time.sleep(0.01)
        caller.double.stop()
        thread.join(5)
    assert len(errors) == 1


@pytest.mark.parametrize("kind", ["cut_before", "cut_middle"])
def test_a_connection_that_is_cut_is_billed_but_not_delivered(kind: Kind, caller: Caller) -> None:
    caller.double.fault(Fault(kind, at=(0,)))
    with pytest.raises(APIConnectionError) as caught:
        caller.send()
    assert not isinstance(caught.value, APITimeoutError)
    assert caller.send().stop_reason == "end_turn"
    totals = caller.double.account.totals
    assert (totals.requests, totals.replies, totals.undelivered) == (2, 2, 1)


def test_a_client_that_gave_up_is_billed_but_not_delivered(caller: Caller) -> None:
    caller.double.fault(Fault("slow", at=(0,), seconds=0.5))
    with client_of(caller.double, timeout=0.2) as hasty, pytest.raises(APITimeoutError):
        hasty.messages.create(model="claude-haiku-5-5", max_tokens=9, messages=[{"role": "user", "content": "x"}])
    deadline = time.monotonic() + 5
    while caller.double.account.calls[0].end is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert caller.double.account.totals.undelivered == 1


def test_a_refusal_is_a_200_with_its_category(caller: Caller) -> None:
    caller.double.fault(Fault("refuse", category="cyber"))
    reply = caller.send(output_config=FORM)
    assert (reply.stop_reason, text_of(reply)) == ("refusal", "")
    assert reply.stop_details is not None
    assert reply.stop_details.category == "cyber"
    assert caller.double.account.totals.replies == 1


def test_a_truncated_answer_is_json_without_its_end(caller: Caller) -> None:
    whole = text_of(caller.send(output_config=FORM))
    caller.double.fault(Fault("truncate"))
    reply = caller.send(output_config=FORM)
    assert reply.stop_reason == "max_tokens"
    assert whole.startswith(text_of(reply))
    with pytest.raises(json.JSONDecodeError):
        json.loads(text_of(reply))


def test_max_tokens_truncates_by_itself(caller: Caller) -> None:
    caller.double.answer_with(lambda _: "a" * 310)
    try:
        reply = caller.send(max_tokens=10)
    finally:
        caller.double.answer_with(None)
    assert (reply.stop_reason, reply.usage.output_tokens, text_of(reply)) == ("max_tokens", 10, "a" * 31)


def test_the_contexts_end_has_its_own_stop_reason(caller: Caller) -> None:
    """200,000 tokens fit Haiku 4.5; the prompt leaves five of them for the answer."""
    caller.double.answer_with(lambda _: "a" * 310)
    try:
        reply = caller.send(model="claude-haiku-4-5", messages=user("x" * 619_984))
    finally:
        caller.double.answer_with(None)
    assert reply.usage.input_tokens == 199_995
    assert (reply.stop_reason, reply.usage.output_tokens) == ("model_context_window_exceeded", 5)


def test_an_empty_reply_has_no_content(caller: Caller) -> None:
    caller.double.fault(Fault("empty"))
    assert caller.send(output_config=FORM).content == []


def test_answers_that_do_not_fit_the_schema(caller: Caller) -> None:
    caller.double.fault(Fault("invalid_json", at=(0,)), Fault("wrong_schema", at=(1,)))
    with pytest.raises(json.JSONDecodeError):
        json.loads(text_of(caller.send(output_config=FORM)))
    assert "answer" not in json.loads(text_of(caller.send(output_config=FORM)))


# --- which calls a plan picks


def picked(caller: Caller, *faults: Fault, calls: int = 12) -> list[int]:
    """The numbers of the calls that a refusal hit."""
    caller.double.fault(*faults)
    return [number for number in range(calls) if caller.send().stop_reason == "refusal"]


def test_by_number(caller: Caller) -> None:
    assert picked(caller, Fault("refuse", at=(0, 3, 4))) == [0, 3, 4]


def test_every_nth(caller: Caller) -> None:
    assert picked(caller, Fault("refuse", every=5)) == [4, 9]


def test_so_many_times(caller: Caller) -> None:
    assert picked(caller, Fault("refuse", times=2)) == [0, 1]


def test_a_share_that_a_seed_repeats(caller: Caller) -> None:
    first = picked(caller, Fault("refuse", share=0.4, seed=7), calls=40)
    caller.double.reset()
    assert picked(caller, Fault("refuse", share=0.4, seed=7), calls=40) == first
    assert 8 <= len(first) <= 24


def test_by_what_the_user_turns_say(caller: Caller) -> None:
    caller.double.fault(Fault("refuse", match="printer"))
    assert caller.send(messages=user("1| the printer is broken")).stop_reason == "refusal"
    assert caller.send(messages=user("1| the phone is broken"), system=[block("printer")]).stop_reason == "end_turn"


def test_by_agent(caller: Caller) -> None:
    triage = formatted(
        closed(
            category={"enum": ["network"]},
            priority={"enum": ["p1"]},
            ask={"type": "array", "items": {"type": "string"}},
        )
    )
    caller.double.fault(Fault("refuse", agent="triage"))
    assert caller.send(output_config=FORM).stop_reason == "end_turn"
    assert caller.send(output_config=triage).stop_reason == "refusal"


def test_the_first_rule_that_fits_decides(caller: Caller) -> None:
    assert picked(caller, Fault("empty", at=(1,)), Fault("refuse", at=(1, 2))) == [2]


def test_a_plan_over_http() -> None:
    with running() as double, client_of(double) as client:
        rules = {"rules": [{"kind": "rate_limit", "at": [0], "retry_after": 2}]}
        assert httpx2.post(f"{double.base_url}/double/faults", json=rules).status_code == 200
        with pytest.raises(RateLimitError):
            Caller(double, client).send()
        assert Caller(double, client).send().stop_reason == "end_turn"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"kind": "explode"}, "a fault's kind is one of"),
        ({"kind": "hang", "when": 3}, "unknown in a fault: when"),
        ({}, "a fault's kind is one of"),
    ],
)
def test_a_plan_that_could_never_fire_is_refused(rule: dict[str, object], message: str, caller: Caller) -> None:
    answer = httpx2.post(f"{caller.double.base_url}/double/faults", json={"rules": [rule]})
    assert answer.status_code == 400
    assert message in answer.json()["error"]
