"""Judging by Message Batches through the service, against the double: cost per ticket on the double's own account.

    .venv/bin/python -m bench.batch [--tickets 62] [--hits 1.0 0.9 0.7 0.5]

`--tickets 0` takes all real tickets. `--hits` are shares of a batch's requests that find the vendor's cache warm; the
vendor calls them best effort. Priming is counted to the first line, second runs (live) stand on their own line, and
the embedded database, the jobs and the import are the product's own. Nothing here is a model: tokens and prices are
the double's account. Ends with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from pydantic import SecretStr
from sqlalchemy import func, select, text

from app import embedded
from app.batch_results import collect
from app.clock import now
from app.db import make_engine, transaction, upgrade
from app.deps import Deps
from app.handlers import HANDLERS
from app.importing import Order, import_file
from app.model_watch import Models
from app.queries.batches import measured, waiting_tickets
from app.releases import ensure_released
from app.settings import Settings
from app.tables import Batch, Run, Verdict
from app.vault import Vault
from bench.double import KEY, REPOSITORY, DoubleProcess, double
from bench.parts import parts, told
from bench.review import COUNT, MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = REPOSITORY.parent / "shared" / "data"
FILES = ("tickets-tidev-inbox", "tickets-tidev-escalated", "tickets-star", "tickets-tau-airline")
BAR = Decimal("0.0003")
ARTICLE = Decimal("0.0119")
MOST_MINUTES = 20  # ticks of the clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=COUNT, help="the first so many; 0 takes all")
    parser.add_argument("--hits", type=float, nargs="+", default=[1.0, 0.9, 0.7, 0.5])
    arguments = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"skipped: the shared tickets are not at {DATA}")
    quiet()
    with double(latency=0.0) as server:
        met = [measure(server, tickets=arguments.tickets or None, hits=hits) for hits in arguments.hits]
    sys.exit(not all(met))


def quiet() -> None:
    """A line for each verdict would drown the figures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def measure(server: DoubleProcess, *, tickets: int | None, hits: float) -> bool:
    """Prints what the first so many tickets cost, or all, in a database of their own; True where the bar is met."""
    server.reset()
    server.batching(hits=hits)
    with service(server) as deps:
        file = deps.settings.data_dir / "tickets.jsonl"
        file.write_bytes(b"".join(islice(_lines(), tickets)))
        started = time.monotonic()
        *_, last = import_file(deps.engine, Order(file, batch=True), now=now)
        _judge(deps)
        return _print(deps, server, tickets=last.new, hits=hits, seconds=time.monotonic() - started)


@contextmanager
def service(server: DoubleProcess) -> Iterator[Deps]:
    """What every job is given, on an empty database of its own, while the block runs."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # the account of an embedded database comes through
        settings = Settings(
            _env_file=None,
            data_dir=Path(folder) / "data",
            anthropic_api_key=SecretStr(KEY),
            anthropic_base_url=server.base_url,
            worker_model=MODEL,
            strong_model="none",
        )
        running = embedded.start(settings)
        try:
            upgrade(running.url)
            deps = _deps(settings, url=running.url)
            yield deps
            deps.engine.dispose()
        finally:
            running.stop()


def _lines() -> Iterator[bytes]:
    return chain.from_iterable((DATA / f"{name}.jsonl").open("rb") for name in FILES)


def _deps(settings: Settings, *, url: str) -> Deps:
    engine = make_engine(url)
    ensure_released(engine, settings)
    deps = Deps(engine, Vault.load(settings), settings, Models(engine, settings))
    deps.models.refresh()
    return deps


def _judge(deps: Deps) -> None:
    """Ticks of the clock, each with everything that follows from it, until every ticket has its verdict."""
    for _ in range(MOST_MINUTES):
        collect(deps)
        work(deps)
        with transaction(deps.engine) as session:
            if not waiting_tickets(session):
                return
    sys.exit(f"gave up after {MOST_MINUTES} ticks")


def work(deps: Deps) -> None:
    """Every job that waits is done, in order and in this thread, and what follows from them, until there is none."""
    statement = "delete from procrastinate.procrastinate_jobs returning id, task_name, args"
    while True:
        with transaction(deps.engine) as session:
            jobs = sorted(session.execute(text(statement)).all())
        for job in jobs:
            HANDLERS[job.task_name].run(deps, **job.args)
        if not jobs:
            return


def _print(deps: Deps, server: DoubleProcess, *, tickets: int, hits: float, seconds: float) -> bool:
    bill = parts(server.account()["requests"])
    total = bill.whole
    with transaction(deps.engine) as session:
        batches = session.scalar(select(func.count()).select_from(Batch)) or 0
        verdicts = session.scalar(select(func.count()).select_from(Verdict)) or 0
        booked = session.scalar(select(func.sum(Run.cost_usd))) or Decimal(0)
        is_second = Run.purpose.like("second%")
        second = session.scalar(select(func.sum(Run.cost_usd)).where(is_second)) or Decimal(0)
        seconds_ = session.scalar(select(func.count()).where(is_second)) or 0
        live = session.scalar(select(func.count()).where(Run.batch_id.is_(None), ~is_second)) or 0
        primed = session.scalar(select(func.sum(Run.cost_usd)).where(Run.purpose == "prime")) or Decimal(0)
        seen = measured(session, model=MODEL, since=now() - timedelta(days=1), today=now().date())
    each = (total - second) / tickets
    print(f"by batch: {tickets} tickets, {verdicts} verdicts, {batches} batches, cache warm for {hits:.0%} of their "
          f"requests ({seconds:.0f} s)")  # fmt: skip
    print(f"  triage + first QC   ${each:.6f} a ticket, priming ${primed / tickets:.6f} of it "
          f"(bar ${BAR}: {'met' if each <= BAR else 'MISSED'}; 1/{ARTICLE / each:.0f} of ${ARTICLE})")  # fmt: skip
    print(f"  of these calls, {live} were live after all")
    print(f"  second runs, live   ${second / tickets:.6f} a ticket ({seconds_} calls)")
    print(f"  {told(bill)}")
    print(f"  our ledger differs from the double's account by ${abs(booked - total):.12f}")
    if seen is not None:
        so = "are dearer and stop" if seen.dearer else "pay"
        print(f"  measured: {seen.read_share:.0%} of the prefix was read from the cache; the batches cost "
              f"${seen.cost:.4f}, live calls ${seen.live_cost:.4f}, so batches {so}")  # fmt: skip
    return each <= BAR


if __name__ == "__main__":
    main()
