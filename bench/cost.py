"""What a ticket costs by the double's own account: triage and the first QC run; second runs on their own line.

    .venv/bin/python -m bench.cost [--latency 0.1] [--concurrency 16] [--hits 1.0 0.95]

`ticketqc review` on the first 62 real tickets, then on all 832; then both by batch through the service, for shares of a
batch's requests that find the primed cache warm (bench.batch has more of them). Tokens are the double's count,
ceil(UTF-8 bytes / 3.1) for everything, the schema included; its answers are as long as a model's would be. Nothing here
is a model. Beside it what sending less of the context could save at the most, and how much less would save a tenth, so
that one sees whether choosing it by ticket is worth it; by batch a question that misses the cache pays for it again.
Ends with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.batch import measure, quiet
from bench.double import double
from bench.parts import Parts, parts, told
from bench.review import COUNT, MODEL, TICKETS, review

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.double import DoubleProcess

ALL = ("inbox", "escalated", "star", "tau-airline")
TARGET = Decimal("0.0006")  # US$ for triage and the first QC run
ARTICLE = Decimal("0.0119")  # US$ a ticket: 62 for 0.74, as the article says that this product follows


class Spent(NamedTuple):
    tickets: int
    skipped: int
    first: Decimal
    second: Decimal
    rest: Decimal  # runs without hostile text, and the strong model's
    second_runs: int
    prefix: Decimal
    answers: Decimal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds a call")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--hits", type=float, nargs="*", default=[1.0, 0.95], help="by batch; none leaves it out")
    arguments = parser.parse_args()
    folder = TICKETS.parent
    files = [folder / f"tickets-{'tidev-' if name in ALL[:2] else ''}{name}.jsonl" for name in ALL]
    if missing := [file for file in files if not file.exists()]:
        sys.exit(f"skipped: the shared tickets are not at {missing[0]}")
    with double(latency=arguments.latency) as server, tempfile.TemporaryDirectory() as place:
        some = Path(place) / "some.jsonl"
        with TICKETS.open("rb") as source:
            some.write_bytes(b"".join(islice(source, COUNT)))
        met = [_print(f"the first {COUNT}", [_spent(some, server, Path(place) / "a", arguments.concurrency)])]
        spent = [_spent(file, server, Path(place) / file.stem, arguments.concurrency) for file in files]
        met.append(_print("all four files", spent))
        server.latency(0.0)
        quiet()
        for hits in arguments.hits:
            met += [measure(server, tickets=tickets, hits=hits) for tickets in (COUNT, None)]
    sys.exit(not all(met))


def _spent(file: Path, server: DoubleProcess, data_dir: Path, concurrency: int) -> Spent:
    server.reset()
    report = review(file, server, data_dir=data_dir, concurrency=concurrency)
    bill = parts(server.account()["requests"])
    second = Decimal(str(report["cost_second_runs_usd"]))
    rest = Decimal(str(report["cost_masked_runs_usd"])) + Decimal(str(report["cost_strong_usd"]))
    return Spent(
        tickets=report["tickets"],
        skipped=report["skipped_rows"],
        first=bill.whole - second - rest,
        second=second,
        rest=rest,
        second_runs=report["second_runs"],
        prefix=bill.prefix,
        answers=bill.answers,
    )


def _print(title: str, spent: Sequence[Spent]) -> bool:
    """True where the bar is met."""
    tickets = sum(one.tickets for one in spent)
    total: Any = {name: sum((getattr(one, name) for one in spent), Decimal(0)) for name in Spent._fields}
    each, second = total["first"] / tickets, total["second"] / tickets
    whole = total["first"] + total["second"] + total["rest"]
    times, times_whole = ARTICLE / each, ARTICLE * tickets / whole
    print(f"{title}: {tickets} tickets judged by {MODEL}, {total['skipped']:f} rows skipped")
    print(f"  triage + first QC  ${each:.6f} a ticket, ${total['first']:.4f} in all")
    print(f"                     bar ${TARGET}: {'met' if each <= TARGET else 'MISSED'}")
    print(f"  second runs        ${second:.6f} a ticket, for {total['second_runs']:f} tickets")
    print(f"  without hostile text ${total['rest'] / tickets:.6f} a ticket")
    print(f"  the article paid   ${ARTICLE}, {times:.1f} times as much ({times_whole:.1f} with all of that)")
    print(f"  {told(Parts(total['prefix'], total['answers'], whole))}")
    return bool(each <= TARGET)


if __name__ == "__main__":
    main()
