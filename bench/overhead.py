"""What we add to the waiting: processor time a ticket, throughput with 1,000 tickets, memory with 5,000.

    .venv/bin/python -m bench.overhead [cpu] [profile] [throughput] [memory] [service]      (all, if none is named)

The double is a process of its own and is not counted. Tickets are real ones, repeated with a serial number in their
text, so that no reply is found again. Processor time of the command is that of two files, the larger less the smaller,
so that the start is not in it. Through the service tickets come as signed webhooks; web process, worker and database
are counted from the first tickets on, and not the clock and the supervisor, who do nothing for a ticket. Run it on a
quiet machine: the load is printed. Ends with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from datetime import date
from itertools import count, cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import SecretStr

from agents.ticket import supplied_fields
from app.clock import now
from app.db import transaction
from app.intake import connections
from app.intake.example import Sender, sign
from app.intake.receiving import receive
from app.intake.signatures import Incoming, Options
from app.journal import Journal
from app.limiter import Limiter
from app.models import choose, open_model
from app.review_file import Reviewer, read_context, read_tickets
from app.settings import Settings
from bench.batch import quiet, work
from bench.batch import service as in_one_thread
from bench.double import KEY, REPOSITORY, double
from bench.house import CONNECTION, Cpu, house
from bench.review import MODEL, TICKETS

if TYPE_CHECKING:
    from app.deps import Deps
    from bench.double import DoubleProcess

CPU_BAR, SERVICE_BAR, THROUGHPUT_BAR, MEMORY_BAR = 15.0, 40.0, 1.2, 1.1
LATENCY = 0.3  # seconds a call, where time is measured
TOP = 15  # lines of the profile
WARM, SENT = 50, 400  # tickets through the service before it is measured, and then


class Used(NamedTuple):
    """By one run of the command."""

    seconds: float
    cpu: float
    memory: float  # MB at the most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    chosen = parser.parse_args().parts or PARTS
    if not TICKETS.exists():
        sys.exit(f"skipped: the shared tickets are not at {TICKETS}")
    met: list[bool] = []
    with tempfile.TemporaryDirectory() as folder, double(latency=LATENCY) as server:
        for number, part in enumerate(chosen):
            print(f"{part} (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors)")
            server.reset()
            (place := Path(folder) / str(number)).mkdir()
            met.append(PARTS[part](server, place))
    sys.exit(not all(met))


def cpu(server: DoubleProcess, folder: Path) -> bool:
    """Of `review FILE`. Each part says whether its bar is met."""
    server.latency(0.05)
    few, many = (_review(server, folder, number, concurrency=16) for number in (50, 450))
    each = (many.cpu - few.cpu) / 400 * 1000
    print(f"  review FILE: {each:.1f} ms of processor a ticket; bar {CPU_BAR:g}: {_mark(each, CPU_BAR)}")
    return each <= CPU_BAR


def profile(server: DoubleProcess, folder: Path) -> bool:
    """Of 100 tickets, one after the other in one thread; waiting is in it, as recv, fsync and the like. No bar."""
    server.latency(0.0)
    settings = Settings(
        _env_file=None,
        data_dir=folder,
        worker_model=MODEL,
        anthropic_api_key=SecretStr(KEY),
        anthropic_base_url=server.base_url,
    )
    (folder / "tickets.jsonl").write_bytes(repeated(100))
    batch, context = read_tickets(folder / "tickets.jsonl"), read_context(settings.context_dir)
    ready = open_model(settings, choose(settings), limiter=Limiter(maximum=1), local=None)
    with Journal(folder / "replies.jsonl") as journal:
        reviewer = Reviewer(context, ready, journal, lambda key: key[:16], date(2026, 11, 26))
        supplied = supplied_fields(revision.ticket for revision in batch.revisions)
        seconds = reviewer._second_budget(batch.revisions)  # noqa: SLF001  what the threads of `review` do, in this one
        profiler = cProfile.Profile()
        for revision in batch.revisions:
            profiler.runcall(reviewer._review, revision, supplied=supplied, seconds=seconds)  # noqa: SLF001
    ready.asking.close()
    _print_profile(profiler)
    return True


def _print_profile(profiler: cProfile.Profile) -> None:
    pstats.Stats(profiler, stream=sys.stdout).strip_dirs().sort_stats("tottime").print_stats(TOP)


def throughput(server: DoubleProcess, folder: Path) -> bool:
    """1,000 tickets at 32 at once."""
    server.latency(LATENCY)
    used = _review(server, folder, 1_000, concurrency=32)
    account = server.account()
    replies, seconds = account["totals"]["replies"], account["timing"]["seconds"]
    ideal = replies * LATENCY / 32
    ratio = seconds / ideal
    print(f"  1,000 tickets, {replies} calls, {account['timing']['max_in_flight']} at once: {seconds:.1f} s, "
          f"ideal {ideal:.1f} s; {used.cpu / 1_000 * 1000:.1f} ms of processor a ticket, start included")  # fmt: skip
    print(f"  ratio {ratio:.2f}; bar {THROUGHPUT_BAR}: {_mark(ratio, THROUGHPUT_BAR)}")
    return bool(ratio <= THROUGHPUT_BAR)


def memory(server: DoubleProcess, folder: Path) -> bool:
    """Of `review FILE --json` at the most, for 500 and for 5,000 tickets."""
    server.latency(0.0)
    few, many = (_review(server, folder, number, concurrency=16) for number in (500, 5_000))
    ratio = many.memory / few.memory
    print(f"  500 tickets {few.memory:.0f} MB, 5,000 tickets {many.memory:.0f} MB")
    print(f"  ratio {ratio:.2f}; bar {MEMORY_BAR}: {_mark(ratio, MEMORY_BAR)}")
    return ratio <= MEMORY_BAR


def service(server: DoubleProcess, folder: Path) -> bool:  # noqa: ARG001  the product has a folder of its own
    """From a signed webhook to the verdict. Where the bar is missed, the profile of it too."""
    server.latency(0.05)
    with house(server) as product:
        sender = product.connect()
        product.send(repeated(WARM), sender=sender)
        product.wait_for(WARM)
        before = product.cpu()
        product.send(repeated(SENT, first=WARM), sender=sender)
        product.wait_for(WARM + SENT)
        each = Cpu(*((after - began) / SENT * 1000 for began, after in zip(before, product.cpu(), strict=True)))
    print(f"  milliseconds of processor a ticket: web process, which verifies and stores the delivery, {each.web:.1f}; "
          f"worker, which reads and judges it, {each.worker:.1f}; database {each.database:.1f}")  # fmt: skip
    print(f"  together {sum(each):.1f} ms; bar {SERVICE_BAR:g}: {_mark(sum(each), SERVICE_BAR)}")
    if sum(each) > SERVICE_BAR:
        _profile_service(server)
    return sum(each) <= SERVICE_BAR


def _profile_service(server: DoubleProcess) -> None:
    """Of 100 deliveries after the first ones."""
    quiet()
    server.latency(0.0)
    profiler = cProfile.Profile()
    with in_one_thread(server) as deps:
        with transaction(deps.engine) as session:
            kept = connections.add(session, deps.vault, connections.Wanted(CONNECTION, "standard"))
        sender = Sender("", "standard", Options(), kept.made_secret or "", mapped=False)
        _deliver(deps, sender, repeated(WARM))
        profiler.runcall(_deliver, deps, sender, repeated(100, first=WARM))
    _print_profile(profiler)


def _deliver(deps: Deps, sender: Sender, tickets: bytes) -> None:
    """Stored without the web server around, and judged, all in this thread; what is waited for is in it too."""
    for body in tickets.splitlines():
        signed = sign(sender, body=body, now=now())
        incoming = Incoming({name.lower(): value.encode() for name, value in signed.headers.items()}, body)
        receive(deps.engine, deps.vault, name=CONNECTION, incoming=incoming, now=now())
    work(deps)


PARTS = {"cpu": cpu, "profile": profile, "throughput": throughput, "memory": memory, "service": service}


def repeated(tickets: int, *, first: int = 0) -> bytes:
    """So many tickets, one a line, each with a number that no other has."""
    rows = [json.loads(line) for line in TICKETS.read_bytes().splitlines()]
    made = (
        {**row, "external_id": f"{row['external_id']}-{number}", "subject": f"{row['subject']} ({number})"}
        for row, number in zip(cycle(rows), count(first), strict=False)
    )
    return b"".join(json.dumps(row).encode() + b"\n" for row in islice(made, tickets))


def _review(server: DoubleProcess, folder: Path, tickets: int, *, concurrency: int) -> Used:
    """The command on so many tickets, in a data directory of its own."""
    place = folder / str(tickets)
    place.mkdir()
    (place / "tickets.jsonl").write_bytes(repeated(tickets))
    environment = {
        "PATH": os.environ["PATH"],  # noqa: TID251  a clean environment for the command
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": server.base_url,
        "TICKETQC_DATA_DIR": str(place / "data"),
        "TICKETQC_WORKER_MODEL": MODEL,
    }
    command = [sys.executable, "-m", "app.cli", "review", str(place / "tickets.jsonl"), "--json"]
    command += ["--concurrency", str(concurrency)]
    measured = [sys.executable, "-m", "bench.measured", str(place / "used.json"), *command]
    started = time.monotonic()
    with (place / "out.json").open("wb") as out:
        subprocess.run(measured, cwd=REPOSITORY, env=environment, stdout=out, stderr=subprocess.DEVNULL, check=True)  # noqa: S603
    return Used(time.monotonic() - started, *json.loads((place / "used.json").read_bytes()))


def _mark(value: float, bar: float) -> str:
    return "met" if value <= bar else "MISSED"


if __name__ == "__main__":
    main()
