"""HTTP/1.1 on a plain asyncio protocol: small enough to share two cores with what it measures, and in full control of
the socket, because a double must also hang, cut a connection before its answer, and cut one in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import httptools
from typing_extensions import override

BODY_LIMIT = 32 * 1024 * 1024  # the vendor's limit for one request of the Messages API
BATCH_LIMIT = 256 * 1024 * 1024  # and for a whole batch

REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Overloaded"}


@dataclass(frozen=True)
class Request:
    """One whole request. `body` is empty where it was over the limit, and `too_large` says so."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    too_large: bool
    gone: asyncio.Event  # set when the client has closed the connection
    query: str = ""


@dataclass(frozen=True)
class Response:
    """`cut_after` is the share of the body that is sent before the connection is torn down; None sends it whole."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    cut_after: float | None = None

    def head(self) -> bytes:
        lines = [
            f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Unknown')}",
            f"content-type: {self.content_type}",
            f"content-length: {len(self.body)}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


Handler = Callable[[Request], Awaitable[Response | None]]  # None: close without a byte of answer


class Connection(asyncio.Protocol):
    """One keep-alive connection; the names of the callbacks below are httptools'."""

    def __init__(self, handler: Handler, open_connections: set[Connection]) -> None:
        self._handler = handler
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._gone = asyncio.Event()
        self._start()

    def _start(self) -> None:
        self._path = b""
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []
        self._size = 0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open.add(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        self._open.discard(self)

    @override
    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size <= self._limit():
            self._chunks.append(body)

    def _limit(self) -> int:
        return BATCH_LIMIT if self._path.startswith(b"/v1/messages/batches") else BODY_LIMIT

    def on_message_complete(self) -> None:
        too_large = self._size > self._limit()
        path, _, query = self._path.decode("latin-1").partition("?")
        request = Request(
            method=self._parser.get_method().decode("ascii"),
            path=path,
            headers=self._headers,
            body=b"" if too_large else b"".join(self._chunks),
            too_large=too_large,
            gone=self._gone,
            query=query,
        )
        keep_alive = self._parser.should_keep_alive()
        self._start()
        task = asyncio.get_running_loop().create_task(self._answer(request, keep_alive=keep_alive))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Request, *, keep_alive: bool) -> None:
        response = await self._handler(request)
        if self._transport is None or self._transport.is_closing():
            return
        if response is None:
            self.abort()
            return
        if response.cut_after is not None:
            self._transport.write(response.head() + response.body[: int(len(response.body) * response.cut_after)])
            self._transport.close()  # what was sent arrives, the rest never does
            return
        self._transport.write(response.head() + response.body)
        if not keep_alive:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
