"""Asking a model, and paying once: look the reply up, wait for a turn, call, keep what came back before anything else.

One `Asking` per process and endpoint. Its pace is shared by all threads, because the rate limit is the key's.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from agents.gateway import CallFailed, Gateway, Ttl
from app.limiter import LONGEST_PAUSE, Limiter, NotSent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agents.message_batches import MessageBatches
    from agents.question import Question, Reply

TRIES = 6
FIRST_WAIT = 0.5  # seconds at the most before the second try; doubles up to LONGEST_WAIT
LONGEST_WAIT = 8.0
LIVES: Mapping[Ttl, float] = {"5m": 300.0, "1h": 3600.0}  # seconds from its last use, in the vendor's cache
ON_THE_WAY = 60.0  # seconds that a call may take to get there: a cache that ends within them counts as gone


class Store(Protocol):
    """Where replies are kept: `runs` in the service, a journal file for `review FILE`."""

    def find(self, question: Question) -> Reply | None:
        """The reply that was paid for this very question before, if any."""

    def keep(self, question: Question, reply: Reply) -> Reply:
        """The reply is durable when this returns; what is returned counts, which may be one that came before it."""

    def failed(self, question: Question, failure: CallFailed) -> None:
        """An attempt that brought no reply is on record; it may have been billed."""


@dataclass(frozen=True)
class Asked:
    reply: Reply
    reused: bool


class Purse(Protocol):
    """Who says whether a call may still be paid."""

    def held(self, question: Question) -> AbstractContextManager[None]:
        """What the call may cost at the most is set aside while the block lasts. Raises NotSent."""


class Pace:
    """When the calls of one model start, and how often one is tried. After an error that stops all, none does."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self._stopped: CallFailed | None = None
        self._ended = threading.Event()  # set with _stopped; wakes who waits

    def stop(self, why: CallFailed) -> None:
        """No further call starts; those in flight may end."""
        self._stopped = why
        self._ended.set()
        self.limiter.wake()

    def attempt(
        self,
        call: Callable[[Ttl], Reply],
        *,
        model: str,
        around: Callable[[], AbstractContextManager[Ttl]],
        on_failure: Callable[[CallFailed], None],
    ) -> Reply:
        """Calls until there is a reply, at most TRIES times, waiting as the server asks. Raises the last CallFailed.

        `around` holds each call but no wait between calls, in which others may try; it says how long the vendor's cache
        is to keep what the call begins with.
        """
        tries = 0
        while True:
            try:
                with around() as ttl, self.limiter.slot(model, given_up=self._ended.is_set) as began:
                    return self._called(partial(call, ttl), model=model, began=began)
            except NotSent:
                raise
            except CallFailed as failure:
                tries += 1
                on_failure(failure)
                self._after(failure, tries)

    def _called(self, call: Callable[[], Reply], *, model: str, began: float) -> Reply:
        """One call in a slot of ours; an error that stops all is known before the slot is another's."""
        if self._stopped is not None:
            raise NotSent(self._stopped.code, str(self._stopped))
        try:
            reply = call()
        except CallFailed as failure:
            if failure.stops_all:
                self.stop(failure)
            self.limiter.refused(failure, began=began)
            raise
        self.limiter.answered(model, reply.usage)
        return reply

    def _after(self, failure: CallFailed, tries: int) -> None:
        if failure.permanent or tries >= TRIES or (failure.retry_after or 0.0) > LONGEST_PAUSE:
            raise failure
        longest = min(FIRST_WAIT * 2 ** (tries - 1), LONGEST_WAIT)
        self._ended.wait(random.uniform(0.0, longest))  # noqa: S311  full jitter: not all threads come back at once


