"""`ticketqc review FILE` given what it cannot use: a clear word each time, nothing half done, nothing paid in vain."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from app.commands.reviewing import review
from app.errors import TicketqcError
from tests.cast import REPOSITORY
from tests.desk import PRIMING, Desk, ticket
from tests.double import Double, Fault


def test_bad_rows_are_told_by_line_and_skipped(desk: Desk) -> None:
    nul = json.dumps(ticket(2, subject="a\0b"))
    foreign = '{"external_id": "INC-6", "status": "closed", "subject": "Tür"}'.encode("latin-1")
    desk.write(ticket(1), '{"external_id": "INC-', "", nul, {"status": "closed"}, "[]", foreign, ticket(7, status="x"))
    done = desk.review("--json")
    assert done.code == 0
    assert [one["external_id"] for one in done.report["tickets"]] == ["INC-1"]
    rows = {row["line"]: row["problem"] for row in done.report["skipped_rows"]}
    assert list(rows) == [2, 4, 5, 6, 7, 8]
    for line, about in (
        (2, "not valid JSON"),
        (4, "NUL"),
        (5, "external_id"),
        (6, "object"),
        (7, "UTF-8"),
        (8, "status"),
    ):
        assert about in rows[line]
        assert f"skipped line {line}: " in done.err


@pytest.mark.parametrize(
    ("lines", "about"),
    [
        (["not json", "{}"], "line 1: not valid JSON"),
        ([b"\x00\x01\x02"], "line 1"),
        ([""], "the file is empty"),
        (["external_id,subject,status", "1,VPN,closed"], "line 1: not valid JSON"),
    ],
)
def test_a_file_without_a_readable_ticket_is_an_error(
    desk: Desk, double: Double, lines: list[str | bytes], about: str
) -> None:
    desk.write(*lines)
    done = desk.review("--json")
    assert (done.code, done.out) == (1, "")
    assert "no ticket can be read from tickets.jsonl" in done.err
    assert about in done.err
    assert double.account.calls == []


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_file_that_cannot_be_read_is_an_error(desk: Desk, kind: str) -> None:
    (desk.folder / "tickets.jsonl").unlink()
    if kind == "folder":
        (desk.folder / "tickets.jsonl").mkdir()
    done = desk.review()
    assert (done.code, done.out) == (1, "")
    assert "cannot read tickets.jsonl: " in done.err


def test_a_rubric_that_does_not_lint_is_refused_by_file_and_line(desk: Desk, double: Double) -> None:
    context = Path(shutil.copytree(REPOSITORY / "context", desk.folder / "context"))
    rubric = context / "qc_rubric.md"
    rubric.write_text(rubric.read_text().replace("pass_mark: 80", "pass_mark: 200"))
    done = desk.review(TICKETQC_CONTEXT_DIR=str(context))
    assert (done.code, done.out) == (1, "")
    assert "qc_rubric.md:2: error: pass_mark must be a number" in done.err
    assert double.account.calls == []


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        (
            {"ANTHROPIC_API_KEY": "", "ANTHROPIC_BASE_URL": "", "TICKETQC_WORKER_MODEL": "claude-haiku-5-5"},
            "claude-haiku-5-5 needs an API key. Set ANTHROPIC_API_KEY",
        ),
        ({"ANTHROPIC_API_KEY": "sk-wrong-key"}, "Set a valid ANTHROPIC_API_KEY"),
        ({"TICKETQC_WORKER_MODEL": "claude-nonesuch-9"}, "the model claude-nonesuch-9 is not known"),
        ({"TICKETQC_WORKER_MODEL": "claude-sonnet-4-20250514"}, "retired"),
        ({"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}, "Connection refused"),
        ({"TICKETQC_WORKR_MODEL": "none"}, "did you mean TICKETQC_WORKER_MODEL?"),
    ],
)
def test_a_model_that_cannot_be_used_is_said_before_anything_is_paid(
    desk: Desk, double: Double, changes: dict[str, str], about: str
) -> None:
    done = desk.review("--json", **changes)
    assert done.code != 0
    assert done.out == ""
    assert about in done.err
    assert "sk-wrong-key" not in done.err
    assert double.account.calls == []


def test_a_key_that_is_refused_in_the_middle_stops_at_once_and_keeps_what_was_paid(desk: Desk, double: Double) -> None:
    desk.write(*(ticket(number) for number in range(40)))
    double.fault(Fault("invalid_key", at=tuple(range(12, 10_000))))
    done = desk.review("--json", "--concurrency", "4")
    assert (done.code, done.out) == (1, "")
    assert "Set a valid ANTHROPIC_API_KEY" in done.err
    assert "Replies received so far are kept and will not be paid again" in done.err
    assert len(double.account.calls) <= 12 + 4  # no more than were under way
    kept = desk.replies()
    assert len(kept) == 12 - PRIMING
    double.fault()
    assert desk.review("--json").report["totals"]["replies_reused"] == len(kept)


def test_a_ticket_that_gets_no_answer_is_left_unjudged_and_the_others_are_done(
    desk: Desk, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.asking.FIRST_WAIT", 0.01)
    desk.write(ticket(1), ticket(2))
    double.fault(Fault("overloaded", match="LT-1 "))
    done = desk.review("--json")
    assert done.code == 1
    first, second = done.report["tickets"]
    assert (first["verdict"], first["findings"]) == (None, [])
    assert "not judged: HTTP 529" in first["reasons"][0]
    assert second["verdict"] is not None
    assert done.report["totals"]["not_judged"] == 1
    double.fault()
    assert desk.review("--json").code == 0


def test_a_refused_answer_is_no_verdict_of_ours(desk: Desk, double: Double) -> None:
    desk.write(ticket(1), ticket(2))
    double.fault(Fault("refuse", match="LT-1 "))
    first, second = desk.review("--json").report["tickets"]
    assert (first["verdict"], second["verdict"]) == ("escalate", "fail")
    assert "refused" in " ".join(first["reasons"])


def test_a_full_disk_stops_before_more_is_paid_than_can_be_kept(desk: Desk, double: Double) -> None:
    """/dev/full is a disk without room; the prefixes are warm by then, and what is under way may end."""
    desk.data.mkdir()
    desk.journal.symlink_to("/dev/full")
    desk.write(*(ticket(number) for number in range(40)))
    done = desk.review("--json", "--fresh", "--concurrency", "2")
    assert (done.code, done.out) == (1, "")
    assert "No space left on device" in done.err
    assert "Replies kept so far are safe" in done.err
    assert len(double.account.calls) <= PRIMING + 6


@pytest.fixture
def _all_imported(desk: Desk) -> None:
    """By another run, before the account changes: the next one may not reach the interpreter's files."""
    assert desk.review(TICKETQC_WORKER_MODEL="none").code == 0


