"""Asking a model, and paying once: look the reply up, wait for a turn, call, keep what came back before anything else.

One `Asking` per process and endpoint. Its pace is shared by all threads, because the rate limit is the key's.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from agents.gateway import CallFailed, Gateway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agents.question import Question, Reply

TRIES = 6
FIRST_WAIT = 0.5  # seconds; doubles up to LONGEST_WAIT, with jitter
LONGEST_WAIT = 8.0
LONGEST_RETRY_AFTER = 120.0  # seconds; a server that asks for more is tried again by a later job
WARM_SECONDS = 240.0  # a vendor's cache lives 300 s from its last use


class Store(Protocol):
    """Where replies are kept: `runs` in the service, a journal file for `review FILE`."""

    def find(self, question: Question) -> Reply | None:
        """The reply that was paid for this very question before, if any."""

    def keep(self, question: Question, reply: Reply) -> None:
        """The reply is durable when this returns."""

    def failed(self, question: Question, failure: CallFailed) -> None:
        """An attempt that brought no reply is on record; it may have been billed."""


@dataclass(frozen=True)
class Asked:
    reply: Reply
    reused: bool


class Pace:
    """How many calls are in flight, and when the next may start. After an error that stops all, none does."""

    def __init__(self, *, concurrency: int, sleep: Callable[[float], None] = time.sleep) -> None:
        self._slots = threading.BoundedSemaphore(concurrency)
        self._sleep = sleep
        self._resume_at = 0.0
        self._stopped: CallFailed | None = None

    def attempt(self, call: Callable[[], Reply], *, on_failure: Callable[[CallFailed], None]) -> Reply:
        """Calls until there is a reply, at most TRIES times, waiting as the server asks. Raises the last CallFailed."""
        tries = 0
        while True:
            try:
                with self._slots:
                    return self._called(call)
            except CallFailed as failure:
                tries += 1
                on_failure(failure)
                self._after(failure, tries)

    def _called(self, call: Callable[[], Reply]) -> Reply:
        """One call in a slot of ours; an error that stops all is known before the slot is another's."""
        self._wait_for_turn()
        try:
            return call()
        except CallFailed as failure:
            if failure.stops_all:
                self._stopped = failure
            raise

    def _wait_for_turn(self) -> None:
        if self._stopped is not None:
            raise self._stopped
        while (pause := self._resume_at - time.monotonic()) > 0:
            self._sleep(pause)

    def _after(self, failure: CallFailed, tries: int) -> None:
        if failure.permanent or tries >= TRIES:
            raise failure
        wait = min(FIRST_WAIT * 2 ** (tries - 1), LONGEST_WAIT)
        wait *= random.uniform(0.75, 1.25)  # noqa: S311  jitter, so that threads do not come back all at once
        if failure.retry_after is not None:
            if failure.retry_after > LONGEST_RETRY_AFTER:
                raise failure
            # The limit is the key's, so every thread waits, not only the one that was told.
            self._resume_at = max(self._resume_at, time.monotonic() + failure.retry_after)
            return
        self._sleep(wait)


@dataclass
class _Prefix:
    lock: threading.Lock = field(default_factory=threading.Lock)
    used_at: float = float("-inf")

    @property
    def warm(self) -> bool:
        return time.monotonic() - self.used_at < WARM_SECONDS


class PrefixGate:
    """Lets one call write a cold prefix into the vendor's cache while the others that would write it again wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._prefixes: dict[tuple[str, str, tuple[str, ...]], _Prefix] = {}

    @contextmanager
    def turn(self, question: Question) -> Iterator[None]:
        with self._lock:
            prefix = self._prefixes.setdefault((question.model, question.schema_hash, question.system), _Prefix())
        if not prefix.warm:
            with prefix.lock:
                if not prefix.warm:
                    yield
                    prefix.used_at = time.monotonic()
                    return
        yield
        prefix.used_at = time.monotonic()


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
    """The model as the agents see it, with memory, pace and a warm cache around it."""

    def __init__(self, gateway: Gateway, *, pace: Pace) -> None:
        self._gateway = gateway
        self._pace = pace
        self._gate = PrefixGate()
        self._asking = KeyedLocks()

    def ask(self, question: Question, store: Store) -> Asked:
        """The reply to a question, from the store where it was paid for before. Raises CallFailed."""
        with self._asking.held(question.key):
            if (known := store.find(question)) is not None:
                return Asked(known, reused=True)
            return Asked(self._call(question, store), reused=False)

    def _call(self, question: Question, store: Store) -> Reply:
        with self._turn(question):
            reply = self._pace.attempt(
                lambda: self._gateway.ask(question), on_failure=lambda failure: store.failed(question, failure)
            )
            store.keep(question, reply)
        return reply

    def prime(self, question: Question, store: Store) -> Reply | None:
        """Warms the vendor's cache for this question's prefix; None where the endpoint keeps prefixes by itself."""
        if self._gateway.mode == "tool":
            return None
        with self._gate.turn(question):
            return self._pace.attempt(
                lambda: self._gateway.prime(question), on_failure=lambda failure: store.failed(question, failure)
            )

    @contextmanager
    def _turn(self, question: Question) -> Iterator[None]:
        if self._gateway.mode == "tool":
            yield
            return
        with self._gate.turn(question):
            yield
