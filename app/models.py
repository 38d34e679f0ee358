"""Which model plays each role, where it is, and whether it can answer now.

A key chooses Anthropic's API (or the server of ANTHROPIC_BASE_URL); without one the local demonstration model is taken;
`none` means that nothing is judged by a model. Looking a model up never keeps the service waiting.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import structlog
from sqlalchemy import Engine, func
from sqlalchemy.dialects.postgresql import insert

from agents.gateway import CallFailed, Endpoint, Gateway, ModelFacts
from agents.judge import LOCAL_TOKEN_LIMIT, TOKEN_LIMIT
from app import local_model
from app.asking import Asking, Pace
from app.db import transaction
from app.queue import enqueue
from app.tables import ModelState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.settings import Settings


log = structlog.get_logger()

Role = Literal["worker", "strong"]
State = Literal["none", "checking", "downloading", "loading", "ready", "failed"]

ROLES: tuple[Role, ...] = get_args(Role)
DEFAULTS: Mapping[Role, str] = {"worker": "claude-haiku-5-5", "strong": "claude-sonnet-5-5"}
NONE, LOCAL = "none", "local"
CONCURRENCY = 16  # calls in flight per process
LOCAL_CONCURRENCY = 1  # more would only evict each other's prefix
LOCAL_TIMEOUT_SECONDS = 900.0  # two busy cores slow a local model tenfold
LOOK_UP_AGAIN_SECONDS = 30.0


@dataclass(frozen=True)
class Choice:
    """What the settings name for one role: `none`, `local`, or a model's id."""

    role: Role
    model: str

    @property
    def judged_by_model(self) -> bool:
        return self.model != NONE

    @property
    def local(self) -> bool:
        return self.model == LOCAL


def choose(settings: Settings, role: Role = "worker") -> Choice:
    """A named model if there is one; else the default where there is a key; else the local one."""
    named = settings.worker_model if role == "worker" else settings.strong_model
    if named:
        return Choice(role, named)
    return Choice(role, DEFAULTS[role] if settings.anthropic_api_key else LOCAL)


def describe(settings: Settings) -> str:
    """One line for the terminal: which model judges."""
    choice = choose(settings)
    if not choice.judged_by_model:
        return "none: checks run, judged criteria are not scored (set ANTHROPIC_API_KEY, or start without MODEL=none)"
    if choice.local:
        return "the local demonstration model, no claim of quality (set ANTHROPIC_API_KEY for Claude)"
    return f"{choice.model} at {settings.anthropic_base_url or 'the Anthropic API'}"


def endpoint(settings: Settings, choice: Choice, *, local_url: str | None = None) -> Endpoint:
    """Where a chosen model is served. Raises CallFailed `authentication` where a key is needed and there is none."""
    if choice.local:
        return Endpoint("local", local_url, mode="tool", timeout_seconds=LOCAL_TIMEOUT_SECONDS)
    if settings.anthropic_api_key:
        return Endpoint(settings.anthropic_api_key.get_secret_value(), settings.anthropic_base_url)
    if settings.anthropic_base_url:
        return Endpoint("none", settings.anthropic_base_url)
    raise CallFailed("authentication", f"{choice.model} needs a key: set ANTHROPIC_API_KEY")


@dataclass(frozen=True)
class Ready:
    """A model that answers now."""

    model: str
    asking: Asking
    demonstration: bool
    token_limit: int


@dataclass(frozen=True)
class Status:
    """What the pages say of a role's model."""

    state: State
    model: str
    demonstration: bool = False
    progress: float | None = None
    detail: str = ""


def open_model(settings: Settings, choice: Choice, *, concurrency: int, local: local_model.LocalState | None) -> Ready:
    """Looks a chosen model up and opens it. Raises CallFailed where it cannot be used."""
    if choice.local:
        if local is None or local.url is None or local.model is None:
            raise CallFailed("connection", "the local model is not running")
        gateway = Gateway(endpoint(settings, choice, local_url=local.url))
        return Ready(local.model, Asking(gateway, pace=Pace(concurrency=LOCAL_CONCURRENCY)), True, LOCAL_TOKEN_LIMIT)  # noqa: FBT003
    gateway = Gateway(endpoint(settings, choice))
    facts = gateway.look_up(choice.model)
    return Ready(choice.model, Asking(gateway, pace=Pace(concurrency=concurrency)), False, _token_limit(facts))  # noqa: FBT003


