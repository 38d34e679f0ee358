"""Values outside memory: in their order, from many threads, and a clear word where there is no room."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from app.spool import Spool, SpoolError
from tests.cast import revision

if TYPE_CHECKING:
    from pathlib import Path


def test_values_come_back_as_they_were_as_often_as_wanted() -> None:
    revisions = [revision(external_id=f"INC-{number}") for number in range(3)]
    spool = Spool(revisions)
    assert len(spool) == 3
    assert list(spool) == list(spool) == revisions
    assert [one.hash for one in spool] == [one.hash for one in revisions]


def test_what_many_threads_put_lies_in_the_order_of_its_numbers() -> None:
    spool: Spool[str] = Spool()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: spool.put(number, str(number) * 1_000), reversed(range(200))))
    assert list(spool) == [str(number) * 1_000 for number in range(200)]


def test_it_can_be_read_while_it_grows() -> None:
    spool = Spool(["a", "b"])
    values = iter(spool)
    assert next(values) == "a"
    spool.append("c")
    assert [*values] == ["b"]
    assert [*spool] == ["a", "b", "c"]


def test_it_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = Spool(["a"])
    assert list(tmp_path.iterdir()) == []
    assert list(spool) == ["a"]


def test_where_no_file_can_be_it_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(SpoolError, match=r"No such file or directory.*TMPDIR"):
        Spool()
