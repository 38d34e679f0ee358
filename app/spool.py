"""Many values outside memory: in a file without a name, which is gone when the process is, however that ends."""

from __future__ import annotations

import pickle
import tempfile
import threading
import weakref
from array import array
from contextlib import contextmanager
from os import SEEK_END
from typing import TYPE_CHECKING, Generic, TypeVar

from app.errors import TicketqcError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")
NOWHERE = -1


class SpoolError(TicketqcError):
    """There is no room for a temporary file."""


class Spool(Generic[T]):
    """Values by number, put by any thread in any order; memory holds where they lie, and those in use."""

    def __init__(self, values: Iterable[T] = ()) -> None:
        self._lock = threading.Lock()
        self._places = array("q")
        with _told():
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as this does
        weakref.finalize(self, self._file.close)
        for value in values:
            self.append(value)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[T]:
        """Each value anew, in the order of their numbers."""
        return map(self._read, range(len(self)))

    def append(self, value: T) -> None:
        self.put(len(self), value)

    def put(self, number: int, value: T) -> None:
        """Of several threads that put at once each has a number of its own; no number is left out in the end."""
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        with self._lock, _told():
            place = self._file.seek(0, SEEK_END)
            self._file.write(data)
            self._file.flush()
            self._places.extend([NOWHERE] * (number + 1 - len(self._places)))
            self._places[number] = place

    def _read(self, number: int) -> T:
        with self._lock, _told():
            self._file.seek(self._places[number])
            value: T = pickle.load(self._file)  # noqa: S301  written by us, where nobody else can write
            return value


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        folder = tempfile.gettempdir()
        raise SpoolError(
            f"cannot use a temporary file in {folder}: {error.strerror}. Make room, or set TMPDIR."
        ) from None
