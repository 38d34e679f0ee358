"""Message Batches: many questions handed over at once, answered within a day at half the price.

Reached through the gateway, which lends its client. Like a question, each call here is one attempt. A batch that the
server took although its answer never reached us is found again by `recent`: the API knows no key of ours but the
custom ids, which only results carry.
Source: the Message Batches API, version 2026-10-21, and the installed SDK.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from agents.prompt import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from agents.question import Question, Reply

SUBMIT_SECONDS = 300.0  # for the upload of a whole batch
PAGE = 100  # batches in a listing
LONGEST_PROBLEM = 200  # characters of a server's words about one request
NO_MESSAGE = "the server's answer is no message of this API"
UNREADABLE = "its result cannot be read"
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # no other was ever taken
# Errors of a single request that asking again will not mend.
_AT_FAULT = frozenset({"invalid_request_error", "request_too_large", "not_found_error"})

Kind = Literal["succeeded", "errored", "canceled", "expired"]


class Counts(NamedTuple):
    """Requests by what became of them; all are `processing` until the whole batch has ended."""

    processing: int
    succeeded: int
    errored: int
    canceled: int
    expired: int


@dataclass(frozen=True)
class BatchState:
    """What the server says of one batch."""

    id: str
    ended: bool
    created_at: datetime
    expires_at: datetime
    counts: Counts

    @property
    def total(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class BatchResult:
    """What became of one request. `final`: the request itself was at fault, so asking it again will not help.

    `custom_id` is empty where a line does not say whose it is.
    """

    custom_id: str
    kind: Kind
    reply: Reply | None = None
    problem: str = ""
    final: bool = False


class MessageBatches:
    """`api` is the SDK's resource; the rest is how the gateway writes, reads and fails."""

    def __init__(
        self,
        api: Any,  # noqa: ANN401  only the gateway may name the SDK's types
        *,
        request_of: Callable[[Question], dict[str, Any]],
        reply_of: Callable[[object], Reply | None],
        translated: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._api = api
        self._request_of = request_of
        self._reply_of = reply_of
        self._translated = translated

    def size(self, question: Question) -> int:
        """Bytes that this question adds to a batch, at the most."""
        return len(json.dumps(_entry(question.key, self._request_of(question))))

    def submit(self, questions: Sequence[Question]) -> BatchState:
        """Handed over under their reply keys, which have to differ. Without an answer the server may have it or not."""
        entries = [_entry(question.key, self._request_of(question)) for question in questions]
        with self._translated():
            return _state(self._api.create(requests=entries, timeout=SUBMIT_SECONDS))

    def look(self, batch_id: str) -> BatchState:
        with self._translated():
            return _state(self._api.retrieve(batch_id))

    def cancel(self, batch_id: str) -> BatchState:
        """What is answered by now stays; the rest ends as `canceled`."""
        with self._translated():
            return _state(self._api.cancel(batch_id))

    def recent(self, *, since: datetime) -> list[BatchState]:
        """Every batch of this key's workspace that was made since then, newest first."""
        with self._translated():
            listed = (_state(batch) for batch in self._api.list(limit=PAGE))
            return list(takewhile(lambda batch: batch.created_at >= since, listed))

    def results(self, batch_id: str) -> Iterator[BatchResult]:
        """One for each line about an ended batch, in any order; one that cannot be read takes nothing from the others.

        The SDK's own decoder ends at the first line that is not JSON, so its bytes are taken and not what it makes of
        them. Where no line says whose it is, the answer is somebody else's, a proxy's page for instance: CallFailed.
        """
        with self._translated():
            answer = self._api.results(batch_id)
            try:
                yield from self._read(answer.http_response.iter_bytes())
            finally:
                answer.close()

    def _read(self, chunks: Iterable[bytes]) -> Iterator[BatchResult]:
        strange = known = False
        for line in _lines(chunks):
            result = self._result(_json(line))
            known, strange = known or bool(result.custom_id), strange or not result.custom_id
            yield result
        if strange and not known:
            raise ValueError("no line says whose it is")

    def _result(self, line: object) -> BatchResult:
        told = line if isinstance(line, dict) else {}
        custom_id = _readable(told.get("custom_id"))
        match told.get("result"):
            case {"type": "succeeded", "message": message}:
                reply = self._reply_of(message)
                return BatchResult(custom_id, "succeeded" if reply else "errored", reply, "" if reply else NO_MESSAGE)
            case {"type": "errored", "error": {"error": {"type": str(code)} as error}}:
                problem = visible(f"{code}: {error.get('message', '')}")[:LONGEST_PROBLEM]
                return BatchResult(custom_id, "errored", problem=problem, final=code in _AT_FAULT)
            case {"type": "canceled" | "expired" as kind}:
                return BatchResult(custom_id, kind)
        return BatchResult(custom_id, "errored", problem=UNREADABLE)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Those with something on them. Only a line feed ends one: a text may hold the other breaks as they are.

    Raises ValueError after them where the last was cut off: what is missing is paid, and there to be read again.
    """
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from filter(bytes.strip, whole)
    if rest.strip():
        if _json(rest) is None:
            raise ValueError("the last line was cut off")
        yield rest


def _json(line: bytes) -> object:
    """What a line says; None where it is not JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _readable(custom_id: object) -> str:
    return custom_id if isinstance(custom_id, str) and _CUSTOM_ID.fullmatch(custom_id) else ""


def _entry(custom_id: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"custom_id": custom_id, "params": params}


def _state(batch: Any) -> BatchState:  # noqa: ANN401  see above
    counts = batch.request_counts
    return BatchState(
        id=batch.id,
        ended=batch.processing_status == "ended",
        created_at=batch.created_at,
        expires_at=batch.expires_at,
        counts=Counts(counts.processing, counts.succeeded, counts.errored, counts.canceled, counts.expired),
    )
