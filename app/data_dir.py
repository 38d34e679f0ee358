"""The folder that holds what this installation keeps: key, database, model, replies. Its owner's alone."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.errors import DataDirError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def ensure(data_dir: Path) -> Path:
    """The folder exists and can be written to; DataDirError says why not and what to do."""
    # As root the database's unprivileged account must pass through; it still cannot list what is here.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    with writing(data_dir):
        missing = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            folder.chmod(mode)
    if not data_dir.is_dir():
        raise DataDirError(f"{data_dir} is a file; set TICKETQC_DATA_DIR to a folder")
    return data_dir


def try_to_write(folder: Path) -> None:
    """A full disk and missing rights are heard of now, rather than in the middle of the first ticket."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(65_536))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise unusable(folder, error) from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system refuses in this block becomes a DataDirError about `path`."""
    try:
        yield
    except OSError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: OSError) -> DataDirError:
    full = error.errno in FULL
    advice = "The disk is full: free some space" if full else "Make the folder writable for this account"
    return DataDirError(
        f"cannot write {path} ({error.strerror}); nothing was changed. {advice}, "
        "or set TICKETQC_DATA_DIR to another folder."
    )
