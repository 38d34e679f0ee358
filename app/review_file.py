"""`ticketqc review FILE`: judges the tickets of a file without a server or a database.

1. Read the file; rows that cannot be read are reported by line and skipped. Tickets and results lie in spools, so that
   memory does not grow with the file.
2. Read the context from disk; it must lint without errors.
3. Open the model, and warm the vendor's cache for both agents at once.
4. Judge every ticket, many at a time; each paid reply is in the journal before it is used.
"""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from agents import qc, triage
from agents.context import Context, ContextError, read_folder
from agents.context_lint import usable
from agents.gateway import CallFailed
from agents.judge import SECOND_SHARE, Judgement, Panel, Strong, judge, too_long
from agents.masking import revise
from agents.prices import cost
from agents.ticket import Revision, Ticket, TicketError, parse_jsonl_line, supplied_fields
from app.errors import TicketqcError
from app.models import Choice, Ready, explain
from app.spending import NoRoom, RunBudget, Spending
from app.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import date
    from pathlib import Path

    from agents.question import Agent, Ask, NonceFor, Purpose, Question, Reply
    from app.asking import Store

# More tickets are in work than calls are in flight (the model's pace sees to that), so that no slot stands idle while
# the last tickets go through their two or three calls one after the other.
TICKETS_PER_CALL = 2
PATIENCE = 5.0  # seconds after Ctrl-C for answers that are under way: they are paid for
Extra = Literal["second", "masked", "strong"]
AGENTS: tuple[Agent, ...] = ("triage", "qc")
KEPT = "Replies received so far are kept and will not be paid again."
EXTRA: Mapping[Purpose, Extra] = {  # calls that not every ticket needs, by what they are for
    "second": "second", "second_repair": "second",
    "masked": "masked", "masked_repair": "masked",
    "strong": "strong", "strong_repair": "strong",
}  # fmt: skip


class ReviewError(TicketqcError):
    """The file cannot be reviewed; the message says why and what to do."""


class Stopped(ReviewError):  # noqa: N818  the name says it
    """Somebody wanted it to end. Threads may still wait for an answer: they can be left, but not ended."""

    exit_code = 130


class BadRow(NamedTuple):
    line: int
    problem: str


@dataclass(frozen=True)
class Batch:
    """The readable tickets of a file in its order, secrets masked, and the rows that were skipped."""

    revisions: Spool[Revision]
    bad_rows: tuple[BadRow, ...]


@dataclass(frozen=True)
class Reviewed:
    """One ticket's judgement, or why there is none. `first` is triage and the first QC run; the rest came after."""

    external_id: str
    judgement: Judgement | None
    problem: str
    models: tuple[str, ...]
    first: Spending
    second: Spending
    masked: Spending
    strong: Spending
    left: bool = False  # the run's budget had no room: another run goes on with it

    @property
    def known_cost(self) -> Decimal | None:
        return sum((self.second, self.masked, self.strong), self.first).known_cost


@dataclass
class Attempts:
    """A store that also counts the attempts that brought no reply, and books the others on the run's budget."""

    store: Store
    budget: RunBudget | None = None
    without_reply: int = 0
    possibly_billed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def find(self, question: Question) -> Reply | None:
        return self.store.find(question)

    def keep(self, question: Question, reply: Reply) -> Reply:
        if self.budget is not None:
            self.budget.book(question, reply)
        return self.store.keep(question, reply)

    def failed(self, question: Question, failure: CallFailed) -> None:
        with self._lock:
            self.without_reply += 1
            self.possibly_billed += failure.possibly_billed
        self.store.failed(question, failure)


@dataclass(frozen=True)
class Report:
    reviewed: Spool[Reviewed]
    bad_rows: tuple[BadRow, ...]
    context: Context
    model: str  # empty: none
    demonstration: bool
    priming: Spending
    attempts: Attempts
    seconds: float  # from the first request to the last verdict
    budget: Decimal | None  # US$


def read_tickets(path: Path) -> Batch:
    """The tickets of a JSONL file. Raises ReviewError where there is nothing to review."""
    revisions: Spool[Revision] = Spool()
    bad: list[BadRow] = []
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    if line.strip():
                        revisions.append(revise(_finished(parse_jsonl_line(line))))
                except TicketError as error:
                    bad.append(BadRow(number, str(error)))
    except OSError as error:
        raise ReviewError(f"cannot read {path}: {error.strerror}") from error
    if not revisions:
        shown = "; ".join(f"line {row.line}: {row.problem}" for row in bad[:3])
        raise ReviewError(f"no ticket can be read from {path}" + (f": {shown}" if bad else ": the file is empty"))
    return Batch(revisions, tuple(bad))


