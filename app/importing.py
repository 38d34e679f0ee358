"""Tickets from files. A batch of rows and how far the file is read are one transaction, so an import goes on where it
stopped: nothing is lost, doubled or half there.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from agents.ticket import Ticket
from app.db import transaction
from app.errors import ConnectionRefused, FileUnreadable, ImportBusy
from app.intake.connections import NAME
from app.intake.recording import Arrival, record_all
from app.intake.rows import Place, Row, kind_of, read_rows
from app.queue import enqueue
from app.tables import Connection, Import

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

BATCH_ROWS = 100
BATCH_BYTES = 4 * 1024 * 1024  # whichever comes first; a batch is held in memory
SAMPLES = Path(__file__).parent / "samples" / "office_it.jsonl"
SAMPLE_SOURCE = "sample"


@dataclass(frozen=True)
class Order:
    """What to import. `source` is the name of a connection; one is made for files if there is none.

    `batch`: what has to be judged is judged by batch, at half the price and within a day.
    """

    path: Path
    source: str = ""
    live: bool = False
    sample: bool = False
    batch: bool = False


class Problem(NamedTuple):
    line: int
    reason: str


@dataclass(frozen=True)
class Progress:
    """What is committed. Counts are the file's since its first import; `problems` are the last batch's."""

    source: str
    size: int
    done: int  # bytes
    new: int
    unchanged: int
    skipped: int
    finished: bool
    problems: tuple[Problem, ...] = ()

    @property
    def rows(self) -> int:
        return self.new + self.unchanged + self.skipped


def import_file(engine: Engine, order: Order, *, now: Callable[[], datetime]) -> Iterator[Progress]:
    """What was there already, then each batch as it is committed; the last one is finished.

    1. The file's hash finds how far it got before; a finished one ends here.
    2. Rows are read from there; a bad one is a problem with its line and never stops the others.
    3. Each batch: record its tickets and move the file's position, in one transaction.
    """
    path = order.path
    kind = kind_of(path)
    try:
        with path.open("rb") as file:
            file_hash = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            with transaction(engine) as session:
                state = _open(session, order, file_hash=file_hash)
            yield _progress(state, size=size)
            if state.finished:
                return
            rows = read_rows(file, kind=kind, start=Place(state.position, state.lines))
            for batch in _batches(rows, start=state.position):
                state = _commit(engine, order, state=state, batch=batch, received_at=now())
                yield _progress(state, size=size, problems=_problems(batch))
            yield _progress(_finish(engine, order, state=state, size=size), size=size)
    except OSError as error:
        raise FileUnreadable(f"{path}: cannot be read ({error.strerror})") from None


def import_samples(engine: Engine, *, now: Callable[[], datetime]) -> Progress:
    """The tickets we ship are there, once however often this is called.

    As work of today, whatever their dates: so that deciding about them shows what deciding leads to.
    """
    *_, last = import_file(engine, Order(SAMPLES, source=SAMPLE_SOURCE, sample=True, live=True), now=now)
    return last


def default_source(path: Path) -> str:
    """A connection's name from a file's."""
    return re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:50].strip("-") or "import"


@dataclass(frozen=True)
class _State:
    """The file's row in `imports`, as this process last saw or wrote it."""

    id: int
    connection_id: int
    source: str
    position: int
    lines: int
    new: int
    unchanged: int
    skipped: int
    finished: bool


def _open(session: Session, order: Order, *, file_hash: str) -> _State:
    source = order.source or default_source(order.path)
    if not NAME.fullmatch(source):
        raise ConnectionRefused(f"{source!r}: a source's name has 1 to 50 small letters, digits and hyphens")
    made = insert(Connection).values(name=source, scheme="file", options={}, supplied=[])
    session.execute(made.on_conflict_do_nothing(index_elements=["name"]))
    connection_id = session.scalars(select(Connection.id).where(Connection.name == source)).one()
    key = {"connection_id": connection_id, "file_hash": file_hash}
    started = insert(Import).values(**key, file_name=order.path.name)
    session.execute(started.on_conflict_do_nothing(index_elements=list(key)))
    return _state(session.scalars(select(Import).filter_by(**key)).one(), source=source)


def _state(row: Import, *, source: str) -> _State:
    counts = {name: getattr(row, name) for name in ("new", "unchanged", "skipped", "position", "lines", "finished")}
    return _State(id=row.id, connection_id=row.connection_id, source=source, **counts)


def _batches(rows: Iterator[Row], *, start: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH_ROWS or row.end.position - start > BATCH_BYTES:
            yield batch
            batch, start = [], row.end.position
    if batch:
        yield batch


def _problems(batch: Sequence[Row]) -> tuple[Problem, ...]:
    return tuple(Problem(row.line, row.content) for row in batch if isinstance(row.content, str))


def _commit(engine: Engine, order: Order, *, state: _State, batch: Sequence[Row], received_at: datetime) -> _State:
    tickets = [row.content for row in batch if isinstance(row.content, Ticket)]
    arrival = Arrival(received_at=received_at, sample=order.sample, live=order.live, batch=order.batch)
    with transaction(engine) as session:
        connection = session.get_one(Connection, state.connection_id)
        recorded = record_all(session, connection=connection, tickets=tickets, arrival=arrival)
        new = sum(one.new for one in recorded)
        counts = {
            "new": state.new + new,
            "unchanged": state.unchanged + len(recorded) - new,
            "skipped": state.skipped + len(batch) - len(recorded),
        }
        end = batch[-1].end
        return _move(session, state=state, position=end.position, lines=end.line, **counts)


def _finish(engine: Engine, order: Order, *, state: _State, size: int) -> _State:
    with transaction(engine) as session:
        if order.batch:
            enqueue(session, "batch_submit", once="batch_submit")
        return _move(session, state=state, position=size, finished=True)


def _move(session: Session, *, state: _State, **columns: int) -> _State:
    """The position moves on from where we believe it to be; if somebody else moved it, nothing of ours is committed."""
    moved = (
        update(Import)
        .where(Import.id == state.id, Import.position == state.position, Import.finished.is_(False))
        .values(**columns, changed_at=func.clock_timestamp())
        .returning(Import)
    )
    row = session.scalar(moved)
    if row is None:
        raise ImportBusy("this file is being imported by another process; that one goes on, and nothing was lost")
    return _state(row, source=state.source)


def _progress(state: _State, *, size: int, problems: tuple[Problem, ...] = ()) -> Progress:
    return Progress(
        source=state.source,
        size=size,
        done=state.position,
        new=state.new,
        unchanged=state.unchanged,
        skipped=state.skipped,
        finished=state.finished,
        problems=problems,
    )
