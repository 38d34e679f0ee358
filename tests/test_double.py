"""The double as a server: who is let in, what it tells of its models, how it is started and steered."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx2
import pytest
from anthropic import AuthenticationError, BadRequestError, NotFoundError  # noqa: TID251  as the SDK sees it

from tests.double.caller import BODY, HAIKU, SONNET, Caller, block, calling, client_of, closed, formatted, user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.double.models import Json


@pytest.fixture(scope="module")
def shared() -> Iterator[Caller]:
    with calling() as made:
        yield made


@pytest.fixture
def caller(shared: Caller) -> Caller:
    shared.double.reset()
    return shared


def post(caller: Caller, content: bytes, **headers: str) -> httpx2.Response:
    """A request past the SDK, with headers of its own."""
    known = {"authorization": f"Bearer {caller.double.key}", "anthropic-version": "2026-10-21"}
    return httpx2.post(f"{caller.double.base_url}/v1/messages", content=content, headers={**known, **headers})


# --- let in


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", "Basic double-key", "double-key", "Bearer double-key-and-more"]
)
def test_only_a_valid_bearer_key_is_let_in(header: str, caller: Caller) -> None:
    answer = post(caller, json.dumps(BODY).encode(), authorization=header)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"


def test_x_api_key_is_not_a_way_in(caller: Caller) -> None:
    assert post(caller, b"{}", **{"authorization": "", "x-api-key": caller.double.key}).status_code == 401


def test_the_key_is_checked_before_anything_else(caller: Caller) -> None:
    with client_of(caller.double, key="wrong") as stranger, pytest.raises(AuthenticationError):
        stranger.messages.create(model="nonsense", max_tokens=-1, messages=[])
    with client_of(caller.double, key="wrong") as stranger, pytest.raises(AuthenticationError):
        stranger.models.retrieve(HAIKU)


def test_other_keys_can_be_made_the_valid_ones(caller: Caller) -> None:
    caller.double.accept_keys("new-one")
    try:
        with pytest.raises(AuthenticationError):
            caller.send()
        with client_of(caller.double, key="new-one") as known:
            assert Caller(caller.double, known).send().role == "assistant"
    finally:
        caller.double.accept_keys(caller.double.key)


@pytest.mark.parametrize("version", ["", "2023-06-01"])
def test_another_api_version_is_a_400(version: str, caller: Caller) -> None:
    answer = post(caller, json.dumps(BODY).encode(), **{"anthropic-version": version})
    assert answer.status_code == 400
    assert "anthropic-version" in answer.json()["error"]["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'"text"', b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_a_400(content: bytes, caller: Caller) -> None:
    answer = post(caller, content)
    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
    assert answer.json()["request_id"] == answer.headers["request-id"]


def test_an_unknown_path_is_a_404(caller: Caller) -> None:
    with pytest.raises(NotFoundError):
        caller.client.post("/v1/complete", body={}, cast_to=object)


def test_what_is_not_http_is_hung_up_on(caller: Caller) -> None:
    with socket.create_connection(("127.0.0.1", caller.double.port)) as line:
        line.sendall(b"this is no request\r\n\r\n")
        line.settimeout(5)
        with suppress(ConnectionResetError):
            assert line.recv(100) == b""
    assert caller.send().role == "assistant"


# --- replies


def test_replies_carry_ids_and_rate_limits(caller: Caller) -> None:
    raw = caller.client.messages.with_raw_response.create(
        model=HAIKU, max_tokens=9, messages=[{"role": "user", "content": "Hello"}]
    )
    reply = raw.parse()
    assert reply.id.startswith("msg_01")
    assert str(reply._request_id).startswith("req_01")  # noqa: SLF001  the SDK's documented name
    assert int(raw.headers["anthropic-ratelimit-requests-remaining"]) > 0
    assert raw.headers["anthropic-ratelimit-input-tokens-limit"]


def test_every_field_of_a_reply_is_one_that_the_sdk_knows(caller: Caller) -> None:
    schema = closed(ok={"type": "boolean"})
    reply = caller.send(output_config=formatted(schema), thinking={"type": "adaptive"})
    for part in (reply, reply.usage, *reply.content):
        assert not part.model_extra
        type(part).model_validate(part.model_dump(), strict=True)


@pytest.mark.parametrize(
    ("model", "thinking", "efforts"),
    [
        (HAIKU, {"adaptive", "disabled"}, {"low", "medium", "high", "xhigh", "max"}),
        (SONNET, {"adaptive", "between_tools"}, {"low", "medium", "high", "xhigh", "max"}),
        ("claude-haiku-4-5", {"enabled", "disabled"}, set()),
    ],
)
def test_a_model_tells_what_it_can(model: str, thinking: set[str], efforts: set[str], caller: Caller) -> None:
    info = caller.client.models.retrieve(model)
    assert (info.id, info.lifecycle, info.retires_at, info.model_extra) == (model, "active", None, {})
    able = info.capabilities
    assert able is not None
    assert {kind for kind, support in able.thinking.types if support.supported} == thinking
    levels = {"low": able.effort.low, "medium": able.effort.medium, "high": able.effort.high, "max": able.effort.max}
    assert {level for level, support in levels.items() if support.supported} == efforts - {"xhigh"}
    assert able.effort.supported == bool(efforts)


def test_models_that_go_say_so(caller: Caller) -> None:
    going = caller.client.models.retrieve("claude-sonnet-4-5")
    assert going.lifecycle == "deprecated"
    assert going.retires_at is not None
    assert going.retires_at.date().isoformat() == "2026-11-30"
    assert caller.client.models.retrieve("claude-sonnet-4-20250514").lifecycle == "retired"
    with pytest.raises(NotFoundError, match="model: claude-haiku-9"):
        caller.client.models.retrieve("claude-haiku-9")
    assert HAIKU in {model.id for model in caller.client.models.list()}


def test_counting_gives_what_a_message_is_billed(caller: Caller) -> None:
    body: Json = {"model": HAIKU, "system": [block("s" * 3100)], "messages": user("q" * 31)}
    body["output_config"] = formatted(closed(ok={"type": "boolean"}))
    counted = caller.client.messages.count_tokens(**body)
    assert counted.input_tokens == caller.send(**body).usage.input_tokens == 1044
    with pytest.raises(BadRequestError, match="at least one message"):
        caller.client.messages.count_tokens(model=HAIKU, messages=[])
    with pytest.raises(NotFoundError):
        caller.client.messages.count_tokens(model="nobody", messages=[{"role": "user", "content": "x"}])


# --- many at once


def test_sixteen_at_once_are_served_at_once() -> None:
    with calling(latency=0.5) as caller, ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: caller.send(), range(32)))
        account = caller.double.account
        timing = account.to_json()["timing"]
    assert account.most_in_flight == 16
    assert timing["seconds"] >= 1.0
    assert min((call.end or 0) - call.start for call in account.calls) >= 0.5


def test_requests_are_kept_for_tests_to_read(caller: Caller) -> None:
    caller.send(messages=user("remember this"))
    assert caller.double.bodies[-1]["messages"] == user("remember this")


# --- by HTTP


def test_account_reset_and_settings_over_http(caller: Caller) -> None:
    url = f"{caller.double.base_url}/double"
    caller.send(system=[block("s" * 3100, "5m")])
    account = httpx2.get(f"{url}/account").json()
    assert account["totals"]["cache_write_5m_tokens"] == 1000
    assert account["requests"][0]["status"] == 200
    assert account["timing"]["max_in_flight"] == 1
    assert httpx2.post(f"{url}/settings", json={"advance": 301}).status_code == 200
    assert caller.usage(system=[block("s" * 3100, "5m")])[1] == 1000
    assert httpx2.post(f"{url}/reset").status_code == 200
    assert httpx2.get(f"{url}/account").json()["totals"]["requests"] == 0


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("settings", {"speed": 3}, 400), ("settings", {"latency": "soon"}, 400), ("faults", [], 400), ("else", {}, 404)],
)
def test_a_wrong_control_is_refused(path: str, body: object, status: int, caller: Caller) -> None:
    answer = httpx2.post(f"{caller.double.base_url}/double/{path}", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_a_process_of_its_own_says_where_it_is_and_stops_when_told() -> None:
    command = [sys.executable, "-m", "tests.double", "--port", "0", "--latency", "0.1", "--key", "k1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  our own module
        killer = threading.Timer(20, process.kill)
        killer.start()
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        answer = httpx2.post(
            f"{where['base_url']}/v1/messages",
            json=BODY,
            headers={"authorization": "Bearer k1", "anthropic-version": "2026-10-21"},
        )
        process.send_signal(signal.SIGTERM)
        code = process.wait(10)
        killer.cancel()
    assert (answer.status_code, where["profile"], code) == (200, "anthropic", 0)
    assert answer.elapsed.total_seconds() >= 0.1
