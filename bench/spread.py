"""What a ticket costs where tickets come one by one over a working day, by the double's own account.

    .venv/bin/python -m bench.spread [--rates 15 62 250 500]

The first 62 real tickets, triage and first QC run, in the product's own order of calls, at the gaps of a day of eight
hours with so many tickets (exponential, seeded). The clock is simulated: both the double's cache and ours see the gaps,
nobody waits. Beside what the program does, the same with the cache kept for five minutes always. Tokens are the
double's count; nothing here is a model. Ends with 1 where the program misses the bar at one of these rates.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING
from unittest import mock

from agents.context import parse, read_folder
from agents.gateway import Endpoint, Gateway
from agents.judge import Panel, judge
from agents.masking import revise
from agents.ticket import read_ticket, supplied_fields
from app import asking
from app.asking import Asking, Pace
from app.limiter import Limiter
from bench.double import REPOSITORY
from bench.review import COUNT, MODEL, TICKETS
from tests.double import Double, running

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agents.gateway import CallFailed, Ttl
    from agents.question import Question, Reply
    from agents.ticket import Revision

BAR = Decimal("0.0006")  # US$ a ticket, from FEWEST tickets a day on
FEWEST = 62
DAY = 8 * 3600  # seconds
CHOICES: Mapping[str, Mapping[Ttl, float]] = {
    "the program": asking.LIVES,
    "always 5 minutes": {"5m": 300.0, "1h": 0.0},
}


class Clock:
    """Ours and the vendor's."""

    def __init__(self, double: Double) -> None:
        self.seconds = 0.0
        self._double = double

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        self._double.advance(seconds)


class Nothing:
    """A store that finds nothing: every ticket is another."""

    def find(self, _question: Question) -> Reply | None:
        return None

    def keep(self, _question: Question, reply: Reply) -> Reply:
        return reply

    def failed(self, _question: Question, failure: CallFailed) -> None:
        raise failure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[15, 62, 250, 500], help="tickets in eight hours")
    arguments = parser.parse_args()
    if not TICKETS.exists():
        sys.exit(f"skipped: the shared tickets are not at {TICKETS}")
    with TICKETS.open("rb") as source:
        revisions = [revise(read_ticket(json.loads(line))) for line in islice(source, COUNT)]
    print(f"US$ a ticket, triage + first QC, {COUNT} tickets judged by {MODEL}; simulated clock, the double's count")
    print(f"{'tickets in 8 h':>16}" + "".join(f"{name:>20}" for name in CHOICES))
    missed = False
    for rate in arguments.rates:
        costs = [_each(revisions, rate, lives=lives) for lives in CHOICES.values()]
        mark = "" if rate < FEWEST else f"   bar ${BAR}: {'met' if costs[0] <= BAR else 'MISSED'}"
        missed |= mark.endswith("MISSED")
        print(f"{rate:>16}" + "".join(f"{cost:>20.6f}" for cost in costs) + mark)
    sys.exit(missed)


def _each(revisions: Sequence[Revision], rate: int, *, lives: Mapping[Ttl, float]) -> Decimal:
    context, supplied = parse(read_folder(REPOSITORY / "context")), supplied_fields([one.ticket for one in revisions])
    gaps = random.Random(rate)  # noqa: S311  a seeded day
    with running() as double, mock.patch.object(asking, "LIVES", lives):
        gateway, clock = Gateway(Endpoint(double.key, double.base_url)), Clock(double)
        speaker = Asking(gateway, pace=Pace(Limiter(maximum=1)), clock=clock)

        def ask(question: Question) -> Reply:
            return speaker.ask(question, Nothing()).reply

        panel = Panel(MODEL, ask, lambda key: key[:16], allow_second=lambda: False, purpose="eval")
        for revision in revisions:
            clock.advance(gaps.expovariate(rate / DAY))
            judge(revision, context, supplied=supplied, panel=panel)
        gateway.close()
        return double.account.cost / len(revisions)


if __name__ == "__main__":
    main()
