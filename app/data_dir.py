"""The folder that holds what this installation keeps: key, database, model, replies. Its owner's alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from app.errors import DataDirError

if TYPE_CHECKING:
    from pathlib import Path


def ensure(data_dir: Path) -> Path:
    """The folder exists and can be written to; DataDirError says why not and what to do."""
    # As root the database's unprivileged account must pass through; it still cannot list what is here.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        missing = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            folder.chmod(mode)
    except OSError as error:
        raise unusable(data_dir, error) from None
    if not data_dir.is_dir():
        raise DataDirError(f"{data_dir} is a file; set TICKETQC_DATA_DIR to a folder")
    return data_dir


def unusable(path: Path, error: OSError) -> DataDirError:
    return DataDirError(
        f"cannot write {path} ({error.strerror}); nothing was changed. "
        "Make the folder writable for this account, or set TICKETQC_DATA_DIR to another one."
    )
