"""Files: each row once however often an import is started, bad rows named and skipped, nothing half there."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select, text

from agents.ticket import Ticket as TicketText
from app import clock, importing
from app.db import transaction
from app.errors import ConnectionRefused, FileUnreadable, ImportBusy
from app.importing import Order, Progress, default_source, import_file, import_samples
from app.intake import rows
from app.intake.rows import MAX_ROW, Place, Row, read_rows
from app.tables import Connection, Import, Revision, Ticket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

REPOSITORY = Path(__file__).resolve().parent.parent
REAL = REPOSITORY.parent / "shared" / "data" / "tickets-tidev-inbox.jsonl"


def row(number: int, **changes: object) -> dict[str, Any]:
    return {"external_id": f"T-{number}", "subject": f"Ticket {number}", "status": "closed", **changes}


def jsonl(path: Path, *lines: object) -> Path:
    """A file of these lines: bytes as they are, the rest as JSON."""
    encoded = [line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode() for line in lines]
    path.write_bytes(b"".join(line + b"\n" for line in encoded))
    return path


def run(engine: Engine, path: Path, *, source: str = "", live: bool = False) -> Progress:
    *_, last = import_file(engine, Order(path, source=source, live=live), now=clock.now)
    return last


def problems(engine: Engine, path: Path) -> dict[int, str]:
    steps = import_file(engine, Order(path), now=clock.now)
    return {problem.line: problem.reason for step in steps for problem in step.problems}


def ids(session: Session) -> list[str]:
    session.rollback()
    return list(session.scalars(select(Ticket.external_id).order_by(Ticket.id)))


def jobs(session: Session) -> int:
    return int(session.execute(text("select count(*) from procrastinate.procrastinate_jobs")).scalar_one())


def test_rows_become_tickets_of_a_connection_for_files(engine: Engine, session: Session, tmp_path: Path) -> None:
    last = run(engine, jsonl(tmp_path / "Old Desk (2).jsonl", row(1), row(2, status="open")))
    assert (last.new, last.unchanged, last.skipped, last.finished) == (2, 0, 0, True)
    assert ids(session) == ["T-1", "T-2"]
    connection = session.scalars(select(Connection)).one()
    assert (connection.name, connection.scheme, connection.secret) == ("old-desk-2", "file", None)
    assert jobs(session) == 2


def test_a_finished_file_is_not_read_again(engine: Engine, session: Session, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", row(1), row(2))
    run(engine, path)
    steps = list(import_file(engine, Order(path), now=clock.now))
    assert [(step.finished, step.new) for step in steps] == [(True, 2)]
    assert jobs(session) == 2


def test_a_longer_export_brings_only_what_is_new(engine: Engine, session: Session, tmp_path: Path) -> None:
    run(engine, jsonl(tmp_path / "a.jsonl", row(1), row(2)))
    last = run(engine, jsonl(tmp_path / "a.jsonl", row(1), row(2, subject="changed"), row(3)))
    assert (last.new, last.unchanged) == (2, 1)
    assert ids(session) == ["T-1", "T-2", "T-3"]


def test_one_file_into_two_sources_is_two_imports(engine: Engine, session: Session, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", row(1))
    for source in ("one", "two"):
        assert run(engine, path, source=source).new == 1
    assert ids(session) == ["T-1", "T-1"]


@pytest.mark.parametrize("source", ["Desk", "a/b", "-a", "x" * 51])
def test_a_source_has_a_connections_name(engine: Engine, tmp_path: Path, source: str) -> None:
    with pytest.raises(ConnectionRefused, match="small letters, digits and hyphens"):
        run(engine, jsonl(tmp_path / "a.jsonl", row(1)), source=source)


@pytest.mark.parametrize(("name", "source"), [("A b_c.jsonl", "a-b-c"), ("Ω.csv", "import"), ("x" * 80, "x" * 50)])
def test_a_source_is_named_after_its_file(name: str, source: str) -> None:
    assert default_source(Path(name)) == source


def test_bad_rows_are_named_by_their_line_and_skipped(engine: Engine, session: Session, tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl",
        b"\xef\xbb\xbf" + json.dumps(row(1)).encode(),
        b'{"external_id": "T-2", "status": ',
        b"",
        b'{"external_id": "\xff", "status": "closed"}',
        b'{"external_id": "T-5\\u0000", "status": "closed"}',
        b'\0{"external_id": "T-6", "status": "closed"}',
        b'"T-7"',
        {"status": "closed"},
        row(9, status="done"),
        row(10, entries=[{"minutes": -1}]),
        b"   ",
        row(12, entries=None, thread=None),
    )
    seen = problems(engine, path)
    assert seen.pop(2) == "not valid JSON: Expecting value at column 33"
    assert seen.pop(4) == "not UTF-8 at byte 17; save or send it as UTF-8"
    assert seen.pop(5).startswith("the ticket contains a NUL character")
    assert seen.pop(6) == "not valid JSON: Expecting value at column 1"
    assert seen.pop(7) == "a ticket must be a JSON object, not str"
    assert {line: reason.partition(":")[0] for line, reason in seen.items()} == {
        8: "external_id", 9: "status", 10: "entries.0.minutes",
    }  # fmt: skip
    assert ids(session) == ["T-1", "T-12"]
    stored = session.scalars(select(Import)).one()
    assert (stored.new, stored.skipped, stored.lines, stored.finished) == (2, 8, 12, True)


def test_a_huge_line_is_skipped_without_being_held(engine: Engine, session: Session, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(json.dumps(row(1)).encode() + b"\n")
        for _ in range(5):
            file.write(b"x" * MAX_ROW)
        file.write(b"\n" + json.dumps(row(3)).encode())  # no newline at the end
    assert problems(engine, path) == {2: "longer than 8 MiB"}
    assert ids(session) == ["T-1", "T-3"]


def test_history_makes_no_observations_unless_live(engine: Engine, session: Session, tmp_path: Path) -> None:
    old = {"closed_at": "2020-01-01T00:00:00Z"}
    path = jsonl(tmp_path / "a.jsonl", row(1, **old), row(2))
    run(engine, path, source="quiet")
    run(engine, path, source="loud", live=True)
    assert list(session.scalars(select(Revision.live).order_by(Revision.id))) == [False, True, True, True]


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.jsonl.gz"])
def test_other_kinds_of_files_are_refused(engine: Engine, tmp_path: Path, name: str) -> None:
    with pytest.raises(FileUnreadable, match=r"give a \.jsonl file"):
        run(engine, tmp_path / name)


def test_a_file_that_is_not_there(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match="No such file"):
        run(engine, tmp_path / "gone.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(FileUnreadable, match="directory"):
        run(engine, tmp_path / "folder.jsonl")


def test_an_empty_file_is_finished_at_once(engine: Engine, tmp_path: Path) -> None:
    last = run(engine, jsonl(tmp_path / "a.jsonl"))
    assert (last.rows, last.finished) == (0, True)


# --- CSV


def table(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_flat_table_is_a_ticket_a_row(engine: Engine, session: Session, tmp_path: Path) -> None:
    path = table(
        tmp_path / "a.csv",
        "\ufeffExternal ID,Subject,Status,Resolution,Ward\r\n"
        '7,"Printer, ""the big one""",Closed,"Toner\r\nreplaced",3\r\n'
        "8,,open\r\n"
        "\r\n"
        ",,,,\r\n",
    )
    assert (run(engine, path).new, ids(session)) == (2, ["7", "8"])
    stored = session.scalars(select(Revision.document).order_by(Revision.id)).first()
    assert stored is not None
    ticket = stored["ticket"]
    assert ticket["subject"] == 'Printer, "the big one"'
    assert ticket["resolution"]["note"] == "Toner\r\nreplaced"
    assert ticket["extra"] == {"ward": "3"}


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(engine: Engine, session: Session, tmp_path: Path, delimiter: str) -> None:
    path = table(tmp_path / "a.csv", f"external_id{delimiter}status\n7{delimiter}closed\n")
    assert run(engine, path).new == 1
    assert ids(session) == ["7"]


