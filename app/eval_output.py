"""An evaluation as a table for people, and as JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    table = Table("model", "questions", "on record", "about", "at most")
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
    if any(model["criteria"] for model in figures["models"]):
        console.print(_criteria(figures, titles))
    if figures["pairs"]:
        console.print(_pairs(figures, titles))


def _models(figures: Mapping[str, Any]) -> Table:
    """A column for each model."""
    models = figures["models"]
    table = Table("verdict", *(escape(model["model"]) for model in models), title="Models beside people")
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


def _criteria(figures: Mapping[str, Any], titles: Mapping[str, str]) -> Table:
    """A line for each criterion and model; positive is a criterion that is not met."""
    heads = ("same", "found", "let pass", "kappa", "AC1")
    table = Table("criterion", "model", "labels", *heads, title="By criterion")
    for criterion in figures["models"][0]["criteria"]:
        for place, model in enumerate(figures["models"]):
            found = model["criteria"][criterion]
            cells = (eval_text.measure(name, (found["measures"] or {}).get(name)) for name in MEASURES)
            title = "" if place else titles.get(criterion, criterion)
            table.add_row(escape(title), escape(model["model"]), f"{found['n']:,}", *cells)
    return table


def _pairs(figures: Mapping[str, Any], titles: Mapping[str, str]) -> Table:
    table = Table("about", "models", "difference", "so", title="Who is right more often")
    for pair in figures["pairs"]:
        about = "the verdict" if pair["subject"] == VERDICT else titles.get(pair["subject"], pair["subject"])
        names = f"{pair['first']} / {pair['second']}"
        said = eval_text.verdict_on(pair)
        table.add_row(escape(about), escape(names), eval_text.points(pair["difference"]), escape(said))
    return table
