"""`ticketqc review` on the first 62 real tickets against the double: wall time, start-up and cost.

    .venv/bin/python -m bench.review [--latency 0.3] [--concurrency 16] [--runs 3]

Wall time runs from the first request the double received to its last reply and is compared with the ideal
(calls x latency / concurrency, priming counted) and with the bare SDK doing as many calls in the same run.
Tokens are the double's own count: ceil(UTF-8 bytes / 3.1) for everything, the schema included. Nothing here is a model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from anthropic import Anthropic  # noqa: TID251  the baseline is the bare SDK

from bench.double import KEY, REPOSITORY, DoubleProcess, double

TICKETS = REPOSITORY.parent / "shared" / "data" / "tickets-tidev-inbox.jsonl"
COUNT = 62
MODEL = "claude-haiku-5-5"


def main() -> None:
    arguments = _arguments()
    if not TICKETS.exists():
        sys.exit(f"skipped: the shared tickets are not at {TICKETS}")
    with double(latency=arguments.latency) as server, tempfile.TemporaryDirectory() as folder:
        for run in range(arguments.runs):
            _measure(server, Path(folder) / str(run), latency=arguments.latency, concurrency=arguments.concurrency)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.3, help="seconds a call")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--runs", type=int, default=3)
    return parser.parse_args()


def _measure(server: DoubleProcess, folder: Path, *, latency: float, concurrency: int) -> None:
    folder.mkdir()
    tickets = folder / "tickets.jsonl"
    with TICKETS.open("rb") as source:
        tickets.write_bytes(b"".join(islice(source, COUNT)))
    server.reset()
    started = time.monotonic()
    report = review(tickets, server, data_dir=folder / "data", concurrency=concurrency)
    account = server.account()
    timing, totals = account["timing"], account["totals"]
    ideal = totals["replies"] * latency / concurrency
    bare = _bare(server, calls=totals["replies"], concurrency=concurrency)
    print(f"calls {totals['replies']}, at once {timing['max_in_flight']}, of it second runs {report['second_runs']}")
    print(f"start-up         {timing['first_start'] - started:6.2f} s")
    print(f"wall             {timing['seconds']:6.2f} s   ideal {ideal:.2f} s   ratio {timing['seconds'] / ideal:.3f}")
    print(f"bare SDK         {bare:6.2f} s   ratio {timing['seconds'] / bare:.3f} of ours to it")
    _print_cost(account, report)


def review(tickets: Path, server: DoubleProcess, *, data_dir: Path, concurrency: int) -> dict[str, Any]:
    """The totals of `ticketqc review --json` on a file, with the double as the model."""
    environment = {
        "PATH": os.environ["PATH"],  # noqa: TID251  a clean environment for the command
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": server.base_url,
        "TICKETQC_DATA_DIR": str(data_dir),
        "TICKETQC_WORKER_MODEL": MODEL,
    }
    command = [sys.executable, "-m", "app.cli", "review", str(tickets), "--json", "--concurrency", str(concurrency)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        sys.exit(f"review failed ({done.returncode}):\n{done.stderr}")
    totals: dict[str, Any] = json.loads(done.stdout)["totals"]
    return totals


def _bare(server: DoubleProcess, *, calls: int, concurrency: int) -> float:
    """Seconds for as many of the smallest calls through the SDK, from the first request to the last reply."""
    client = Anthropic(api_key=KEY, base_url=server.base_url, max_retries=0)
    server.reset()

    def call(_: int) -> None:
        client.messages.create(
            model=MODEL, max_tokens=16, thinking={"type": "disabled"}, messages=[{"role": "user", "content": "Hello"}]
        )

    with ThreadPoolExecutor(concurrency) as pool:
        list(pool.map(call, range(calls)))
    seconds: float = server.account()["timing"]["seconds"]
    return seconds


def _print_cost(account: dict[str, Any], report: dict[str, Any]) -> None:
    total = float(account["totals"]["cost_usd"])
    second = report["cost_second_runs_usd"]
    print(f"cost, triage + first QC  ${total - second:.5f} for {COUNT} tickets (the double's account); "
          f"second runs ${second:.5f}; our ledger says ${report['cost_usd']:.5f}")  # fmt: skip
    for agent in account["agents"]:
        share = agent["cache_read_share"]
        print(
            f"  {agent['kind']:7} prefix {agent['stable_tokens']:5,} tokens, {agent['replies']:3} replies, "
            f"{agent['output_tokens'] / max(agent['replies'], 1):4.0f} out a reply, "
            f"read from cache after its first call: {'-' if share is None else f'{share:.1%}'}"
        )
    print()


if __name__ == "__main__":
    main()
