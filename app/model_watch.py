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
from app.limiter import Limiter
from app.models import CONCURRENCY, LOCAL, ROLES, Choice, Ready, Role, choose, explain, open_model
from app.queue import enqueue
from app.tables import ModelState

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.settings import Settings

log = structlog.get_logger()

State = Literal["none", "checking", "downloading", "loading", "ready", "failed"]

LOOK_UP_AGAIN_SECONDS = 30.0
# An unpaid bill, for instance, is seen by no look-up: the wait doubles each time the calls after it are refused.
LONGEST_LOOK_UP_AGAIN = 900.0  # seconds
PROVEN = 60.0  # seconds; a model that was ready for so long did answer
NOT_RUNNING = "the local model is not running. `ticketqc up` runs it; or set ANTHROPIC_API_KEY to judge with Claude."


@dataclass(frozen=True)
class Status:
    """What the pages say of a role's model."""

    state: State
    model: str
    demonstration: bool = False
    progress: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class _Failure:
    status: Status
    until: float  # monotonic; then it is looked up again


class Models:
    """The models of this process, looked up in the background; `refresh` is called every few seconds by one thread."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._limiter = Limiter(maximum=CONCURRENCY)
        self._lock = threading.Lock()
        self._ready: dict[Role, Ready] = {}
        self._local_urls: dict[Role, str | None] = {}
        self._failures: dict[Role, _Failure] = {}
        self._opened_at: dict[Role, float] = {}
        self._patience: dict[Role, float] = {}  # seconds until the look-up after the next refused call
        self._written: dict[Role, Status] = {}

    def choice(self, role: Role = "worker") -> Choice:
        return choose(self._settings, role)

    def ready(self, role: Role = "worker") -> Ready | None:
        """The role's model if it can answer now."""
        with self._lock:
            return self._ready.get(role)

    def failed(self, failure: CallFailed, *, asked: Ready, role: Role = "worker") -> None:
        """A call said that no call can succeed (key, billing, model): nothing more is sent until a look-up succeeds.

        Many calls may say so at once, and late: only the first about the model that was asked counts.
        """
        now = time.monotonic()
        with self._lock:
            if self._ready.get(role) is not asked:
                return
            del self._ready[role]
            proven = now - self._opened_at[role] >= PROVEN
            wait = LOOK_UP_AGAIN_SECONDS if proven else self._patience.get(role, LOOK_UP_AGAIN_SECONDS)
            self._patience[role] = min(2 * wait, LONGEST_LOOK_UP_AGAIN)
            status = self._failure_status(self.choice(role), failure)
            self._failures[role] = _Failure(status, now + wait)
        self._write(role, status)

    def refresh(self) -> None:
        """Moves each role on: look up, follow the local model, publish the state for the pages."""
        for role in ROLES:
            self._write(role, self._status(self.choice(role)))

    def _status(self, choice: Choice) -> Status:
        if not choice.judged_by_model:
            return Status("none", "")
        if choice.local:
            return self._local_status(choice)
        return self._standing(choice) or self._opened(choice, None)

    def _standing(self, choice: Choice) -> Status | None:
        """What the last look-up found or the calls since; None where it is time for another look."""
        with self._lock:
            if ready := self._ready.get(choice.role):
                return Status("ready", ready.model, ready.demonstration)
            failure = self._failures.get(choice.role)
            return failure.status if failure and time.monotonic() < failure.until else None

    def _local_status(self, choice: Choice) -> Status:
        local = local_model.read_state(self._settings.data_dir)
        if local.state == "ready":
            same = local.url == self._local_urls.get(choice.role)
            self._local_urls[choice.role] = local.url
            return (same and self._standing(choice)) or self._opened(choice, local)
        with self._lock:
            self._ready.pop(choice.role, None)
        self._local_urls[choice.role] = None
        if local.state == "absent":
            return Status("failed", LOCAL, demonstration=True, detail=local.detail or NOT_RUNNING)
        model = local.model or LOCAL
        return Status(local.state, model, demonstration=True, progress=local.progress, detail=local.detail)

    def _opened(self, choice: Choice, local: local_model.LocalState | None) -> Status:
        try:
            ready = open_model(self._settings, choice, limiter=self._limiter, local=local)
        except CallFailed as failure:
            status = self._failure_status(choice, failure)
            with self._lock:
                self._ready.pop(choice.role, None)
                self._failures[choice.role] = _Failure(status, time.monotonic() + LOOK_UP_AGAIN_SECONDS)
            return status
        with self._lock:
            self._ready[choice.role] = ready
            self._opened_at[choice.role] = time.monotonic()
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
