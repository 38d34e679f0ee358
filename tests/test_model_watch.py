"""The models of a process: each role moves from looked up to ready or failed, and the pages are told on each change."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text

from agents.gateway import CallFailed
from app import model_watch
from app.errors import DatabaseUnavailable
from app.local_model import LocalState
from app.model_watch import LONGEST_LOOK_UP_AGAIN, LOOK_UP_AGAIN_SECONDS, PROVEN, Models
from app.tables import ModelState
from tests.double import Double, running

if TYPE_CHECKING:
    from typing import NoReturn

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.models import Ready
    from app.settings import Settings

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"


def with_key(settings: Settings, base_url: str, key: str, **changes: object) -> Settings:
    update = {"anthropic_api_key": SecretStr(key), "anthropic_base_url": base_url, **changes}
    return settings.model_copy(update=update)


class Clock:
    """Monotonic time that a test moves on."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(model_watch, "time", made)
    return made


class Local:
    """The local model's published state, as a test sets it."""

    state = LocalState()

    def read_state(self, _home: object) -> LocalState:
        return self.state


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Local:
    made = Local()
    monkeypatch.setattr("app.model_watch.local_model.read_state", made.read_state)
    return made


def states(session: Session) -> dict[str, ModelState]:
    session.expire_all()
    return {row.role: row for row in session.scalars(select(ModelState))}


def worker(session: Session) -> ModelState:
    return states(session)["worker"]


def ready(models: Models) -> Ready:
    found = models.ready()
    assert found is not None
    return found


def resumes(session: Session) -> int:
    counted = "select count(*) from procrastinate.procrastinate_jobs where task_name = 'resume'"
    return session.scalar(text(counted)) or 0


def test_both_roles_are_looked_up_and_ready(engine: Engine, session: Session, keyed: Settings) -> None:
    models = Models(engine, keyed)
    assert models.ready() is None
    models.refresh()
    assert {role: (row.state, row.model) for role, row in states(session).items()} == {
        "worker": ("ready", HAIKU),
        "strong": ("ready", SONNET),
    }
    ready = models.ready()
    assert ready is not None
    assert ready.model == HAIKU
    assert not worker(session).demonstration


def test_looking_up_costs_no_tokens_and_happens_once(
    engine: Engine, keyed: Settings, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models(engine, keyed)
    models.refresh()
    assert double.account.calls == []

    def again(*_: object, **__: object) -> NoReturn:
        raise AssertionError("looked up again")

    monkeypatch.setattr(model_watch, "open_model", again)
    models.refresh()


def test_none_is_a_state_of_its_own(engine: Engine, session: Session, keyed: Settings) -> None:
    models = Models(engine, keyed.model_copy(update={"worker_model": "none"}))
    models.refresh()
    assert (worker(session).state, worker(session).model) == ("none", "")
    assert models.ready() is None


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"anthropic_api_key": SecretStr("sk-wrong-key")}, "Set a valid ANTHROPIC_API_KEY"),
        ({"worker_model": "claude-nonesuch-9"}, "Set TICKETQC_WORKER_MODEL"),
        ({"worker_model": "claude-sonnet-4-20250514"}, "retired"),
        ({"anthropic_api_key": None, "anthropic_base_url": None, "worker_model": HAIKU}, "needs an API key"),
    ],
)
def test_what_cannot_work_is_failed_with_advice(
    engine: Engine, session: Session, keyed: Settings, changes: dict[str, object], advice: str
) -> None:
    models = Models(engine, keyed.model_copy(update={"strong_model": "none", **changes}))
    models.refresh()
    assert worker(session).state == "failed"
    assert advice in worker(session).detail
    assert "sk-wrong-key" not in worker(session).detail
    assert models.ready() is None


def test_advice_for_the_strong_role_names_its_own_setting(engine: Engine, session: Session, keyed: Settings) -> None:
    Models(engine, keyed.model_copy(update={"strong_model": "claude-nonesuch-9"})).refresh()
    assert "TICKETQC_STRONG_MODEL" in states(session)["strong"].detail
    assert worker(session).state == "ready"


