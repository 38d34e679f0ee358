"""Real tickets to measure with. They live beside the repository, are never copied into it, and are hostile input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FILES = ("tidev-inbox", "tidev-escalated", "star", "tau-airline")


def shared_tickets(*names: str) -> list[dict[str, Any]]:
    """Rows of the named files, all by default. Skips the test where the data is not there."""
    paths = [DATA / f"tickets-{name}.jsonl" for name in names or FILES]
    if missing := [path.name for path in paths if not path.is_file()]:
        pytest.skip(f"real tickets are not here: no {missing[0]} in ../shared/data")
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").split("\n") if line]
