"""Replies kept in an append-only file, for `review FILE`: one JSON line each, on disk before the reply is used.

Memory holds where each reply's line begins, and no reply. Threads that wait for the disk at the same time share one
fsync.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple, Self

import structlog

from agents.question import Question, Reply, Usage
from app.errors import TicketqcError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from agents.gateway import CallFailed

log = structlog.get_logger()

BLOCK = 8_192  # bytes; most rows are shorter


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
            self._places = {} if fresh else _places(path)
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
        key = bytes.fromhex(question.key)
        place = self._places.get(key)
        kept = None if place is None else _kept(self._line(place), path=self._path)
        return kept.reply if kept is not None and kept.key == key else None

    def keep(self, question: Question, reply: Reply) -> Reply:
        place = self._write({"key": question.key, "reply": asdict(reply)})
        self._places[bytes.fromhex(question.key)] = place
        return reply

    def failed(self, question: Question, failure: CallFailed) -> None:
        self._write({"key": question.key, "failure": failure.code, "possibly_billed": failure.possibly_billed})
        log.warning("model.attempt_failed", agent=question.agent, code=failure.code, message=str(failure))

    def _line(self, place: int) -> bytes:
        parts: list[bytes] = []
        while not parts or (parts[-1] and b"\n" not in parts[-1]):
            parts.append(os.pread(self._fd, BLOCK, place + len(parts) * BLOCK))
        return b"".join(parts).partition(b"\n")[0]

    def _write(self, row: dict[str, object]) -> int:
        """The row is on disk; it begins at the place returned."""
        row_bytes = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            with self._append:
                data = b"\n" + row_bytes if self._cut else row_bytes
                written, self._cut = 0, True
                while written < len(data):
                    written += os.write(self._fd, data[written:])
                self._cut = False
                place = os.lseek(self._fd, 0, os.SEEK_CUR) - len(row_bytes)  # where ours ended, whoever else appends
                self._written += 1
                mine = self._written
            self._durable(mine)
        except OSError as error:
            raise JournalError(
                f"cannot keep a reply in {self._path}: {error.strerror}. "
                "Replies kept so far are safe; make room and run again."
            ) from error
        return place

    def _durable(self, mine: int) -> None:
        """Returns when the `mine`-th row is on disk; whoever holds the lock syncs for all who wrote before."""
        with self._sync:
            if self._synced >= mine:
                return
            upto = self._written
            os.fsync(self._fd)
            self._synced = upto


class _Kept(NamedTuple):
    key: bytes  # half of what its hex digits take: there is one in memory for each reply
    reply: Reply


def _places(path: Path) -> dict[bytes, int]:
    """Where the last reply to each question begins."""
    places: dict[bytes, int] = {}
    if not path.exists():
        return places
    place = 0
    with path.open("rb") as lines:
        for line in lines:
            if (kept := _kept(line, path=path)) is not None:
                places[kept.key] = place
            place += len(line)
    return places


def _kept(line: bytes, *, path: Path) -> _Kept | None:
    """None where the line is of an attempt that brought no reply, or not whole."""
    try:
        row = json.loads(line)
        if (reply := row.get("reply")) is not None:
            return _Kept(bytes.fromhex(row["key"]), Reply(**{**reply, "usage": Usage(**reply["usage"])}))
    except (ValueError, KeyError, TypeError, AttributeError):
        log.warning("journal.line_ignored", path=str(path))
    return None
