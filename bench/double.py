"""The test double as a process of its own, so that its work is not counted as ours."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REPOSITORY = Path(__file__).resolve().parent.parent
KEY = "sk-double"


@dataclass(frozen=True)
class DoubleProcess:
    base_url: str

    def account(self) -> dict[str, Any]:
        """Every call with its times, tokens and cost, as the double counted them."""
        with urllib.request.urlopen(f"{self.base_url}/double/account") as answer:  # noqa: S310  our own loopback server
            found: dict[str, Any] = json.load(answer)
            return found

    def reset(self) -> None:
        self._order("reset", {})

    def latency(self, seconds: float) -> None:
        """From now on each reply takes so long."""
        self._order("settings", {"latency": seconds})

    def fault(self, *rules: Mapping[str, object]) -> None:
        """From now on these go wrong, and nothing else."""
        self._order("faults", {"rules": rules})

    def batching(self, **plan: float) -> None:
        """How batches go from now on: see BatchPlan."""
        self._order("settings", {"batching": plan})

    def _order(self, what: str, body: Mapping[str, object]) -> None:
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base_url}/double/{what}", data=data, method="POST")  # noqa: S310
        urllib.request.urlopen(request).close()  # noqa: S310  our own loopback server


@contextmanager
def double(*, latency: float) -> Iterator[DoubleProcess]:
    command = [sys.executable, "-m", "tests.double", "--latency", str(latency), "--key", KEY, "--with-parent"]
    process = subprocess.Popen(  # noqa: S603  our own module
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None  # noqa: S101  asked for above
    assert process.stdout is not None  # noqa: S101
    try:
        yield DoubleProcess(json.loads(process.stdout.readline())["base_url"])
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