def _finished(ticket: Ticket) -> Ticket:
    if not ticket.finished:
        raise TicketError(f"{ticket.external_id} is {ticket.status}: only resolved and closed tickets are judged")
    return ticket


def read_context(folder: Path) -> Context:
    """The context files on disk. Raises ReviewError with every lint error, by file and line."""
    try:
        return usable(read_folder(folder))
    except ContextError as error:
        raise ReviewError(f"the context files have errors:\n{error}") from error


class _Turns:
    """The numbered tickets, each handed out once; none after the end."""

    def __init__(self, revisions: Iterable[Revision]) -> None:
        self._left = enumerate(revisions)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[tuple[int, Revision]]:
        """For one thread of several: those that no other has."""
        while (turn := self._next()) is not None:
            yield turn

    def _next(self) -> tuple[int, Revision] | None:
        with self._lock:
            return next(self._left, None)

    def end(self) -> None:
        with self._lock:
            self._left = enumerate(())


class _SecondBudget:
    """Grants second runs: those on record again, so that the same file is judged the same, then to who asks first."""

    def __init__(self, *, tickets: int, recorded: frozenset[str]) -> None:
        self._recorded = recorded  # hashes of the revisions
        self._left = math.floor(tickets * SECOND_SHARE) - len(recorded)
        self._lock = threading.Lock()

    def grant(self, revision: Revision) -> bool:
        if revision.hash in self._recorded:
            return True
        with self._lock:
            self._left -= 1
            return self._left >= 0


