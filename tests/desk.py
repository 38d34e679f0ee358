"""A desk to run `ticketqc review FILE` at: a folder, a file of tickets, the double as the model."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from app import cli
from tests.cast import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.double import Double

PRIMING = 2  # calls: one for each agent's prefix


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def verdicts(self) -> list[str | None]:
        return [ticket["verdict"] for ticket in self.report["tickets"]]


@dataclass(frozen=True)
class Desk:
    """A folder with a file of tickets, and the environment in which the command runs."""

    folder: Path
    environment: dict[str, str]
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def journal(self) -> Path:
        return self.data / "review-replies.jsonl"

    def review(self, *arguments: str, **changes: str) -> Done:
        """Through the command line's own entry, in this process: starting another takes a second."""
        with self.monkeypatch.context() as patched:
            patched.chdir(self.folder)
            patched.setattr(sys, "argv", ["ticketqc", "review", "tickets.jsonl", *arguments])
            for name, value in {**self.environment, **changes}.items():
                patched.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        out, err = self.capsys.readouterr()
        return Done(int(ended.value.code or 0), out, err)

    def start(self, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """The same in a process of its own, to be ended in the middle."""
        return subprocess.Popen(  # noqa: S603  ourselves
            [sys.executable, "-m", "app.cli", "review", "tickets.jsonl", *arguments],
            cwd=self.folder,
            env={"PATH": os.defpath, "PYTHONPATH": str(REPOSITORY), **self.environment},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write(self, *lines: str | bytes | dict[str, Any]) -> None:
        raw = [line if isinstance(line, bytes) else line.encode() for line in map(_line, lines)]
        (self.folder / "tickets.jsonl").write_bytes(b"\n".join(raw) + b"\n")

    def replies(self) -> list[str]:
        """Keys of the replies on record."""
        rows = [json.loads(line) for line in self.journal.read_bytes().splitlines() if line.endswith(b"}")]
        return [row["key"] for row in rows if "reply" in row]


def _line(line: str | bytes | dict[str, Any]) -> str | bytes:
    return json.dumps(line, ensure_ascii=False) if isinstance(line, dict) else line


def ticket(number: int = 1, **changes: object) -> dict[str, Any]:
    raw = {
        "external_id": f"INC-{number}",
        "subject": f"VPN of laptop LT-{number} drops every ten minutes",
        "description": "Since Monday the VPN on my laptop drops every ten minutes.\nI cannot work from home.",
        "requester": "Ana Ruiz",
        "priority": "p3",
        "category": "network",
        "status": "closed",
        "created_at": "2026-11-16T08:00:00Z",
        "closed_at": "2026-11-16T10:00:00Z",
        "entries": [
            {
                "author_role": "agent",
                "at": "2026-11-16T09:30:00Z",
                "body": f"Replaced the expired client certificate on LT-{number} and watched the tunnel.",
                "minutes": 45,
                "billable": True,
            },
            {"author_role": "requester", "at": "2026-11-16T09:45:00Z", "body": "Works now, thank you."},
        ],
        "resolution": {"code": "Solved", "note": "Expired client certificate; renewal added to the calendar."},
    }
    return {**raw, **changes}


@contextmanager
def desk_at(
    folder: Path, double: Double, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Desk]:
    """A desk with one ticket. The command sends logs to its own standard error; afterwards they go where they went."""
    environment = {
        "COLUMNS": "160",
        "ANTHROPIC_API_KEY": double.key,
        "ANTHROPIC_BASE_URL": double.base_url,
        "TICKETQC_DATA_DIR": str(folder / "data"),
    }
    made = Desk(folder, environment, monkeypatch, capsys)
    made.write(ticket(1))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield made
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
