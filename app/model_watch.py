"""What the models of this process are doing: looked up in the background, published for the pages.

Looking a model up never keeps anything waiting; what waits for a model is resumed the moment it can answer.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import structlog
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from agents.gateway import CallFailed
from app import local_model
from app.db import transaction
from app.models import CONCURRENCY, LOCAL, ROLES, Choice, Ready, Role, choose, explain, open_model
from app.queue import enqueue
from app.tables import ModelState

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.settings import Settings

log = structlog.get_logger()

State = Literal["none", "checking", "downloading", "loading", "ready", "failed"]

LOOK_UP_AGAIN_SECONDS = 30.0
NOT_RUNNING = "the local model is not running. `ticketqc up` runs it; or set ANTHROPIC_API_KEY to judge with Claude."


@dataclass(frozen=True)
class Status:
    """What the pages say of a role's model."""

    state: State
    model: str
    demonstration: bool = False
    progress: float | None = None
    detail: str = ""


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
            return Status("failed", LOCAL, demonstration=True, detail=local.detail or NOT_RUNNING)
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
        again = "" if failure.permanent else "; it is tried again by itself"
        return Status(state, choice.model, choice.local, detail=explain(failure, choice) + again)

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