@dataclass(frozen=True)
class Reviewer:
    """Judges the tickets of one file. `ready` None: no model, checks only."""

    context: Context
    ready: Ready | None
    store: Store
    nonce_for: NonceFor
    today: date  # chooses the price
    strong: Ready | None = None  # asked where the worker abstains
    budget: RunBudget | None = None  # the same that holds the calls of both

    @cached_property
    def attempts(self) -> Attempts:
        return Attempts(self.store, self.budget)

    def review(self, batch: Batch, *, concurrency: int, on_done: Callable[[], None] = lambda: None) -> Report:
        """Raises ReviewError where no call can succeed (key, billing, model); replies so far are kept."""
        supplied = supplied_fields(revision.ticket for revision in batch.revisions)
        seconds = self._second_budget(batch.revisions)
        turns = _Turns(batch.revisions)
        reviewed: Spool[Reviewed] = Spool()

        def work() -> None:
            with self._ending_all(turns):
                for number, revision in turns:
                    reviewed.put(number, self._review(revision, supplied=supplied, seconds=seconds))
                    on_done()

        started = time.monotonic()
        workers: list[Future[None]] = []
        with self._pool(concurrency * TICKETS_PER_CALL, workers, turns) as pool:
            priming = self._prime(pool, batch.revisions)
            workers += [pool.submit(work) for _ in range(concurrency * TICKETS_PER_CALL)]
            for worker in as_completed(workers):  # the first to fail is the first to be told
                worker.result()
        return Report(
            reviewed=reviewed,
            bad_rows=batch.bad_rows,
            context=self.context,
            model=self.ready.model if self.ready else "",
            demonstration=self.ready.demonstration if self.ready else False,
            priming=priming,
            attempts=self.attempts,
            seconds=time.monotonic() - started,
            budget=self.budget.limit if self.budget else None,
        )

    @contextmanager
    def _pool(self, threads: int, workers: list[Future[None]], turns: _Turns) -> Iterator[ThreadPoolExecutor]:
        """Its threads are over when the block is, unless Ctrl-C ends it: then what is under way has a moment."""
        pool = ThreadPoolExecutor(threads, thread_name_prefix="review")
        try:
            with self._ending_all(turns):
                yield pool
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            free = self.ready is None or self.ready.demonstration
            with suppress(KeyboardInterrupt):  # a second time: at once
                wait([worker for worker in workers if worker.running()], timeout=0 if free else PATIENCE)
            raise Stopped(f"stopped. {KEPT}") from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        pool.shutdown()

    @contextmanager
    def _ending_all(self, turns: _Turns) -> Iterator[None]:
        """What ends this ends all: no call is paid whose reply nobody reads, or the disk cannot keep."""
        try:
            yield
        except BaseException:
            turns.end()
            for ready in filter(None, (self.ready, self.strong)):
                ready.asking.stop()
            raise

    def _second_budget(self, revisions: Spool[Revision]) -> _SecondBudget:
        ready = self.ready
        asked = (self._asked(ready, "qc", one, purpose="second") for one in revisions) if ready else ()
        recorded = frozenset(one.revision_hash for one in asked if self.store.find(one) is not None)
        return _SecondBudget(tickets=len(revisions), recorded=recorded)

    def _asked(self, ready: Ready, agent: Agent, revision: Revision, *, purpose: Purpose = "review") -> Question:
        """What will be asked about a revision, but for what triage said, which is no part of a question's key."""
        if agent == "triage":
            return triage.question(revision, self.context, model=ready.model, nonce_for=self.nonce_for)
        return qc.question(
            revision, self.context, model=ready.model, nonce_for=self.nonce_for, triage=None, purpose=purpose
        )

    def _cold(self, ready: Ready, revisions: Spool[Revision]) -> Iterator[Question]:
        """For each agent the first question that will be paid for; where every reply is on record there is none."""
        for agent in AGENTS:
            short = (revision for revision in revisions if not too_long(revision, ready.token_limit))
            asked = (self._asked(ready, agent, revision) for revision in short)
            first = next((question for question in asked if self.store.find(question) is None), None)
            if first is not None:
                yield first

    def _prime(self, pool: ThreadPoolExecutor, revisions: Spool[Revision]) -> Spending:
        """The agents' prefixes into the vendor's cache, in parallel."""
        spending = Spending()
        if (ready := self.ready) is None:
            return spending
        asked = tuple(self._cold(ready, revisions))
        try:
            replies = list(pool.map(lambda question: self._primed(ready, question), asked))
        except CallFailed as failure:
            raise _stopped(failure, ready.model) from failure
        for reply in replies:
            if reply is not None:
                spending.add(reply, reused=False, price=self._price(ready, reply))
        return spending

    def _primed(self, ready: Ready, question: Question) -> Reply | None:
        """None where the endpoint keeps prefixes by itself, or the budget has no room, and so none for any question."""
        if self.budget is None:
            return ready.asking.prime(question, self.attempts)
        with suppress(NoRoom), self.budget.held(question):
            if (reply := ready.asking.prime(question, self.attempts)) is not None:
                self.budget.book(question, reply)
            return reply
        return None

    def _review(self, revision: Revision, *, supplied: frozenset[str], seconds: _SecondBudget) -> Reviewed:
        first, extra = Spending(), {name: Spending() for name in get_args(Extra)}
        models: set[str] = set()
        panel = None
        if (ready := self.ready) is not None:
            ask = self._accounted(ready, first=first, extra=extra, models=models)
            panel = Panel(ready.model, ask, self.nonce_for, ready.token_limit, lambda: seconds.grant(revision))
            if (strong := self.strong) is not None and strong.model != ready.model:
                by_strong = self._accounted(strong, first=first, extra=extra, models=models)
                panel = replace(panel, strong=Strong(strong.model, by_strong))
        judgement, problem, left = None, "", False
        try:
            judgement = judge(revision, self.context, supplied=supplied, panel=panel)
        except CallFailed as failure:
            if failure.stops_all and ready is not None:
                raise _stopped(failure, ready.model) from failure
            problem, left = f"not judged: {failure}", isinstance(failure, NoRoom)
        return Reviewed(
            revision.ticket.external_id, judgement, problem, tuple(sorted(models)), first, **extra, left=left
        )

    def _accounted(self, ready: Ready, *, first: Spending, extra: Mapping[Extra, Spending], models: set[str]) -> Ask:
        """The model, with every reply of one ticket booked on what it was for."""

        def ask(question: Question) -> Reply:
            asked = ready.asking.ask(question, self.attempts)
            spending = extra[EXTRA[question.purpose]] if question.purpose in EXTRA else first
            spending.add(asked.reply, reused=asked.reused, price=self._price(ready, asked.reply))
            models.add(ready.model if ready.demonstration else asked.reply.model)
            return asked.reply

        return ask

    def _price(self, ready: Ready, reply: Reply) -> Decimal | None:
        """US$ of a reply; a model on this machine costs nothing."""
        return Decimal(0) if ready.demonstration else cost(ready.model, reply.usage, on=self.today, geo=reply.geo)


def _stopped(failure: CallFailed, model: str) -> ReviewError:
    return ReviewError(f"{explain(failure, Choice('worker', model))} {KEPT}")
