"""The journal of `review FILE`: what it kept is found again, whatever happened to the process or the disk."""

from __future__ import annotations

import errno
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from agents import qc
from agents.gateway import CallFailed
from app.journal import Journal, JournalError
from tests.cast import MODEL, nonce_for, reply, revision, shipped_context

if TYPE_CHECKING:
    from pathlib import Path

    from agents.question import Question


def question(number: int = 0) -> Question:
    asked = revision(subject=f"VPN {number}")
    return qc.question(asked, shipped_context(), model=MODEL, nonce_for=nonce_for, triage=None)


def test_a_kept_reply_is_found_by_the_next_process(tmp_path: Path) -> None:
    with Journal(tmp_path / "replies.jsonl") as journal:
        journal.keep(question(), reply('{"a": "é"}'))
    with Journal(tmp_path / "replies.jsonl") as journal:
        assert journal.find(question()) == reply('{"a": "é"}')
        assert journal.find(question(1)) is None


def test_fresh_ignores_what_is_there_but_keeps_it(tmp_path: Path) -> None:
    with Journal(tmp_path / "replies.jsonl") as journal:
        journal.keep(question(), reply("{}"))
    with Journal(tmp_path / "replies.jsonl", fresh=True) as journal:
        assert journal.find(question()) is None
    with Journal(tmp_path / "replies.jsonl") as journal:
        assert journal.find(question()) is not None


def test_of_several_replies_to_one_question_the_last_counts(tmp_path: Path) -> None:
    with Journal(tmp_path / "replies.jsonl") as journal:
        journal.keep(question(), reply("{}"))
        journal.keep(question(), reply('{"b": 2}'))
        assert journal.find(question()) == reply('{"b": 2}')
    with Journal(tmp_path / "replies.jsonl") as journal:
        assert journal.find(question()) == reply('{"b": 2}')


def test_a_reply_of_any_length_is_found_again_beside_what_another_process_keeps(tmp_path: Path) -> None:
    long = reply("é" * 50_000)
    with Journal(tmp_path / "replies.jsonl") as one, Journal(tmp_path / "replies.jsonl") as other:
        for number in range(3):
            one.keep(question(number), long)
            other.keep(question(10 + number), reply("{}"))
        assert [one.find(question(number)) for number in range(3)] == [long] * 3
        assert other.find(question(12)) == reply("{}")
        assert one.find(question(12)) is None


def test_a_line_that_was_changed_under_our_hands_is_no_reply(tmp_path: Path) -> None:
    with Journal(tmp_path / "replies.jsonl") as journal:
        journal.keep(question(), reply("{}"))
        (tmp_path / "replies.jsonl").write_bytes(b"something else\n")
        assert journal.find(question()) is None


def test_a_line_cut_by_a_crash_is_ignored_and_the_next_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    with Journal(path) as journal:
        journal.keep(question(), reply("{}"))
        journal.keep(question(1), reply("{}"))
    path.write_bytes(path.read_bytes()[:-20])
    with Journal(path) as journal:
        assert journal.find(question()) is not None
        assert journal.find(question(1)) is None
        journal.keep(question(2), reply("{}"))
    with Journal(path) as journal:
        assert journal.find(question(2)) is not None


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    with Journal(tmp_path / "replies.jsonl"):
        assert stat.S_IMODE((tmp_path / "replies.jsonl").stat().st_mode) == 0o600


def test_many_threads_keep_whole_lines(tmp_path: Path) -> None:
    with Journal(tmp_path / "replies.jsonl") as journal, ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: journal.keep(question(number), reply("{}" * 1000)), range(50)))
    lines = (tmp_path / "replies.jsonl").read_text("utf-8").splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == 50


def test_an_attempt_without_a_reply_is_on_record(tmp_path: Path) -> None:
    with Journal(tmp_path / "replies.jsonl") as journal:
        journal.failed(question(), CallFailed("timeout", "no answer within 60 s"))
        journal.failed(question(), CallFailed("rate_limited", "HTTP 429"))
    rows = [json.loads(line) for line in (tmp_path / "replies.jsonl").read_text("utf-8").splitlines()]
    assert [(row["failure"], row["possibly_billed"]) for row in rows] == [("timeout", True), ("rate_limited", False)]


def test_a_row_cut_by_a_full_disk_takes_no_later_one_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may find room again before the command has ended."""
    write = os.write

    def half(fd: int, data: bytes) -> int:
        monkeypatch.setattr("app.journal.os.write", full)
        return write(fd, data[: len(data) // 2])

    def full(*_: object) -> int:
        monkeypatch.setattr("app.journal.os.write", write)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(tmp_path / "replies.jsonl") as journal:
        monkeypatch.setattr("app.journal.os.write", half)
        with pytest.raises(JournalError):
            journal.keep(question(), reply("{}"))
        journal.keep(question(1), reply("{}"))
    with Journal(tmp_path / "replies.jsonl") as journal:
        assert journal.find(question()) is None
        assert journal.find(question(1)) is not None


def test_a_full_disk_says_what_is_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "replies.jsonl") as journal:

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("app.journal.os.write", full)
        with pytest.raises(JournalError, match="No space left on device"):
            journal.keep(question(), reply("{}"))


def test_a_place_that_cannot_be_written_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="TICKETQC_DATA_DIR"):
        Journal(tmp_path / "file" / "replies.jsonl")