def _token_limit(facts: ModelFacts) -> int:
    """Half of a small model's window at the most, so that context files and answer fit beside the ticket."""
    return min(TOKEN_LIMIT, facts.max_input_tokens // 2) if facts.max_input_tokens else TOKEN_LIMIT


class Models:
    """The models of this process, looked up in the background; `refresh` is called every few seconds by one thread."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._lock = threading.Lock()
        self._ready: dict[Role, Ready] = {}
        self._local_urls: dict[Role, str | None] = {}
        self._failed_at: dict[Role, float] = {}
        self._written: dict[Role, Status] = {}

    def choice(self, role: Role = "worker") -> Choice:
        return choose(self._settings, role)

    def ready(self, role: Role = "worker") -> Ready | None:
        """The role's model if it can answer now."""
        with self._lock:
            return self._ready.get(role)

    def failed(self, failure: CallFailed, role: Role = "worker") -> None:
        """A call said that no call can succeed (key, billing, model): nothing more is sent until a look-up succeeds."""
        with self._lock:
            self._ready.pop(role, None)
            self._failed_at[role] = time.monotonic()
        self._write(role, self._failure_status(self.choice(role), failure))

    def refresh(self) -> None:
        """Moves each role on: look up, follow the local model, publish the state for the pages."""
        for role in ROLES:
            self._write(role, self._status(self.choice(role)))

    def _status(self, choice: Choice) -> Status:
        if not choice.judged_by_model:
            return Status("none", "")
        if choice.local:
            return self._local_status(choice)
        if ready := self.ready(choice.role):
            return Status("ready", ready.model)
        waited = time.monotonic() - self._failed_at.get(choice.role, float("-inf"))
        if waited < LOOK_UP_AGAIN_SECONDS:
            return self._written.get(choice.role) or Status("checking", choice.model)
        return self._opened(choice, None)

    def _local_status(self, choice: Choice) -> Status:
        local = local_model.read_state(self._settings.data_dir)
        if local.state == "ready" and local.url != self._local_urls.get(choice.role):
            status = self._opened(choice, local)
            self._local_urls[choice.role] = local.url if status.state == "ready" else None
            return status
        if local.state == "ready":
            return Status("ready", local.model or LOCAL, demonstration=True)
        with self._lock:
            self._ready.pop(choice.role, None)
        self._local_urls[choice.role] = None
        if local.state == "absent":
            return Status("failed", LOCAL, demonstration=True, detail=local.detail or "the local model is not running")
        return Status(local.state, local.model or LOCAL, True, local.progress, local.detail)  # noqa: FBT003

    def _opened(self, choice: Choice, local: local_model.LocalState | None) -> Status:
        try:
            ready = open_model(self._settings, choice, concurrency=CONCURRENCY, local=local)
        except CallFailed as failure:
            self._failed_at[choice.role] = time.monotonic()
            return self._failure_status(choice, failure)
        with self._lock:
            self._ready[choice.role] = ready
        log.info("model.ready", role=choice.role, model=ready.model)
        return Status("ready", ready.model, ready.demonstration)

    def _failure_status(self, choice: Choice, failure: CallFailed) -> Status:
        log.warning("model.unavailable", role=choice.role, model=choice.model, code=failure.code)
        state: State = "failed" if failure.permanent else "checking"
        return Status(state, choice.model, choice.local, detail=explain(failure, choice.model))

    def _write(self, role: Role, status: Status) -> None:
        if self._written.get(role) == status:
            return
        values = {"role": role, **vars(status)}
        changed = {**{name: values[name] for name in vars(status)}, "changed_at": func.clock_timestamp()}
        with transaction(self._engine) as session:
            statement = insert(ModelState).values(**values)
            session.execute(statement.on_conflict_do_update(index_elements=["role"], set_=changed))
            if status.state == "ready" and role == "worker":
                enqueue(session, "resume", once="resume")  # what waited for this model waits no longer
        self._written[role] = status


def explain(failure: CallFailed, model: str) -> str:
    """What a failure means for the person who runs this, and what to do."""
    advice = {
        "authentication": "the API key was not accepted. Set a valid ANTHROPIC_API_KEY and restart.",
        "billing": "the account cannot be billed. Mend billing with the vendor; work goes on by itself.",
        "permission": "the API key may not use this model. Choose another model or key.",
        "unknown_model": f"the model {model} is not known. Set TICKETQC_WORKER_MODEL to one that exists.",
    }
    return f"{advice.get(failure.code, 'the model cannot be reached; it is tried again by itself.')} ({failure})"