def test_entries_stand_in_their_cell_as_json(engine: Engine, session: Session, tmp_path: Path) -> None:
    thread = json.dumps([{"author_role": "agent", "internal": True, "body": "Zoë\nasked"}], ensure_ascii=False)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerows([["external_id", "status", "thread"], ["7", "closed", thread], ["8", "closed", "Zoë asked"]])
    path = table(tmp_path / "a.csv", out.getvalue())
    assert problems(engine, path) == {
        3: "thread: not valid JSON: Expecting value at column 1; the cell must hold a JSON list"
    }
    stored = session.scalars(select(Revision.document)).one()["ticket"]["entries"]
    assert (stored[0]["body"], stored[0]["visibility"]) == ("Zoë\nasked", "internal")


def test_a_cell_of_200000_characters(engine: Engine, tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", f"external_id,status,description\n7,closed,{'word ' * 40_000}\n")
    assert run(engine, path).new == 1


def test_bad_rows_of_a_table(engine: Engine, session: Session, tmp_path: Path) -> None:
    path = table(
        tmp_path / "a.csv",
        b"external_id,status,subject\n"
        b"1,closed,a,b\n"
        b"2,closed,Z\xfcrich\n"
        b"3,closed,N\0L\n"
        b'4,closed,"two\nlines"\n'
        b"5,done,\n"
        b'6,closed,"a"b\n'
        b"7,closed,fine\n"
        b'8,closed,"never closed\n'
        b"9,closed,swallowed\n",
    )
    seen = problems(engine, path)
    assert seen[2] == "4 cells where the header row has 3"
    assert seen[3] == "not UTF-8; save the file as UTF-8"
    assert seen[4].startswith("the ticket contains a NUL character")
    assert seen[7].startswith("status: ")
    assert seen[8].startswith("not valid CSV: ")
    assert seen[10] == "a quote opens here and never closes: lines 10 to 11 were not read"
    assert ids(session) == ["4", "7"]


def test_a_row_longer_than_the_limit(
    engine: Engine, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_ROW", 1000)
    path = table(tmp_path / "a.csv", f"external_id,status,subject\n1,closed,{'x' * 5000}\n2,closed,fine\n")
    assert list(problems(engine, path)) == [2]
    assert ids(session) == ["2"]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "no column external_id and no column status"),
        ("id,status", "no column external_id"),
        ("external_id,state", "no column status"),
        ("external_id,status,Status", "names a column twice: status"),
    ],
)
def test_a_table_without_a_usable_header_imports_nothing(
    engine: Engine, session: Session, tmp_path: Path, header: str, reason: str
) -> None:
    with pytest.raises(FileUnreadable, match=reason):
        run(engine, table(tmp_path / "a.csv", f"{header}\n1,closed,x\n"))
    assert ids(session) == []
    with pytest.raises(FileUnreadable, match="not UTF-8"):
        run(engine, table(tmp_path / "b.csv", b"external_id,status,\xff\n"))