def test_an_unreachable_server_is_tried_again_until_it_answers(
    engine: Engine, session: Session, settings: Settings, clock: Clock
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    models = Models(engine, with_key(settings, f"http://127.0.0.1:{port}", "double-key", strong_model="none"))
    models.refresh()
    assert worker(session).state == "checking"
    assert "tried again by itself" in worker(session).detail
    with running(port=port):
        clock.seconds += LOOK_UP_AGAIN_SECONDS - 1
        models.refresh()
        assert worker(session).state == "checking"
        clock.seconds += 1
        models.refresh()
        assert (worker(session).state, worker(session).detail) == ("ready", "")


def test_a_key_that_is_mended_at_the_vendor_works_again_by_itself(
    engine: Engine, session: Session, keyed: Settings, double: Double, clock: Clock
) -> None:
    double.accept_keys("another")
    models = Models(engine, keyed)
    models.refresh()
    double.accept_keys(double.key)
    models.refresh()
    assert worker(session).state == "failed"
    clock.seconds += LOOK_UP_AGAIN_SECONDS
    models.refresh()
    assert worker(session).state == "ready"


def test_a_call_that_says_no_call_can_succeed_ends_readiness_until_a_look_up_succeeds(
    engine: Engine, session: Session, keyed: Settings, clock: Clock
) -> None:
    models = Models(engine, keyed)
    models.refresh()
    models.failed(CallFailed("permission", "HTTP 403: not this model"), asked=ready(models))
    assert models.ready() is None
    assert models.ready("strong") is not None
    assert worker(session).state == "failed"
    assert "may not use" in worker(session).detail
    models.refresh()
    assert models.ready() is None
    clock.seconds += LOOK_UP_AGAIN_SECONDS
    models.refresh()
    assert models.ready() is not None
    assert worker(session).state == "ready"


def test_a_late_failure_of_a_model_that_was_opened_anew_since_is_not_held_against_it(
    engine: Engine, keyed: Settings, clock: Clock
) -> None:
    models = Models(engine, keyed)
    models.refresh()
    before = ready(models)
    models.failed(CallFailed("permission", "HTTP 403"), asked=before)
    clock.seconds += LOOK_UP_AGAIN_SECONDS
    models.refresh()
    models.failed(CallFailed("permission", "HTTP 403"), asked=before)
    assert ready(models) is not before


def test_a_refusal_that_no_look_up_sees_is_asked_about_ever_more_rarely(
    engine: Engine, keyed: Settings, clock: Clock
) -> None:
    models = Models(engine, keyed)
    models.refresh()
    waits = []
    for _ in range(7):
        for _ in range(16):  # as many calls as were under way say so
            if asked := models.ready():
                models.failed(CallFailed("permission", "HTTP 403"), asked=asked)
        began = clock.seconds
        while models.ready() is None:
            clock.seconds += LOOK_UP_AGAIN_SECONDS
            models.refresh()
        waits.append(clock.seconds - began)
    assert waits == [30, 60, 120, 240, 480, LONGEST_LOOK_UP_AGAIN, LONGEST_LOOK_UP_AGAIN]
    clock.seconds += PROVEN
    models.failed(CallFailed("permission", "HTTP 403"), asked=ready(models))
    clock.seconds += LOOK_UP_AGAIN_SECONDS
    models.refresh()
    assert models.ready() is not None


def test_a_row_is_written_only_when_something_changed(
    engine: Engine, session: Session, keyed: Settings, clock: Clock
) -> None:
    models = Models(engine, keyed)
    models.refresh()
    first = worker(session).changed_at
    models.refresh()
    assert worker(session).changed_at == first
    models.failed(CallFailed("permission", "HTTP 403"), asked=ready(models))
    second = worker(session).changed_at
    assert second > first
    clock.seconds += 1
    models.refresh()
    assert worker(session).changed_at == second


def test_what_could_not_be_written_is_written_the_next_time(
    engine: Engine, session: Session, keyed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models(engine, keyed)

    def away(_engine: Engine) -> NoReturn:
        raise DatabaseUnavailable("the database cannot be reached")

    with monkeypatch.context() as patched:
        patched.setattr(model_watch, "transaction", away)
        with pytest.raises(DatabaseUnavailable):
            models.refresh()
    models.refresh()
    assert worker(session).state == "ready"


def test_what_waited_is_resumed_when_the_worker_becomes_ready(
    engine: Engine, session: Session, keyed: Settings, double: Double, clock: Clock
) -> None:
    double.accept_keys("another")
    models = Models(engine, keyed)
    models.refresh()
    assert resumes(session) == 0
    double.accept_keys(double.key)
    clock.seconds += LOOK_UP_AGAIN_SECONDS
    models.refresh()
    models.refresh()
    assert resumes(session) == 1


def test_the_local_model_is_followed_from_absent_to_ready(
    engine: Engine, session: Session, settings: Settings, local: Local
) -> None:
    models = Models(engine, settings)
    models.refresh()
    assert worker(session).state == "failed"
    assert "not running" in worker(session).detail
    for state in (
        LocalState("downloading", progress=0.25, detail="from the model hub"),
        LocalState("downloading", progress=0.5, detail="from the model hub"),
        LocalState("loading", detail="verifying", model="local:qwen"),
    ):
        local.state = state
        models.refresh()
        row = worker(session)
        assert (row.state, row.progress, row.detail) == (state.state, state.progress, state.detail)
        assert row.demonstration
        assert models.ready() is None
    local.state = LocalState("ready", url="http://127.0.0.1:1234", model="local:qwen")
    models.refresh()
    for role, row in states(session).items():
        assert (role, row.state, row.model, row.demonstration) == (role, "ready", "local:qwen", True)
    ready = models.ready()
    assert ready is not None
    assert ready.demonstration


def test_a_local_model_that_died_is_not_asked_and_a_new_one_is(
    engine: Engine, session: Session, settings: Settings, local: Local
) -> None:
    models = Models(engine, settings)
    local.state = LocalState("ready", url="http://127.0.0.1:1234", model="local:qwen")
    models.refresh()
    first = models.ready()
    models.refresh()
    assert models.ready() is first
    local.state = LocalState("absent", detail="the weights are damaged")
    models.refresh()
    assert models.ready() is None
    assert (worker(session).state, worker(session).detail) == ("failed", "the weights are damaged")
    local.state = LocalState("ready", url="http://127.0.0.1:4321", model="local:qwen")
    models.refresh()
    assert models.ready() is not None
    assert models.ready() is not first


def test_a_local_model_that_refuses_is_opened_again(
    engine: Engine, session: Session, settings: Settings, local: Local, clock: Clock
) -> None:
    models = Models(engine, settings)
    local.state = LocalState("ready", url="http://127.0.0.1:1234", model="local:qwen")
    models.refresh()
    models.failed(CallFailed("unknown_model", "HTTP 404"), asked=ready(models))
    models.refresh()
    assert models.ready() is None
    assert worker(session).state == "failed"
    clock.seconds += LOOK_UP_AGAIN_SECONDS
    models.refresh()
    assert models.ready() is not None
    assert worker(session).state == "ready"


def test_a_local_model_at_a_new_address_is_opened_anew(engine: Engine, settings: Settings, local: Local) -> None:
    models = Models(engine, settings)
    local.state = LocalState("ready", url="http://127.0.0.1:1234", model="local:qwen")
    models.refresh()
    first = models.ready()
    local.state = replace(local.state, url="http://127.0.0.1:4321")
    models.refresh()
    assert models.ready() is not None
    assert models.ready() is not first


def test_a_local_model_that_failed_says_why(engine: Engine, session: Session, settings: Settings, local: Local) -> None:
    local.state = LocalState("failed", detail="too little room for the local model")
    Models(engine, settings).refresh()
    assert (worker(session).state, worker(session).detail) == ("failed", "too little room for the local model")
