"""The double as a server: in a thread for tests, in a process for benches, steered by method or by HTTP."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tests.double.faults import Fault, FaultPlan
from tests.double.llamacpp import LlamaCpp
from tests.double.messages import ApiError
from tests.double.service import Service
from tests.double.state import KEY, BatchPlan, State, json_response, parse
from tests.double.validate import prepare
from tests.double.wire import Connection, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.double.account import Account
    from tests.double.answers import Answerer
    from tests.double.models import Json

Profile = Literal["anthropic", "llamacpp"]
T = TypeVar("T")
START_SECONDS = 10.0


class Double:
    """One server on one port. Its methods may be called from any thread; they run on the server's own."""

    def __init__(self, state: State, *, profile: Profile) -> None:
        self.profile = profile
        self.key = KEY
        self.port = 0
        self._state = state
        self._api = Service(state) if profile == "anthropic" else LlamaCpp(state)
        self._connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def account(self) -> Account:
        return self._state.account

    @property
    def bodies(self) -> list[Json]:
        """The last requests that were valid, oldest first."""
        return self._on_loop(lambda: list(self._state.bodies))

    def fault(self, *faults: Fault) -> None:
        """From now on these go wrong, and nothing else; without any, nothing goes wrong."""
        self._on_loop(lambda: setattr(self._state, "plan", FaultPlan(faults)))

    def answer_with(self, answerer: Answerer | None) -> None:
        """The model says what this returns for the request's body; None brings the built-in answers back."""
        self._on_loop(lambda: setattr(self._state, "answerer", answerer))

    def advance(self, seconds: float) -> None:
        """The cache's clock goes on by this much."""
        self._on_loop(lambda: setattr(self._state, "advanced", self._state.advanced + seconds))

    def batching(self, plan: BatchPlan) -> None:
        """How batches go that are made from now on."""
        self._on_loop(lambda: setattr(self._state, "batching", plan))

    @property
    def batch_ids(self) -> list[str]:
        """Of the batches that were made, oldest first."""
        return self._on_loop(lambda: list(self._state.batches))

    def forget_batches(self) -> None:
        """None of the batches was ever made."""
        self._on_loop(self._state.batches.clear)

    def accept_keys(self, *keys: str) -> None:
        self._on_loop(lambda: setattr(self._state, "keys", frozenset(keys)))

    def loading(self, *, yes: bool) -> None:
        """llamacpp: whether the model is still being loaded."""
        self._on_loop(lambda: setattr(self._state, "loading", yes))

    def reset(self) -> None:
        """As at the start, except for keys, latency and answerer."""
        self._on_loop(self._state.reset)

    def stop(self) -> None:
        """Ends `serve`, from any thread, as often as one likes."""
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            with suppress(RuntimeError):  # the loop was closed this very moment
                loop.call_soon_threadsafe(stop.set)

    async def serve(self, *, port: int, ready: Callable[[], None]) -> None:
        """Serves until stopped. Open connections, hanging ones too, are torn down at the end."""
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        prepare()
        server = await self._loop.create_server(
            lambda: Connection(self._handle, self._connections), "127.0.0.1", port, backlog=512
        )
        self.port = server.sockets[0].getsockname()[1]
        ready()
        try:
            await self._stop.wait()
        finally:
            server.close()
            for connection in list(self._connections):
                connection.abort()
            await server.wait_closed()
            await asyncio.sleep(0)  # lets the torn down connections be told so
            self._loop = None

    async def _handle(self, request: Request) -> Response | None:
        if request.path.startswith("/double/"):
            try:
                return self._control(request)
            except (ApiError, ValueError, TypeError) as error:
                return json_response(400, {"error": str(error)})
        return await self._api.handle(request)

    def _control(self, request: Request) -> Response:
        route = (request.method, request.path.removeprefix("/double/"))
        if route == ("GET", "account"):
            return json_response(200, self._state.account.to_json())
        if route == ("POST", "reset"):
            self._state.reset()
        elif route == ("POST", "faults"):
            self._state.plan = FaultPlan([Fault.from_json(rule) for rule in parse(request)["rules"]])
        elif route == ("POST", "settings"):
            self._set(parse(request))
        else:
            return json_response(404, {"error": f"the double has no {request.method} {request.path}"})
        return json_response(200, {"ok": True})

    def _set(self, wanted: Mapping[str, Any]) -> None:
        """`latency` in seconds, `advance` the clock, valid `keys`, `loading` for llamacpp, how `batching` goes."""
        unknown = wanted.keys() - {"latency", "advance", "keys", "loading", "batching"}
        if unknown:
            raise ValueError(f"unknown setting: {', '.join(sorted(unknown))}")
        self._state.latency = float(wanted.get("latency", self._state.latency))
        self._state.advanced += float(wanted.get("advance", 0.0))
        self._state.keys = frozenset(wanted.get("keys", self._state.keys))
        self._state.loading = bool(wanted.get("loading", self._state.loading))
        if "batching" in wanted:
            self._state.batching = BatchPlan(**wanted["batching"])

    def _on_loop(self, act: Callable[[], T]) -> T:
        """Runs it on the server's thread and waits, so that no call sees half of a change."""
        if self._loop is None:
            return act()

        async def run() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(START_SECONDS)


@contextmanager
def running(
    *,
    profile: Profile = "anthropic",
    latency: float = 0.0,
    answerer: Answerer | None = None,
    clock: Callable[[], float] = time.monotonic,
    port: int = 0,
) -> Iterator[Double]:
    """A double in a thread of this process, gone when the block ends."""
    double = Double(State(latency=latency, answerer=answerer, clock=clock), profile=profile)
    ready = threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(double.serve(port=port, ready=ready.set)), name="double", daemon=True
    )
    thread.start()
    try:
        if not ready.wait(START_SECONDS):
            raise RuntimeError("the double did not start")
        yield double
    finally:
        double.stop()
        thread.join(START_SECONDS)
