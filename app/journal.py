"""Replies kept in an append-only file, for `review FILE`: one JSON line each, on disk before the reply is used.

Threads that wait for the disk at the same time share one fsync.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Self

import structlog

from agents.question import Question, Reply, Usage
from app.errors import TicketqcError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from agents.gateway import CallFailed

log = structlog.get_logger()


class JournalError(TicketqcError):
    """The journal cannot be written; what is in it is safe."""


class Journal:
    """A Store over one file. A last line cut short by a crash is ignored: its reply never counted as kept."""

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self._path = path
        self._append = threading.Lock()
        self._sync = threading.Lock()
        self._written = 0
        self._synced = 0
        self._cut = False  # the last row is not whole: the next must not be lost with it
        try:
            self._replies = {} if fresh else _load(path)
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            size = os.fstat(self._fd).st_size
            self._cut = bool(size) and os.pread(self._fd, 1, size - 1) != b"\n"
        except OSError as error:
            raise JournalError(f"cannot keep replies in {path}: {error.strerror}. Set TICKETQC_DATA_DIR.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def find(self, question: Question) -> Reply | None:
        return self._replies.get(question.key)

    def keep(self, question: Question, reply: Reply) -> Reply:
        self._write({"key": question.key, "reply": asdict(reply)})
        self._replies[question.key] = reply
        return reply

    def failed(self, question: Question, failure: CallFailed) -> None:
        self._write({"key": question.key, "failure": failure.code, "possibly_billed": failure.possibly_billed})
        log.warning("model.attempt_failed", agent=question.agent, code=failure.code, message=str(failure))

    def _write(self, row: dict[str, object]) -> None:
        row_bytes = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            with self._append:
                data = b"\n" + row_bytes if self._cut else row_bytes
                written, self._cut = 0, True
                while written < len(data):
                    written += os.write(self._fd, data[written:])
                self._cut = False
                self._written += 1
                mine = self._written
            self._durable(mine)
        except OSError as error:
            raise JournalError(
                f"cannot keep a reply in {self._path}: {error.strerror}. "
                "Replies kept so far are safe; make room and run again."
            ) from error

    def _durable(self, mine: int) -> None:
        """Returns when the `mine`-th row is on disk; whoever holds the lock syncs for all who wrote before."""
        with self._sync:
            if self._synced >= mine:
                return
            upto = self._written
            os.fsync(self._fd)
            self._synced = upto


def _load(path: Path) -> dict[str, Reply]:
    replies: dict[str, Reply] = {}
    if not path.exists():
        return replies
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
            if (kept := row.get("reply")) is not None:
                replies[row["key"]] = Reply(**{**kept, "usage": Usage(**kept["usage"])})
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("journal.line_ignored", path=str(path))
    return replies
