"""The edge of a job: its log context, and what an error does to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from procrastinate import BaseRetryStrategy, JobContext, RetryDecision
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from typing_extensions import override

from app.db import transaction
from app.errors import DatabaseUnavailable, TicketqcError
from app.queue import Lost, drop_once

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from procrastinate.jobs import Job

    from app.deps import Deps

log = structlog.get_logger()

TRANSIENT_TRIES = 20  # with the waits below a database may be away for a quarter of an hour
LONGEST_WAIT = 60  # seconds
TRIES = 3  # what failed for another reason twice more is a defect, not bad luck
RETRIABLE = ("40", "57", "55P03")  # SQLSTATE: rolled back for another's sake, cancelled or shut down, lock timeout


class Handler(NamedTuple):
    """`run(deps, **arguments)` does a task's work.

    `give_up(deps, reason, **arguments)` leaves a trace for people of what a job worked on that ends without success.
    """

    run: Callable[..., None]
    give_up: Callable[..., None] | None = None


class TryAgain(Exception):  # noqa: N818  a decision; what went wrong is its cause
    def __init__(self, *, seconds: int) -> None:
        super().__init__(f"again in {seconds} s")
        self.seconds = seconds


class Retry(BaseRetryStrategy):
    """Carries out what the job's edge has decided."""

    @override
    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        return RetryDecision(retry_in={"seconds": exception.seconds}) if isinstance(exception, TryAgain) else None


def transient(error: BaseException) -> bool:
    """True where the database was away or chose this transaction as the victim: nothing was written, try again."""
    if isinstance(error, DatabaseUnavailable | PoolTimeout):
        return True
    state = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    return isinstance(state, str) and state.startswith(RETRIABLE)


def wait_after(error: BaseException, *, attempts: int) -> int | None:
    """Seconds until a job that has been tried `attempts` times before is tried again; None = it is given up."""
    if transient(error):
        return min(2**attempts, LONGEST_WAIT) if attempts < TRANSIENT_TRIES - 1 else None
    return 5 * (attempts + 1) if attempts < TRIES - 1 else None


def _in_words(error: Exception, *, job: Job) -> str:
    """Our own errors speak to people; any other may repeat what it was given, so only the log has its words."""
    return str(error) if isinstance(error, TicketqcError) else f"{type(error).__name__}; see the log of job {job.id}"


@dataclass(frozen=True)
class Edge:
    """Runs the handlers' jobs in the worker's threads; `running` are the ids of those that a thread is in."""

    deps: Deps
    handlers: Mapping[str, Handler]
    running: set[int] = field(default_factory=set)

    def run(self, context: JobContext, /, **arguments: Any) -> None:  # noqa: ANN401  a job's row
        """One try of one job; an error ends here, logged, as another try later or as given up."""
        job = context.job
        assert job.id is not None  # noqa: S101  a job that runs was stored
        self.running.add(job.id)
        try:
            with structlog.contextvars.bound_contextvars(task=job.task_name, job=job.id, **arguments):
                self._try(job, arguments)
        finally:
            self.running.discard(job.id)

    def _try(self, job: Job, arguments: Mapping[str, Any]) -> None:
        try:
            self.handlers[job.task_name].run(self.deps, **arguments)
        except Exception as error:
            wait = wait_after(error, attempts=job.attempts)
            if wait is None:
                log.exception("job.given_up", attempts=job.attempts + 1)
                self.give_up(job.task_name, arguments, reason=_in_words(error, job=job))
                raise
            log.exception("job.failed", attempts=job.attempts + 1, again_in_seconds=wait)
            raise self._again(job, seconds=wait) from error

    def _again(self, job: Job, *, seconds: int) -> TryAgain:
        if job.queueing_lock is not None and job.id is not None:
            with transaction(self.deps.engine) as session:
                drop_once(session, job=job.id)
        return TryAgain(seconds=seconds)

    def bury(self, lost: Lost) -> bool:
        """False where no trace could be left of a job that kills its workers: it had better be tried again."""
        try:
            self.give_up(lost.task, lost.arguments, reason=f"the worker died {lost.attempts} times while at it")
        except TryAgain:
            return False
        return True

    def give_up(self, task: str, arguments: Mapping[str, Any], *, reason: str) -> None:
        """What the job worked on says so to people; where even that cannot be written, the job is tried once more."""
        give_up = self.handlers[task].give_up
        if give_up is None:
            return
        try:
            give_up(self.deps, reason, **arguments)
        except Exception as error:
            log.exception("job.give_up_failed", again_in_seconds=LONGEST_WAIT)
            raise TryAgain(seconds=LONGEST_WAIT) from error