def test_every_row_of_a_table_is_a_place_to_go_on_from(tmp_path: Path) -> None:
    content = 'external_id,status,subject\r\n1,closed,"a\r\nb"\r\n\r\n2,closed,Zoë\r\n3,closed,"x ""y"""'
    path = table(tmp_path / "a.csv", content)
    with path.open("rb") as file:
        whole = list(read_rows(file, kind="csv", start=Place()))
        assert [(seen.line, seen.end.line) for seen in whole] == [(2, 3), (5, 5), (6, 6)]
        for number, seen in enumerate(whole, 1):
            assert list(read_rows(file, kind="csv", start=seen.end)) == whole[number:]
    assert all(isinstance(seen.content, TicketText) for seen in whole)
    assert whole[-1].end.position == path.stat().st_size


# --- interrupted


class StoppedError(Exception):
    pass


def stop_after(engine: Engine, path: Path, batches: int) -> Progress:
    """Begin an import and leave it after so many batches, as a closed terminal would."""
    steps = import_file(engine, Order(path), now=clock.now)
    for _ in range(batches):
        next(steps)
    return next(steps)


def test_an_interrupted_import_goes_on_where_it_stopped(
    engine: Engine, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH_ROWS", 10)
    path = jsonl(tmp_path / "a.jsonl", *[row(number) if number % 7 else b"bad" for number in range(100)])
    left = stop_after(engine, path, 3)
    assert (left.rows, left.finished) == (30, False)
    read: list[Row] = []

    def counted(*args: Any, **kwargs: Any) -> Iterator[Row]:  # noqa: ANN401  handed through
        for one in read_rows(*args, **kwargs):
            read.append(one)
            yield one

    monkeypatch.setattr(importing, "read_rows", counted)
    last = run(engine, path)
    assert len(read) == 70
    assert read[0].line == 31
    assert (last.new, last.unchanged, last.skipped, last.finished) == (85, 0, 15, True)
    assert ids(session) == [f"T-{number}" for number in range(100) if number % 7]
    assert jobs(session) == 85


def test_a_batch_is_there_whole_or_not_at_all(
    engine: Engine, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are in the database's hands when the position cannot be moved."""
    monkeypatch.setattr(importing, "BATCH_ROWS", 10)
    path = jsonl(tmp_path / "a.jsonl", *[row(number) for number in range(30)])
    move = importing._move  # noqa: SLF001  the step before the commit
    calls = 0

    def fail(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  handed through
        nonlocal calls
        calls += 1
        if calls == 2:
            raise StoppedError
        return move(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(importing, "_move", fail)
        with pytest.raises(StoppedError):
            run(engine, path)
    assert len(ids(session)) == 10
    assert run(engine, path).new == 30
    assert len(ids(session)) == jobs(session) == 30


def test_two_imports_of_one_file_at_once_do_not_count_twice(
    engine: Engine, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH_ROWS", 10)
    path = jsonl(tmp_path / "a.jsonl", *[row(number) for number in range(30)])
    slow = import_file(engine, Order(path), now=clock.now)
    next(slow)
    next(slow)
    assert run(engine, path).new == 30
    with pytest.raises(ImportBusy, match="nothing was lost"):
        next(slow)
    stored = session.scalars(select(Import)).one()
    assert (stored.new, stored.unchanged, stored.finished) == (30, 0, True)
    assert len(ids(session)) == jobs(session) == 30


def ticketqc(database_url: str, tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TICKETQC_")},  # noqa: TID251
        "TICKETQC_DATABASE_URL": database_url,
        "TICKETQC_DATA_DIR": str(tmp_path / "data"),
        "PYTHONPATH": str(REPOSITORY),
    }
    return subprocess.Popen(  # noqa: S603  our own command
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=tmp_path,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ended_in_the_middle_and_started_again(
    database_url: str, engine: Engine, session: Session, tmp_path: Path, how: signal.Signals
) -> None:
    total = 600
    lines = [row(number, description="word " * 200) if number % 100 else b"bad" for number in range(total)]
    path = jsonl(tmp_path / "history.jsonl", *lines)
    process = ticketqc(database_url, tmp_path, "import", str(path))
    with process:
        while True:
            with transaction(engine) as own:
                done = own.scalar(select(Import.position)) or 0
            assert process.poll() is None, "it ended before it could be killed"
            if done:
                break
            time.sleep(0.02)
        process.send_signal(how)
        _, err = process.communicate()
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "stopped. What was read so far is imported; the same command goes on from there." in err
    assert 0 < len(ids(session)) < total

    with ticketqc(database_url, tmp_path, "import", str(path)) as again:
        out, _ = again.communicate()
    assert again.returncode == 0
    assert out == "history.jsonl -> history: 600 rows: 594 new, 0 unchanged, 6 skipped\n"
    assert sorted(ids(session)) == sorted(f"T-{number}" for number in range(total) if number % 100)
    assert session.scalars(select(func.count()).select_from(Revision)).one() == jobs(session) == 594


# --- the command


def test_the_command_reports_rows_and_sums_up(database_url: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", row(1), b"{", row(3))
    with ticketqc(database_url, tmp_path, "import", str(path), "--source", "desk") as first:
        out, err = first.communicate()
    assert (first.returncode, out) == (0, "a.jsonl -> desk: 3 rows: 2 new, 0 unchanged, 1 skipped\n")
    assert err.splitlines() == [
        "line 2: not valid JSON: Expecting property name enclosed in double quotes at column 2 (skipped)",
        "100%: 3 rows",
    ]
    with ticketqc(database_url, tmp_path, "import", str(path), "--source", "desk") as second:
        out, err = second.communicate()
    assert second.returncode == 0
    assert out == ("a.jsonl was imported into desk before (3 rows: 2 new, 0 unchanged, 1 skipped); nothing to do.\n")


def test_the_command_ends_with_2_where_every_row_is_bad(database_url: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", *[b"{"] * 150)
    with ticketqc(database_url, tmp_path, "import", str(path)) as process:
        out, err = process.communicate()
    assert process.returncode == 2
    assert out == "a.jsonl -> a: 150 rows: 0 new, 0 unchanged, 150 skipped\n"
    told = err.splitlines()
    assert len([line for line in told if line.endswith("(skipped)")]) == 100
    assert "further bad rows are only counted" in told


def test_the_command_says_what_is_wrong_in_one_line(database_url: str, tmp_path: Path) -> None:
    with ticketqc(database_url, tmp_path, "import", "gone.jsonl") as process:
        out, err = process.communicate()
    assert process.returncode == 1
    assert (out, err) == ("", "ticketqc: gone.jsonl: cannot be read (No such file or directory)\n")


# --- what we ship, and real tickets


def test_the_samples_are_there_once(engine: Engine, session: Session) -> None:
    first = import_samples(engine, now=clock.now)
    assert (first.source, first.skipped, first.finished) == ("sample", 0, True)
    assert first.new >= 10
    assert import_samples(engine, now=clock.now) == first
    session.rollback()
    assert session.scalars(select(func.count()).select_from(Ticket).where(Ticket.sample)).one() == first.new


@pytest.mark.skipif(not REAL.exists(), reason=f"{REAL.name} is not here")
def test_a_real_file_of_455_tickets(engine: Engine, session: Session) -> None:
    last = run(engine, REAL)
    assert (last.new, last.skipped, last.finished) == (455, 0, True)
    session.rollback()
    raw = [json.loads(line) for line in REAL.read_bytes().splitlines()]
    assert sorted(ids(session)) == sorted(one["external_id"] for one in raw)
    assert set(session.scalars(select(Revision.live))) == {False}
    stored = session.scalars(select(Import)).one()
    assert stored.file_hash == hashlib.sha256(REAL.read_bytes()).hexdigest()
    assert stored.position == REAL.stat().st_size
