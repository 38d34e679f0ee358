"""The figures of an evaluation in words, for the terminal and for the page."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agents.agreement import FEWEST
from agents.evaluation import VERDICT
from app.web.words import dollars

if TYPE_CHECKING:
    from collections.abc import Mapping

MEASURES: Mapping[str, str] = {
    "raw": "Same as the person",
    "sensitivity": "Fails that it found",
    "specificity": "Passes that it let pass",
    "kappa": "Kappa",
    "ac1": "AC1",
}
SHARES = frozenset({"raw", "sensitivity", "specificity"})  # said in per cent; the others are no shares of anything
FIRST_RUNS = "Each model judged each ticket once: triage and one run of quality control, without what may follow it."


def headline(figures: Mapping[str, Any]) -> str:
    """What was found, in one sentence."""
    if figures["labels"] < FEWEST:
        return f"Too little to say who is right: {labels(figures['labels'])}, and it takes {FEWEST}"
    about = [pair for pair in figures["pairs"] if pair["subject"] == VERDICT]
    if not about:
        (only,) = figures["models"]
        return f"{only['model']} says the same as the person on {_agreed(only)} of {labels(only['verdict']['n'])}"
    decided = [pair for pair in about if pair["better"]]
    if not decided:
        return f"Nobody can say which model is right more often, on {labels(figures['labels'])}"
    return "; ".join(f"{pair['better']} is right more often than {_other(pair)}" for pair in decided)


def verdict_on(pair: Mapping[str, Any]) -> str:
    """Which of two is better, or what it would take to say."""
    if pair["n"] < FEWEST:
        least = pair.get("at_least", FEWEST - pair["n"])  # not in what was compared before there was such a figure
        return f"undecidable on {labels(pair['n'])}, needs at least {least} more"
    if pair["better"]:
        return f"{pair['better']} is right more often"
    if pair["more"] is None:
        return "undecidable: no difference was seen"
    return f"undecidable, needs {pair['more']:,} more {'label' if pair['more'] == 1 else 'labels'}"


def labels(number: int) -> str:
    return f"{number:,} label" if number == 1 else f"{number:,} labels"


def basis(figures: Mapping[str, Any]) -> str:
    """Which labels these figures rest on."""
    taken = f"{figures['tickets']:,} of {figures['available']:,} labelled tickets"
    if not figures["blind"]:
        return (
            f"{taken}. None of these labels was given blind: whoever saw the verdict first tends to agree with it, "
            "so the model that is at work looks better here than it is"
        )
    if not figures["others"]:
        return f"{taken}, each labelled blind"
    return (
        f"{taken}, each labelled blind; {labels(figures['others'])} that came after the verdict was seen do not count"
    )


def measure(name: str, found: Mapping[str, float | None] | None, *, wide: bool = True) -> str:
    """A figure with its interval: 92 % (85 to 96), 0.29 (-0.05 to 0.66), or that there is none.

    Where it may not be wide, the interval is below.
    """
    if found is None:
        return "too few"
    value, low, high = found["value"], found["low"], found["high"]
    if value is None or low is None or high is None:
        return "not defined"
    if name in SHARES:
        shown, ends = f"{value * 100:.0f} %", f"{low * 100:.0f} to {high * 100:.0f}"
    else:
        shown, ends = f"{value:.2f}", f"{low:.2f} to {high:.2f}"
    return f"{shown} ({ends})" if wide else f"{shown}\n{ends}"


def points(found: Mapping[str, float | None]) -> str:
    """A difference of shares in percentage points."""
    value, low, high = found["value"], found["low"], found["high"]
    if value is None or low is None or high is None:
        return ""
    return f"{value * 100:+.0f} points ({low * 100:+.0f} to {high * 100:+.0f})"


def money(amount: float | None) -> Decimal | None:
    """US$ as the document has it, as `words.dollars` wants it."""
    return None if amount is None else Decimal(str(amount))


def expected(figures: Mapping[str, Any]) -> str:
    """What the expected cost rests on, or why there is none."""
    wrong, look = figures["cost_of_wrong_usd"], figures["cost_of_look_usd"]
    if wrong is None:
        return "Say what a wrong verdict costs (--cost-of-wrong) to see what a ticket costs with what follows from it"
    looked = f"a person's look at what is handed over {_usd(look)}"
    also = looked if look else f"{looked}, because --cost-of-look was not given"
    return f"The calls, with {_usd(wrong)} for a verdict that is wrong, and {also}"


def _usd(amount: float) -> str:
    return dollars(money(amount))


def _agreed(model: Mapping[str, Any]) -> int:
    table = model["verdict"]["table"]
    return int(table["hits"] + table["clear"])


def _other(pair: Mapping[str, Any]) -> str:
    return str(pair["second"] if pair["better"] == pair["first"] else pair["first"])
