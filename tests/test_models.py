"""Which model plays which role, where it is served, and what a failure tells the person who runs this."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from agents.gateway import CallFailed, FailureCode, Gateway, ModelFacts
from agents.judge import LOCAL_TOKEN_LIMIT, TOKEN_LIMIT
from app.limiter import Limiter
from app.local_model import LocalState
from app.models import ROLES, Choice, choose, describe, endpoint, explain, open_model
from tests.double import running

if TYPE_CHECKING:
    from app.models import Role
    from app.settings import Settings

KEY = "sk-ant-secret"
HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"


@pytest.fixture
def keyed(settings: Settings) -> Settings:
    return settings.model_copy(update={"anthropic_api_key": SecretStr(KEY)})


def named(settings: Settings, **changes: object) -> Settings:
    return settings.model_copy(update=changes)


@pytest.mark.parametrize(("role", "model"), [("worker", HAIKU), ("strong", SONNET)])
def test_a_key_chooses_the_default_of_the_role(keyed: Settings, role: Role, model: str) -> None:
    assert choose(keyed, role) == Choice(role, model)


@pytest.mark.parametrize("role", ROLES)
def test_without_a_key_the_local_model_plays_every_role(settings: Settings, role: Role) -> None:
    choice = choose(settings, role)
    assert choice.local
    assert choice.judged_by_model


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "local", "none", "some-other-model"])
def test_a_named_model_is_taken_with_a_key_or_without(settings: Settings, keyed: Settings, model: str) -> None:
    for one in (settings, keyed):
        assert choose(named(one, worker_model=model)).model == model
        assert choose(named(one, strong_model=model), "strong").model == model
        assert choose(named(one, strong_model=model)) == choose(one)


def test_a_server_that_needs_no_key_is_a_choice_of_that_server(settings: Settings) -> None:
    served = named(settings, anthropic_base_url="http://10.0.0.7:8080")
    assert choose(served) == Choice("worker", HAIKU)
    assert choose(served, "strong") == Choice("strong", HAIKU)


@pytest.mark.parametrize("model", ["none", "local", "house-model"])
def test_without_a_key_the_strong_role_is_played_by_the_workers_model(
    settings: Settings, keyed: Settings, model: str
) -> None:
    assert choose(named(settings, worker_model=model), "strong") == Choice("strong", model)
    assert choose(named(keyed, worker_model=model), "strong") == Choice("strong", SONNET)


def test_none_is_judged_by_no_model(keyed: Settings) -> None:
    choice = choose(named(keyed, worker_model="none"))
    assert not choice.judged_by_model
    assert not choice.local


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"worker_model": "none"}, "none: checks run"),
        ({}, "demonstration model, no claim of quality"),
        ({"anthropic_api_key": SecretStr(KEY)}, f"{HAIKU} at the Anthropic API"),
        (
            {"anthropic_api_key": SecretStr(KEY), "anthropic_base_url": "https://llm.example.com"},
            f"{HAIKU} at https://llm.example.com",
        ),
        (
            {"worker_model": "house-model", "anthropic_base_url": "http://10.0.0.7:8080"},
            "house-model at http://10.0.0.7",
        ),
    ],
)
def test_one_line_says_who_judges_and_never_the_key(settings: Settings, changes: dict[str, object], about: str) -> None:
    line = describe(named(settings, **changes))
    assert about in line
    assert "\n" not in line
    assert KEY not in line


def test_the_key_goes_to_the_configured_server(keyed: Settings) -> None:
    found = endpoint(named(keyed, anthropic_base_url="https://llm.example.com"), Choice("worker", HAIKU))
    assert (found.api_key, found.base_url, found.mode) == (KEY, "https://llm.example.com", "format")


def test_another_server_needs_no_key(settings: Settings) -> None:
    found = endpoint(named(settings, anthropic_base_url="http://10.0.0.7:8080"), Choice("worker", "house-model"))
    assert (found.api_key, found.base_url) == ("none", "http://10.0.0.7:8080")


def test_the_vendors_api_without_a_key_is_refused_before_any_call(settings: Settings) -> None:
    with pytest.raises(CallFailed) as caught:
        endpoint(settings, Choice("worker", HAIKU))
    assert (caught.value.code, caught.value.stops_all) == ("no_key", True)


def test_the_local_model_is_never_sent_the_key(keyed: Settings) -> None:
    found = endpoint(keyed, Choice("worker", "local"), local_url="http://127.0.0.1:1234")
    assert (found.api_key, found.base_url, found.mode) == ("local", "http://127.0.0.1:1234", "tool")


@pytest.mark.parametrize(
    ("code", "about"),
    [
        ("no_key", "Set ANTHROPIC_API_KEY, or choose local or none by TICKETQC_STRONG_MODEL"),
        ("authentication", "Set a valid ANTHROPIC_API_KEY"),
        ("billing", "billing with the vendor"),
        ("permission", "may not use claude-sonnet-5-5"),
        ("unknown_model", "Set TICKETQC_STRONG_MODEL to one that exists"),
        ("overloaded", "cannot be reached"),
    ],
)
def test_every_failure_says_what_to_do_and_what_the_server_said(code: FailureCode, about: str) -> None:
    said = explain(CallFailed(code, "HTTP 4xx: its own words"), Choice("strong", SONNET))
    assert about in said
    assert "its own words" in said


def test_a_model_is_looked_up_before_it_counts_as_ready(settings: Settings) -> None:
    with running() as double:
        keyed = named(settings, anthropic_api_key=SecretStr(double.key), anthropic_base_url=double.base_url)
        ready = open_model(keyed, choose(keyed), limiter=Limiter(maximum=4), local=None)
        assert (ready.model, ready.demonstration, ready.token_limit) == (HAIKU, False, TOKEN_LIMIT)
        with pytest.raises(CallFailed) as caught:
            open_model(
                named(keyed, worker_model="claude-sonnet-4-20250514"),
                Choice("worker", "claude-sonnet-4-20250514"),
                limiter=Limiter(maximum=4),
                local=None,
            )
        assert caught.value.code == "unknown_model"
        assert "retired" in str(caught.value)
        assert double.account.calls == []


def test_a_small_window_leaves_room_for_context_and_answer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gateway, "look_up", lambda _self, model: ModelFacts(model, max_input_tokens=16_000))
    other = named(settings, worker_model="house-model", anthropic_base_url="http://127.0.0.1:9")
    assert open_model(other, choose(other), limiter=Limiter(maximum=4), local=None).token_limit == 8_000


def test_the_local_model_is_a_demonstration_with_a_short_limit(settings: Settings) -> None:
    state = LocalState("ready", url="http://127.0.0.1:1234", model="local:qwen")
    ready = open_model(settings, choose(settings), limiter=Limiter(maximum=16), local=state)
    assert (ready.model, ready.demonstration, ready.token_limit) == ("local:qwen", True, LOCAL_TOKEN_LIMIT)


@pytest.mark.parametrize("state", [None, LocalState("loading"), LocalState("absent")])
def test_a_local_model_that_is_not_there_is_not_opened(settings: Settings, state: LocalState | None) -> None:
    with pytest.raises(CallFailed) as caught:
        open_model(settings, choose(settings), limiter=Limiter(maximum=16), local=state)
    assert not caught.value.permanent