@pytest.mark.parametrize("where", ["parent", "folder"])
@pytest.mark.usefixtures("_all_imported")
def test_a_data_directory_that_cannot_be_written_says_what_to_set(
    unprivileged: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (unprivileged / "tickets.jsonl").write_text(json.dumps(ticket(1)))
    data = unprivileged / "data"
    if where == "folder":
        data.mkdir()
        (data / "secret.key").write_text("k" * 43)
        data.chmod(0o500)
    unprivileged.chmod(0o500)
    monkeypatch.setattr("app.log.configure", lambda **_: None)
    monkeypatch.setenv("TICKETQC_DATA_DIR", str(data))
    monkeypatch.setenv("TICKETQC_WORKER_MODEL", "none")
    with pytest.raises(TicketqcError, match=r"(?s)Permission denied.*TICKETQC_DATA_DIR"):
        review(unprivileged / "tickets.jsonl")
    unprivileged.chmod(0o700)  # pytest tidies up
    if data.exists():
        data.chmod(0o700)


def test_a_ticket_that_is_too_long_goes_to_a_person_unpaid(desk: Desk, double: Double) -> None:
    desk.write(ticket(1, description="It is slow. " * 17_000))
    done = desk.review("--json")
    (one,) = done.report["tickets"]
    assert one["verdict"] == "escalate"
    assert "too long to judge" in one["reasons"][0]
    assert double.account.calls == []


def test_a_ticket_without_entries_is_judged(desk: Desk) -> None:
    desk.write(ticket(1, entries=[]), ticket(2, entries=None, resolution=None, created_at=None, closed_at=None))
    done = desk.review("--json")
    assert done.code == 0
    assert None not in done.verdicts


def test_an_answer_with_a_nul_character_is_kept_and_read(desk: Desk, double: Double) -> None:
    double.answer_with(lambda _body: "\0" + json.dumps({"no": "answer"}))
    done = desk.review("--json")
    assert done.verdicts == ["escalate"]
    assert len(desk.replies()) == len(set(desk.replies())) == 4
