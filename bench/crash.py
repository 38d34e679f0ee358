"""kill -9 of the worker in the middle of 62 reviews: every ticket has its verdict, and no recorded reply is paid again.

    .venv/bin/python -m bench.crash [--latency 0.3] [--kills 1]

Starts the whole product in a temporary folder against the double, imports the first 62 real tickets, kills the worker
when about a third of the verdicts are there, and lets the product start it again. Ends with 1 where a verdict stays
away or a recorded reply is paid again. Linux only: it looks into /proc.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING

from bench.double import double
from bench.house import house
from bench.review import COUNT, TICKETS

if TYPE_CHECKING:
    from bench.double import DoubleProcess
    from bench.house import House


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.3, help="seconds a call")
    parser.add_argument("--kills", type=int, default=1)
    arguments = parser.parse_args()
    if not TICKETS.exists():
        sys.exit(f"skipped: the shared tickets are not at {TICKETS}")
    with double(latency=arguments.latency) as server, house(server) as product:
        with TICKETS.open("rb") as source:
            product.fill(b"".join(islice(source, COUNT)))
        _kill_and_wait(product, kills=arguments.kills)
        again = _print(product, server)
    sys.exit(again > 0)


def _kill_and_wait(product: House, *, kills: int) -> None:
    started = killed = time.monotonic()
    for kill in range(1, kills + 1):
        product.wait_for(COUNT * kill // (kills + 2))
        before = product.count("verdicts")
        os.kill(product.worker(), signal.SIGKILL)
        killed = time.monotonic()
        print(f"killed the worker with {before} verdicts after {killed - started:.1f} s")
        product.wait_for(product.count("verdicts") + 1)
        print(f"  the next verdict came {time.monotonic() - killed:.1f} s later")
    product.wait_for(COUNT)
    print(f"{COUNT} verdicts {time.monotonic() - killed:.1f} s after the last kill")


def _print(product: House, server: DoubleProcess) -> int:
    """How many replies were paid for again although they were on record."""
    calls = server.account()["totals"]
    kept = product.count("runs", "replied")
    again = product.count("runs", "outcome = 'duplicate'")
    lost = calls["replies"] - kept - again
    print(f"replies: {calls['replies']} given by the server, {kept} on record; {lost} died with the worker unrecorded")
    print(f"asked again although on record: {again}; bar 0: {'MISSED' if again else 'met'}")
    return again


if __name__ == "__main__":
    main()