class Prefix:
    """What many questions begin with, in the vendor's cache: while it is cold, one call writes it and the others wait.

    It is written for an hour where the last use is longer ago than the shorter cache lives, but less than an hour: a
    few tickets an hour would else write it again each time. An hour costs 2 times fresh text, the shorter time 1.25
    times; a read a tenth, and it makes either live on.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: Ttl = "5m"  # how long what is there lives from its last use
        self._used_at = float("-inf")

    @contextmanager
    def turn(self, wanted: Ttl | None = None) -> Iterator[Ttl]:
        """Around each call that begins with it: how long the vendor is to keep it, if the caller has no wish."""
        if self._cold:
            with self._lock:
                if self._cold:
                    with self._used(wanted) as ttl:
                        yield ttl
                    return
        with self._used(wanted) as ttl:
            yield ttl

    @contextmanager
    def _used(self, wanted: Ttl | None) -> Iterator[Ttl]:
        """It is there once the reply is; what was there before keeps its own time."""
        there = self._idle < LIVES[self._kept]
        ttl = wanted or (self._kept if there else "1h" if self._idle < LIVES["1h"] else "5m")
        yield ttl
        self._kept, self._used_at = self._kept if there else ttl, self._clock()

    @property
    def _cold(self) -> bool:
        return self._idle >= LIVES[self._kept] - ON_THE_WAY

    @property
    def _idle(self) -> float:
        return self._clock() - self._used_at


class Prefixes:
    """Those of one endpoint: a model and an output format are part of what the vendor keeps."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str, tuple[str, ...]], Prefix] = {}

    def of(self, question: Question) -> Prefix:
        with self._lock:
            key = (question.model, question.schema_hash, question.system)
            return self._known.setdefault(key, Prefix(self._clock))


class KeyedLocks:
    """One lock for each key that is being worked on, so that two threads never pay for the same question."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, tuple[threading.Lock, int]] = {}

    @property
    def count(self) -> int:
        return len(self._held)

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        with self._lock:
            lock, users = self._held.get(key, (threading.Lock(), 0))
            self._held[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._held.pop(key)
                if users > 1:
                    self._held[key] = lock, users - 1


class Asking:
    """The model as the agents see it, with memory, pace, a budget and a warm cache around it."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        pace: Pace,
        purse: Purse | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateway = gateway
        self._pace = pace
        self._purse = purse
        gateway.listen(pace.limiter.heard)
        self._prefixes = Prefixes(clock)
        self._asking = KeyedLocks()

    def ask(self, question: Question, store: Store) -> Asked:
        """The reply to a question, from the store where it was paid for before. Raises CallFailed."""
        with self._asking.held(question.key):
            if (known := store.find(question)) is not None:
                return Asked(known, reused=True)
            return Asked(self._call(question, store), reused=False)

    def _call(self, question: Question, store: Store) -> Reply:
        with self._purse.held(question) if self._purse else nullcontext():
            return store.keep(question, self._attempt(self._gateway.ask, question, store))

    def prime(self, question: Question, store: Store, *, ttl: Ttl = "5m") -> Reply | None:
        """Warms the vendor's cache for this question's prefix; None where the endpoint keeps prefixes by itself."""
        if self._gateway.mode == "tool":
            return None
        return self._attempt(self._gateway.prime, question, store, ttl=ttl)

    @property
    def batches(self) -> MessageBatches | None:
        """Where many questions are handed over at once; None where the endpoint is one that has no such thing."""
        return None if self._gateway.mode == "tool" else self._gateway.batches

    def probe(self, model: str) -> Reply:
        """The smallest call that is billed, once and at once. Raises CallFailed."""
        return self._gateway.probe(model)

    def stop(self, why: CallFailed | None = None) -> None:
        """Nothing more is asked; what is in flight may end and is kept."""
        self._pace.stop(why or CallFailed("connection", "stopped"))

    def close(self) -> None:
        self._gateway.close()

    def _attempt(
        self, call: Callable[[Question, Ttl], Reply], question: Question, store: Store, *, ttl: Ttl | None = None
    ) -> Reply:
        local = self._gateway.mode == "tool"  # it keeps prefixes by itself
        prefix = self._prefixes.of(question)
        return self._pace.attempt(
            partial(call, question),
            model=question.model,
            around=lambda: nullcontext("5m") if local else prefix.turn(ttl),
            on_failure=lambda failure: store.failed(question, failure),
        )
