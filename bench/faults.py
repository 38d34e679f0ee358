"""A fifth of all calls go wrong in six ways: every ticket is judged, once, and no reply that reached us is lost.

    .venv/bin/python -m bench.faults [--tickets 300] [--share 0.2]

429, 529, 500, a server that hangs, a connection cut before the answer and one cut in the middle of it, through
`review FILE`'s own code with the SDK. We wait 2 s for an answer here instead of 60. What is compared: what the double
says it gave, what it says arrived, and what the journal kept. A ticket whose tries were all in vain is judged by a
second run of the same file, which asks only for what is missing.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from agents.gateway import Endpoint, Gateway
from agents.judge import TOKEN_LIMIT
from app.asking import Asking, Pace
from app.journal import Journal
from app.limiter import Limiter
from app.models import Ready
from app.review_file import Reviewer, read_context, read_tickets
from bench.double import KEY, REPOSITORY, double
from bench.overhead import repeated
from bench.review import MODEL, TICKETS

if TYPE_CHECKING:
    from bench.double import DoubleProcess

TIMEOUT = 2.0  # seconds
LATENCY = 0.05
CONCURRENCY = 16
MOST_RUNS = 3
KINDS = ("rate_limit", "overloaded", "server_error", "hang", "cut_before", "cut_middle")


@dataclass(frozen=True)
class Outcome:
    judged: int
    tickets: int
    runs: int
    seconds: float
    primed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=300)
    parser.add_argument("--share", type=float, default=0.2, help="of the calls that go wrong")
    arguments = parser.parse_args()
    if not TICKETS.exists():
        sys.exit(f"skipped: the shared tickets are not at {TICKETS}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # each attempt is a warning
    with double(latency=LATENCY) as server, tempfile.TemporaryDirectory() as folder:
        server.fault(*_rules(arguments.share))
        file, journal = Path(folder) / "tickets.jsonl", Path(folder) / "replies.jsonl"
        file.write_bytes(repeated(arguments.tickets))
        outcome = _reviewed(server, file, journal)
        sys.exit(not _print(outcome, server.account(), _kept(journal), share=arguments.share))


def _rules(share: float) -> list[dict[str, object]]:
    """Each kind as often as the others: a rule is asked only about the calls that the ones before it let through."""
    each = share / len(KINDS)
    shares = [each / (1 - each * number) for number in range(len(KINDS))]
    return [
        {"kind": kind, "share": one, "seed": seed} for seed, (kind, one) in enumerate(zip(KINDS, shares, strict=True))
    ]


def _reviewed(server: DoubleProcess, file: Path, journal: Path) -> Outcome:
    batch, context = read_tickets(file), read_context(REPOSITORY / "context")
    started = time.monotonic()
    primed = judged = run = 0
    for run in range(1, MOST_RUNS + 1):
        gateway = Gateway(Endpoint(KEY, server.base_url, timeout_seconds=TIMEOUT))
        gateway.look_up(MODEL)
        ready = Ready(MODEL, Asking(gateway, pace=Pace(Limiter(maximum=CONCURRENCY))), False, TOKEN_LIMIT)  # noqa: FBT003
        with Journal(journal) as store:
            reviewer = Reviewer(context, ready, store, lambda key: key[:16], date(2026, 11, 26))
            report = reviewer.review(batch, concurrency=CONCURRENCY)
        gateway.close()
        primed += report.priming.replies
        judged = len({one.external_id for one in report.reviewed if one.judgement is not None})
        if judged == len(batch.revisions):
            break
        print(f"after run {run} {judged} of {len(batch.revisions)} tickets are judged")
    return Outcome(judged, len(batch.revisions), run, time.monotonic() - started, primed)


def _kept(journal: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal.read_bytes().splitlines()]


def _print(outcome: Outcome, account: dict[str, Any], rows: list[dict[str, Any]], *, share: float) -> bool:
    """True where everything holds that has to."""
    requests = account["requests"]
    faults = Counter(one["fault"] for one in requests if one["fault"])
    arrived = sum(one["billed"] and one["delivered"] for one in requests)
    unseen = sum(one["billed"] and not one["delivered"] for one in requests)
    keys = Counter(row["key"] for row in rows if "reply" in row)
    failures = [row for row in rows if "failure" in row]
    possibly = sum(row["possibly_billed"] for row in failures)
    billable = unseen + faults["hang"]
    wrong, kinds = sum(faults.values()), ", ".join(f"{kind} {number}" for kind, number in sorted(faults.items()))
    print(
        f"{len(requests)} calls in {outcome.seconds:.0f} s, {wrong / len(requests):.1%} went wrong (asked: {share:.0%})"
    )
    print(f"  {kinds}")
    checks = {
        f"{outcome.judged} of {outcome.tickets} tickets judged, in {outcome.runs} run(s)": outcome.judged
        == outcome.tickets,
        f"{len(keys)} questions have a reply, none has two": max(keys.values()) == 1,
        f"{arrived} replies reached us, {outcome.primed} of them to warm caches; {sum(keys.values())} are kept": (
            arrived - outcome.primed == sum(keys.values())
        ),
        f"{len(failures)} attempts without a reply are on record, as many as went wrong": (len(failures) == wrong),
        f"{possibly} of them count as possibly billed; the server billed {unseen} that never arrived": (
            possibly >= billable
        ),
    }
    for words, holds in checks.items():
        print(f"  {'holds ' if holds else 'BROKEN'} {words}")
    return all(checks.values())


if __name__ == "__main__":
    main()
