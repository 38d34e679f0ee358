"""The gateway speaks to the strict double through the real SDK over real HTTP."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agents import qc, triage
from agents.api_errors import retry_after
from agents.gateway import CallFailed, Endpoint, Gateway, Mode
from agents.question import Question, Turn
from tests.cast import MODEL, nonce_for, revision, shipped_context
from tests.double import Double, Fault, running

if TYPE_CHECKING:
    from tests.double.faults import Kind


def gateway(double: Double, *, key: str | None = None, timeout: float = 10.0) -> Gateway:
    mode: Mode = "tool" if double.profile == "llamacpp" else "format"
    return Gateway(Endpoint(key or double.key, double.base_url, mode=mode, timeout_seconds=timeout))


def qc_question() -> Question:
    return qc.question(revision(), shipped_context(), model=MODEL, nonce_for=nonce_for, triage=None)


def triage_question() -> Question:
    return triage.question(revision(), shipped_context(), model=MODEL, nonce_for=nonce_for)


@pytest.mark.parametrize("question", [qc_question(), triage_question()], ids=["qc", "triage"])
def test_both_agents_questions_are_accepted_and_answered(double: Double, question: Question) -> None:
    reply = gateway(double).ask(question)
    assert (reply.outcome, reply.stop_reason, reply.model) == ("answered", "end_turn", MODEL)
    assert json.loads(reply.text)
    assert reply.usage.output > 0
    assert reply.request_id


def test_workers_do_not_think(double: Double) -> None:
    gateway(double).ask(qc_question())
    (body,) = double.bodies
    assert body["thinking"] == {"type": "disabled"}
    assert body["output_config"]["effort"] == "low"
    assert not {"temperature", "tools", "tool_choice"} & body.keys()


def test_the_strong_tier_thinks_adaptively(double: Double) -> None:
    asked = replace(qc_question(), agent="chief_of_staff", model="claude-sonnet-5-5")
    assert gateway(double).ask(asked).outcome == "answered"
    assert double.bodies[-1]["thinking"] == {"type": "adaptive"}


@pytest.mark.parametrize(("timeout", "patience"), [(0.1, 0.3), (0.5, 0.5)])
def test_the_strong_tier_is_waited_for_as_long_as_its_own_limit_says(
    double: Double, timeout: float, patience: float
) -> None:
    where = Endpoint(double.key, double.base_url, timeout_seconds=timeout, strong_timeout_seconds=0.3)
    speaker = Gateway(replace(where, mode="tool"))  # this mode asks the server nothing else before
    double.fault(Fault("hang", times=2))
    with pytest.raises(CallFailed, match=f"no answer within {patience:g} s"):
        speaker.ask(replace(qc_question(), agent="chief_of_staff"))
    with pytest.raises(CallFailed, match=f"no answer within {timeout:g} s"):
        speaker.ask(qc_question())


def test_a_worker_on_a_model_that_cannot_stop_thinking_thinks_as_little_as_it_may(double: Double) -> None:
    gateway(double).ask(replace(qc_question(), model="claude-sonnet-5-5"))
    assert double.bodies[-1]["thinking"] == {"type": "between_tools"}


def test_an_older_model_is_sent_only_what_it_knows(double: Double) -> None:
    assert gateway(double).ask(replace(qc_question(), model="claude-haiku-4-5")).outcome == "answered"


def test_the_whole_prefix_is_read_from_the_cache_after_priming(double: Double) -> None:
    speaker = gateway(double)
    primed = speaker.prime(qc_question())
    assert primed.usage.output == 1
    assert "VPN" not in str(double.bodies[-1]["messages"])
    assert primed.usage.cache_write_5m > 0
    reply = speaker.ask(qc_question())
    assert reply.usage.cache_read == primed.usage.cache_write_5m
    assert reply.usage.cache_write_5m == 0


def test_a_repair_turn_is_accepted(double: Double) -> None:
    asked = qc_question()
    turns = (*asked.turns, Turn("assistant", "nonsense"), Turn("user", "Give the whole answer again."))
    assert gateway(double).ask(replace(asked, turns=turns, purpose="repair")).outcome == "answered"


@pytest.mark.parametrize(("kind", "outcome"), [("refuse", "refused"), ("truncate", "truncated")])
def test_what_is_no_answer_is_still_a_paid_reply(double: Double, kind: Kind, outcome: str) -> None:
    double.fault(Fault(kind))
    reply = gateway(double).ask(qc_question())
    assert reply.outcome == outcome
    assert reply.usage.input + reply.usage.cache_write_5m > 0


@pytest.mark.parametrize(
    ("kind", "code", "permanent", "stops_all"),
    [
        ("rate_limit", "rate_limited", False, False),
        ("overloaded", "overloaded", False, False),
        ("server_error", "server_error", False, False),
        ("cut_before", "connection", False, False),
        ("cut_middle", "connection", False, False),
        ("hang", "timeout", False, False),
        ("invalid_key", "authentication", True, True),
        ("billing", "billing", True, True),
        ("permission", "permission", True, True),
        ("spend_limit", "billing", True, True),
        ("on_hold", "permission", True, True),
    ],
)
def test_every_error_has_its_class(double: Double, kind: Kind, code: str, *, permanent: bool, stops_all: bool) -> None:
    speaker = gateway(double, timeout=0.5)
    speaker.look_up(MODEL)
    double.fault(Fault(kind))
    with pytest.raises(CallFailed) as caught:
        speaker.ask(qc_question())
    failure = caught.value
    assert (failure.code, failure.permanent, failure.stops_all) == (code, permanent, stops_all)
    assert len(double.account.calls) == 1


def test_retry_after_is_passed_on(double: Double) -> None:
    double.fault(Fault("rate_limit", retry_after=7))
    with pytest.raises(CallFailed) as caught:
        gateway(double).ask(qc_question())
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("0.5", 0.5), ("-3", 0), ("1e9", 3600), ("inf", None), ("1e400", None), ("nan", None), ("soon", None)],
)
def test_no_header_makes_us_wait_for_days(said: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": said}) == seconds


def test_a_wrong_key_is_said_at_the_look_up(double: Double) -> None:
    with pytest.raises(CallFailed) as caught:
        gateway(double, key="wrong").look_up(MODEL)
    assert caught.value.code == "authentication"
    assert "wrong" not in str(caught.value)


def test_an_unknown_model_is_said_at_the_look_up(double: Double) -> None:
    with pytest.raises(CallFailed) as caught:
        gateway(double).look_up("claude-nonesuch-9")
    assert caught.value.code == "unknown_model"


def test_a_server_that_is_not_there_is_a_connection_error() -> None:
    nobody = Gateway(Endpoint("key", "http://127.0.0.1:9", timeout_seconds=2))
    with pytest.raises(CallFailed) as caught:
        nobody.look_up(MODEL)
    assert caught.value.code == "connection"


def test_a_server_that_ignores_formats_is_asked_through_one_forced_tool() -> None:
    with running(profile="llamacpp") as local:
        reply = gateway(local).ask(qc_question())
        assert reply.outcome == "answered"
        assert set(json.loads(reply.text)) == {"findings", "triage"}
        body = local.bodies[-1]
        assert body["tool_choice"] == {"type": "tool", "name": "answer", "disable_parallel_tool_use": True}
        assert "output_config" not in body
        lines = body["tools"][0]["input_schema"]["$defs"]["finding"]["properties"]["lines"]
        assert lines == {"type": "array", "items": {"type": "integer"}, "maxItems": 4}
        assert "thinking" not in body


def test_the_strong_tier_has_less_room_where_nothing_is_thought() -> None:
    with running(profile="llamacpp") as local:
        asked = replace(qc_question(), agent="chief_of_staff", max_tokens=16_000)
        assert gateway(local).ask(asked).outcome == "answered"
        assert local.bodies[-1]["max_tokens"] == 4_000


def test_a_server_that_says_nothing_of_itself_is_tried_out() -> None:
    with running(profile="llamacpp") as local:
        speaker = Gateway(Endpoint(local.key, local.base_url))
        speaker.look_up("any-model")
        assert speaker.mode == "tool"
        assert speaker.ask(replace(qc_question(), model="any-model")).outcome == "answered"


def test_the_limits_in_every_answer_are_heard_good_and_bad(double: Double) -> None:
    heard: list[tuple[str, str]] = []
    asked = gateway(double)
    asked.listen(lambda model, headers: heard.append((model, headers["anthropic-ratelimit-requests-limit"])))
    asked.ask(qc_question())
    double.fault(Fault("rate_limit", times=1))
    with pytest.raises(CallFailed):
        asked.ask(qc_question())
    assert heard == [(MODEL, "4000")] * 2


def test_the_smallest_call_shows_whether_the_account_can_be_billed(double: Double) -> None:
    asked = gateway(double)
    reply = asked.probe(MODEL)
    assert reply.usage.output == 1
    assert reply.usage.input < 20
    double.fault(Fault("billing", times=1))
    with pytest.raises(CallFailed) as caught:
        asked.probe(MODEL)
    assert caught.value.code == "billing"
