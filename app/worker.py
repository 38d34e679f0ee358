"""The process that works: many jobs at once, each in a thread; what a dead worker left behind is taken up again."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import psycopg
import structlog
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.worker import Worker
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app import queue
from app.db import transaction
from app.errors import DatabaseUnavailable
from app.jobs import Edge, Handler, Retry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.deps import Deps
    from app.model_watch import Models

log = structlog.get_logger()

CONCURRENCY = 16  # jobs at once; they mostly wait on a model
SHORT = 4  # jobs at once that wait on nobody; see app.queue.Task
SPARE_THREADS = 4  # beside the jobs' own, for the sweep
HEARTBEAT = 5.0  # seconds
SILENCE = timedelta(seconds=20)  # without a heartbeat for this long a worker counts as dead
SWEEP_EVERY = 15.0  # seconds; with SILENCE, a dead worker's job waits again within 35 s
DEATHS = 6  # a job whose worker died this often may well be what kills it
GRACE = 2.0  # seconds in which to finish after a request to stop
RELEASE_WITHIN = 1.0  # seconds; with GRACE well under the 5 s in which everything has to end
POLL = 1.0  # seconds; only what comes back for another try is not announced
RECONNECT = (1, 2, 4, 8, 15)  # seconds between looks at a database that is away
REFRESH = 2.0  # seconds between looks at the models

AWAY = (ConnectorException, psycopg.Error, DBAPIError, PoolTimeout, DatabaseUnavailable)


def run(deps: Deps, *, url: str, handlers: Mapping[str, Handler], concurrency: int = CONCURRENCY) -> None:
    """Works until SIGTERM or SIGINT.

    1. Jobs of dead workers are taken back, now and every 15 s.
    2. Jobs run in threads: `concurrency` at once that wait on a model, and a few short ones beside them. A database
       that goes away is waited for.
    3. Asked to stop, no new job starts; those that run have 2 s.
    4. What runs still then waits for another worker in the database, and this process ends under it.
    """
    # The edge of each job logs its errors; procrastinate's account of them would be the second.
    logging.getLogger("procrastinate.worker").setLevel(logging.CRITICAL)
    logging.getLogger("procrastinate.worker.worker").setLevel(logging.WARNING)
    with _following(deps.models):
        asyncio.run(_Process(Edge(deps, handlers), url=url, concurrency=concurrency).main())


@contextmanager
def _following(models: Models) -> Iterator[None]:
    """While the block runs, the state of the models is looked up in the background."""
    stop = threading.Event()

    def follow() -> None:
        while not stop.is_set():
            try:
                models.refresh()
            except Exception:
                log.exception("models.refresh_failed")
            stop.wait(REFRESH)

    threading.Thread(target=follow, name="models", daemon=True).start()
    try:
        yield
    finally:
        stop.set()


async def _one_statement_each(connection: psycopg.AsyncConnection) -> None:
    """What procrastinate does is one statement each time: a transaction around it would be two more round trips."""
    await connection.set_autocommit(True)


def _trusting(**given: Any) -> AsyncConnectionPool:  # noqa: ANN401  whatever procrastinate gives a pool
    """A connection is used every second; one that is lost ends the round, and the next has new ones."""
    return AsyncConnectionPool(**{**given, "check": None})


class _Process:
    def __init__(self, edge: Edge, *, url: str, concurrency: int) -> None:
        self._edge = edge
        self._url = url
        self._concurrency = concurrency
        self._stop = asyncio.Event()
        self._workers: list[Worker] = []  # one for each lane, while a round works
        self._strays: frozenset[int] = frozenset()  # held at the last sweep although no thread was in them

    async def main(self) -> None:
        """Returns once asked to stop; rounds end early only where the database goes away."""
        loop = asyncio.get_running_loop()
        # procrastinate hands sync tasks to the loop's default executor, which has six threads on two cores.
        loop.set_default_executor(ThreadPoolExecutor(self._concurrency + SHORT + SPARE_THREADS, "job"))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        failures = 0
        while not self._stop.is_set():
            seconds = RECONNECT[min(failures, len(RECONNECT) - 1)]
            failures = 0 if await self._until_it_ends(asyncio.create_task(self._round())) else failures + 1
            if not self._stop.is_set():
                log.warning("worker.database_away", again_in_seconds=seconds)
                await self._stopped_within(seconds)

    async def _until_it_ends(self, round_: asyncio.Task[None]) -> bool:
        """Waits for the round, or ends it when asked to stop; True where it got as far as working."""
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({round_, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not round_.done():
            await self._finish(round_)
        worked, self._workers = bool(self._workers), []
        if not round_.cancelled() and (error := round_.exception()) is not None:
            if not isinstance(error, AWAY):
                raise error
            log.warning("worker.round_failed", reason=type(error).__name__)
        return worked

    async def _round(self) -> None:
        """One life of procrastinate's worker, with connections of its own."""
        await asyncio.to_thread(self._sweep)  # says at once that the database is away; a pool waits 30 s
        async with self._app().open_async() as app:
            self._workers = [self._lane(app, "short", SHORT), self._lane(app, "model", self._concurrency)]
            sweeper = asyncio.create_task(self._sweep_for_ever())
            log.info("worker.started", concurrency=self._concurrency)
            try:
                await self._run_lanes()
            finally:
                sweeper.cancel()

    async def _run_lanes(self) -> None:
        """Until one lane ends, for whatever reason, and then the other."""
        lanes = [asyncio.create_task(worker.run()) for worker in self._workers]  # type: ignore[no-untyped-call]  # theirs
        try:
            await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)
            self._stop_lanes()
            ends = await asyncio.gather(*lanes, return_exceptions=True)
        finally:
            for lane in lanes:
                lane.cancel()
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    def _lane(self, app: App, lane: queue.Lane, concurrency: int) -> Worker:
        return Worker(
            app,
            queues=[lane],
            concurrency=concurrency,
            fetch_job_polling_interval=POLL,
            install_signal_handlers=False,
            update_heartbeat_interval=HEARTBEAT,
            stalled_worker_timeout=SILENCE.total_seconds(),
        )

    def _stop_lanes(self) -> None:
        for worker in self._workers:
            worker.stop()  # type: ignore[no-untyped-call]  # procrastinate's own

    def _ids(self) -> list[int]:
        return [worker.worker_id for worker in self._workers if worker.worker_id is not None]

    def _app(self) -> App:
        options = f"{conninfo_to_dict(self._url).get('options', '')} -c search_path={queue.SCHEMA}"
        pool = PsycopgConnector(
            conninfo=self._url,
            kwargs={"options": options},
            configure=_one_statement_each,
            pool_factory=_trusting,
            min_size=1,
            max_size=4,
            timeout=10,
        )
        app = App(connector=pool)
        for name in self._edge.handlers:
            app.task(name=name, pass_context=True, retry=Retry())(self._edge.run)
        return app

    async def _sweep_for_ever(self) -> None:
        while not await self._stopped_within(SWEEP_EVERY):
            try:
                if not await asyncio.to_thread(self._sweep):
                    log.warning("worker.forgotten")  # this machine slept, and others took us for dead
                    self._stop_lanes()
            except AWAY as error:
                log.warning("worker.sweep_failed", reason=type(error).__name__)

    def _sweep(self) -> bool:
        """Jobs of dead workers wait again, and so do our own that no thread is in: their end could not be written.

        False where we are dead to the others. Our own heartbeat comes first: procrastinate's ends at its first error.
        """
        workers = self._ids()
        with transaction(self._edge.deps.engine) as session:
            known = queue.beat(session, workers=workers)
            for lost in queue.take_back_from_dead(session, silence=SILENCE):
                log.warning("job.taken_back", task=lost.task, job=lost.id, attempts=lost.attempts)
                if lost.attempts >= DEATHS and self._edge.bury(lost):
                    queue.fail(session, job=lost.id)
            strays = queue.held(session, workers=workers) - self._edge.running
            # Between fetching and its thread, or its thread and its last word, a job is astray for an instant.
            queue.release(session, workers=workers, jobs=strays & self._strays)
            self._strays = strays
        return known

    async def _finish(self, round_: asyncio.Task[None]) -> None:
        """The round is over, or its jobs are back in the queue and so is this process' work."""
        if self._workers and len(self._ids()) == len(self._workers):
            self._stop_lanes()
        else:  # still connecting
            round_.cancel()
        await asyncio.wait({round_}, timeout=GRACE)
        if not round_.done():
            await self._leave()

    async def _leave(self) -> NoReturn:
        """Threads cannot be ended, only left: the process goes at once, its jobs waiting for another."""
        with structlog.contextvars.bound_contextvars(still_running=len(self._edge.running)):
            try:
                await asyncio.wait_for(asyncio.to_thread(self._release), RELEASE_WITHIN)
                log.info("worker.left")
            except (*AWAY, TimeoutError):
                log.warning("worker.left_without_release", taken_back_after_seconds=SILENCE.total_seconds())
        logging.shutdown()
        os._exit(0)

    def _release(self) -> None:
        with transaction(self._edge.deps.engine) as session:
            queue.release(session, workers=self._ids())

    async def _stopped_within(self, seconds: float) -> bool:
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({stopping}, timeout=seconds)
        stopping.cancel()
        return self._stop.is_set()
