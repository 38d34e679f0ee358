"""What the models of this process are doing: looked up in the background, published for the pages.

Looking a model up never keeps anything waiting; what waits for a model is resumed the moment it can answer. What holds
for the key, every process hears of: it is in the database, and looked at every few seconds.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import structlog
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from agents.gateway import CallFailed
from app import local_model, queue, runs
from app.breaker import OF_A_MODEL, OF_THE_KEY, Breaker
from app.budget import Budget
from app.db import transaction
from app.errors import DatabaseUnavailable
from app.limiter import Limiter
from app.models import CONCURRENCY, LOCAL, ROLES, Choice, Ready, Role, choose, explain, open_model
from app.tables import ModelState

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from agents.question import Reply
    from app.breaker import Open
    from app.settings import Settings

log = structlog.get_logger()

State = Literal["none", "checking", "downloading", "loading", "ready", "failed"]

LOOK_UP_AGAIN_SECONDS = 30.0
# A missing permission, for instance, is seen by no look-up: the wait doubles each time the calls after it are refused.
LONGEST_LOOK_UP_AGAIN = 900.0  # seconds
PROVEN = 60.0  # seconds; a model that was ready for so long did answer
SILENCE = timedelta(seconds=20)  # a worker without a heartbeat for so long has no share of the key's limits
AGAIN = "; it is tried again by itself"
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
        self.budget = Budget(engine, settings)
        self._limiter = Limiter(maximum=CONCURRENCY)
        self._breaker = Breaker(engine, settings)
        self._open: Open | None = None  # as it was when last looked at
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
        choice, now = self.choice(role), time.monotonic()
        shared = failure.code in OF_THE_KEY and not choice.local
        with self._lock:
            if self._ready.get(role) is not asked:
                return
            del self._ready[role]
            status = self._failure_status(choice, failure)
            if not shared:
                self._failures[role] = _Failure(status, now + self._patience_after(role, now))
        if shared:
            self._breaker.open(failure, detail=explain(failure, choice))
        self._write(role, status)

    def _patience_after(self, role: Role, now: float) -> float:
        """Seconds until the look-up after a refused call."""
        proven = now - self._opened_at[role] >= PROVEN
        wait = LOOK_UP_AGAIN_SECONDS if proven else self._patience.get(role, LOOK_UP_AGAIN_SECONDS)
        self._patience[role] = min(2 * wait, LONGEST_LOOK_UP_AGAIN)
        return wait

    def refresh(self) -> None:
        """Moves each role on: look up, follow the local model, publish the state for the pages."""
        self._look_around()
        for role in ROLES:
            self._write(role, self._status(self.choice(role)))

    def _look_around(self) -> None:
        """What other processes know of our key, and how many use it; as before, where the database is away."""
        with suppress(DatabaseUnavailable), transaction(self._engine) as session:
            self._open = self._breaker.look(session)
            self._limiter.sharers = max(1, queue.alive(session, silence=SILENCE))

    def _status(self, choice: Choice) -> Status:
        if not choice.judged_by_model:
            return Status("none", "")
        if choice.local:
            return self._local_status(choice)
        if self._open is not None:
            return self._barred(choice, self._open)
        return self._standing(choice) or self._opened(choice, None)

    def _barred(self, choice: Choice, barred: Open) -> Status:
        """Nobody asks with this key; where its time has come and we are first, we find out whether it works again."""
        with self._lock:
            ready = self._ready.pop(choice.role, None)
        if ready is not None:
            ready.asking.stop(CallFailed("billing" if barred.code == "billing" else "authentication", barred.detail))
        if barred.due and self._breaker.claim() and (status := self._probed(choice)) is not None:
            return status
        return Status("failed", choice.model, detail=barred.detail + AGAIN)

    def _probed(self, choice: Choice) -> Status | None:
        """The model's new state where the smallest billed call succeeds; that call is on record.

        Also where nothing is wrong but the model of this role: another role's calls then tell about the key.
        """
        try:
            ready = self._model(choice, None)
            reply = _probe(ready)
        except CallFailed as failure:
            log.warning("model.probe_failed", role=choice.role, code=failure.code)
            return self._only_the_model(choice, failure) if failure.code in OF_A_MODEL else None
        with transaction(self._engine) as session:
            runs.record_probe(session, model=ready.model, reply=reply)
            self._breaker.close(session)
        self._open = None
        return self._taken(choice, ready)

    def _only_the_model(self, choice: Choice, failure: CallFailed) -> Status:
        """The breaker is closed for the others; this role's model fails alone."""
        with transaction(self._engine) as session:
            self._breaker.close(session)
        self._open = None
        return self._failed_look_up(choice, failure)

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

    def _model(self, choice: Choice, local: local_model.LocalState | None) -> Ready:
        return open_model(self._settings, choice, limiter=self._limiter, local=local, purse=self.budget)

    def _opened(self, choice: Choice, local: local_model.LocalState | None) -> Status:
        try:
            ready = self._model(choice, local)
        except CallFailed as failure:
            return self._failed_look_up(choice, failure)
        return self._taken(choice, ready)

    def _failed_look_up(self, choice: Choice, failure: CallFailed) -> Status:
        status = self._failure_status(choice, failure)
        with self._lock:
            self._ready.pop(choice.role, None)
            self._failures[choice.role] = _Failure(status, time.monotonic() + LOOK_UP_AGAIN_SECONDS)
        return status

    def _taken(self, choice: Choice, ready: Ready) -> Status:
        with self._lock:
            self._failures.pop(choice.role, None)
            self._ready[choice.role] = ready
            self._opened_at[choice.role] = time.monotonic()
        log.info("model.ready", role=choice.role, model=ready.model)
        return Status("ready", ready.model, ready.demonstration)

    def _failure_status(self, choice: Choice, failure: CallFailed) -> Status:
        log.warning("model.unavailable", role=choice.role, model=choice.model, code=failure.code)
        state: State = "failed" if failure.permanent else "checking"
        again = AGAIN if failure.code in OF_THE_KEY or not failure.permanent else ""
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
                queue.enqueue(session, "resume", once="resume")  # what waited for this model waits no longer
        self._written[role] = status


def _probe(ready: Ready) -> Reply:
    """The smallest billed call. Where it fails, the model is not taken, and its connections are closed."""
    try:
        return ready.asking.probe(ready.model)
    except CallFailed:
        ready.asking.close()
        raise
