"""An evaluation as a table for people, and as JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from agents.evaluation import MEASURES, VERDICT
from app import eval_text
from app.web.words import dollars, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

    from app.evaluating import Estimate
    from app.tables import Eval


def as_json(row: Eval) -> dict[str, Any]:
    return {
        "id": row.id,
        "recorded_at": row.recorded_at.isoformat(),
        "context_version": row.context_version,
        **row.figures,
    }


def print_estimates(estimates: Sequence[Estimate], console: Console, *, basis: str) -> None:
    """What will be asked and what it will cost, before anything is."""
    console.print(f"{basis}.", highlight=False)
    table = Table("model", "questions", "on record", "about", "at most", box=SIMPLE_HEAD)
    for one in estimates:
        costs = ("nothing", "nothing") if one.demonstration else (dollars(one.about), dollars(one.most))
        table.add_row(escape(one.model), f"{one.questions:,}", f"{one.on_record:,}", *costs)
    console.print(table)


def print_figures(figures: Mapping[str, Any], titles: Mapping[str, str], console: Console) -> None:
    """Everything that the page shows, but for the charts."""
    console.print(f"\n[bold]{escape(eval_text.headline(figures))}[/bold]", highlight=False)
    console.print(f"{eval_text.basis(figures)}. {eval_text.FIRST_RUNS}", highlight=False)
    console.print(_models(figures))
    console.print(f"{eval_text.expected(figures)}.", highlight=False)
    for model in figures["models"] if figures["criteria"] else ():
        console.print(_criteria(figures, model, titles))
    for table in _pairs(figures, titles):
        console.print(table)


def _models(figures: Mapping[str, Any]) -> Table:
    """A column for each model."""
    models = figures["models"]
    heads = (escape(model["model"]) for model in models)
    table = Table("the verdict", *heads, title="Models beside people", title_justify="left", box=SIMPLE_HEAD)
    for name, *cells in _lines(models):
        table.add_row(name, *cells)
    return table


def _lines(models: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    yield "labels it decided too", *(f"{model['verdict']['n']:,}" for model in models)
    for name in MEASURES:
        found = [(model["verdict"]["measures"] or {}).get(name) for model in models]
        yield (
            eval_text.MEASURES[name].lower() if name != "ac1" else "AC1",
            *(eval_text.measure(name, one) for one in found),
        )
    yield "handed to a person", *(eval_text.measure("raw", model["escalated"]) for model in models)
    yield "the person could not tell", *(f"{model['verdict']['unsure']:,}" for model in models)
    if any(model["rejected"] for model in models):
        yield "questions rejected", *(f"{model['rejected']:,}" for model in models)
    yield "cost of a ticket's calls", *(dollars(eval_text.money(model["cost_usd"])) for model in models)
    yield "time of a ticket, p50", *(_time(model["p50_ms"]) for model in models)
    yield "time of a ticket, p95", *(_time(model["p95_ms"]) for model in models)
    if any(model["expected_usd"] for model in models):
        yield "expected cost of a ticket", *(_expected(model["expected_usd"]) for model in models)


def _time(milliseconds: int | None) -> str:
    return "" if milliseconds is None else seconds(milliseconds)


def _expected(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "too few"
    value, low, high = (dollars(eval_text.money(found[name])) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _criteria(figures: Mapping[str, Any], model: Mapping[str, Any], titles: Mapping[str, str]) -> Table:
    """A line for each criterion; positive is a criterion that is not met. It fits a terminal of 80 columns."""
    title = f"{escape(model['model'])}, by criterion"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("criterion", min_width=14)
    for head in ("same", "found", "let pass", "kappa", "AC1"):
        table.add_column(head, no_wrap=True)
    for criterion in figures["criteria"]:
        found = model["criteria"][criterion]
        known = found["measures"]
        cells = [eval_text.measure(name, known[name], wide=False) for name in MEASURES] if known else ["too few"]
        table.add_row(escape(f"{titles.get(criterion, criterion)}\n{eval_text.labels(found['n'])}"), *cells)
    return table


def _pairs(figures: Mapping[str, Any], titles: Mapping[str, str]) -> Iterator[Table]:
    """One for each two models."""
    both = dict.fromkeys((pair["first"], pair["second"]) for pair in figures["pairs"])
    for first, second in both:
        title = f"{escape(first)} against {escape(second)}"
        table = Table("about", "difference", "so", title=title, title_justify="left", box=SIMPLE_HEAD)
        for pair in figures["pairs"]:
            if (pair["first"], pair["second"]) == (first, second):
                about = "the verdict" if pair["subject"] == VERDICT else titles.get(pair["subject"], pair["subject"])
                said = eval_text.verdict_on(pair)
                table.add_row(escape(about), eval_text.points(pair["difference"]), escape(said))
        yield table
