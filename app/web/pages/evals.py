"""`/evals` and `/evals/{id}`: models compared with people, and which of them is good enough."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, Response

from agents.evaluation import MEASURES
from app import eval_text, releases
from app.errors import NotFound
from app.queries import evals as queries
from app.web import charts, names
from app.web.charts import Bar, Chart
from app.web.guard import guard
from app.web.view import BEYOND, Viewed
from app.web.words import dollars, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.queries.evals import EvalRow
    from app.web.charts import Cell
    from app.web.names import Names

router = APIRouter(dependencies=[Depends(guard)])

SAYS: Mapping[str, str] = {
    "raw": "Of the labels where both said pass or fail, how many were the same.",
    "sensitivity": "Of the tickets that a person fails, how many the model fails too.",
    "specificity": "Of the tickets that a person passes, how many the model passes too.",
    "kappa": "Agreement beyond chance, where each keeps to its own share of fails: low where fails are rare.",
    "ac1": "Agreement beyond chance as Gwet has it, which rare fails do not sink.",
}
_INTERVAL = ("value", "95 % from", "to")


@router.get("/evals")
def listed(view: Viewed) -> HTMLResponse:
    return view.page("evals.html", rows=queries.listed(view.session), say=eval_text)


@router.get("/evals/{eval_id}")
def evaluation(view: Viewed, eval_id: int, csv: str = "") -> Response:
    """`csv` names a chart whose table is asked for as a file."""
    if eval_id >= BEYOND:
        raise NotFound("there is no such evaluation; the list has those that there are")
    row = queries.evaluation(view.session, eval_id)
    called = names.of(releases.load(view.session, row.context_version))
    drawn = {chart.key: chart for chart in _charts(row, called)}
    if csv:
        return _file(row, drawn.get(csv))
    return view.page(
        "eval.html",
        row=row,
        figures=row.figures,
        charts=drawn,
        criteria=[key for key in drawn if key.startswith("criteria-")],
        measures=MEASURES,
        names=called,
        say=eval_text,
    )


def _file(row: EvalRow, chart: Chart | None) -> Response:
    if chart is None:
        raise NotFound("there is no chart of this name; the page has a link to the table of each")
    headers = {"Content-Disposition": f'attachment; filename="ticketqc-eval-{row.id}-{chart.key}.csv"'}
    return Response(chart.csv, media_type="text/csv; charset=utf-8", headers=headers)


def _charts(row: EvalRow, called: Names) -> Iterator[Chart]:
    models = row.figures["models"]
    yield from (_measure(name, models) for name in MEASURES)
    yield _escalated(models)
    yield _calls(models)
    yield _expected(models)
    yield _latency(models)
    order = row.figures["criteria"]
    yield from (_criteria(place, model, called, order=order) for place, model in enumerate(models) if order)


def _measure(name: str, models: list[dict[str, Any]]) -> Chart:
    found = [(model["model"], model["verdict"], (model["verdict"]["measures"] or {}).get(name)) for model in models]
    return Chart(
        key=name,
        title=eval_text.MEASURES[name],
        says=SAYS[name],
        header=("model", "labels", *_INTERVAL),
        rows=tuple((model, beside["n"], *_cells(one, share=name in eval_text.SHARES)) for model, beside, one in found),
        bars=tuple(_bar(model, name, one) for model, _, one in found),
    )


def _escalated(models: list[dict[str, Any]]) -> Chart:
    return Chart(
        key="escalated",
        title="Handed to a person",
        says="Of all tickets that the model judged, how many it gave no verdict on: coverage, not error.",
        header=("model", "tickets", "handed over", *_INTERVAL),
        rows=tuple(
            (model["model"], model["judged"], model["escalated"]["count"], *_cells(model["escalated"], share=True))
            for model in models
        ),
        bars=tuple(_bar(model["model"], "raw", model["escalated"]) for model in models),
    )


def _calls(models: list[dict[str, Any]]) -> Chart:
    most = max((model["cost_usd"] or 0.0 for model in models), default=0.0) or 1.0
    return Chart(
        key="calls",
        title="Cost of a ticket's calls",
        says="What the calls about one ticket cost, on average.",
        header=("model", "USD"),
        rows=tuple((model["model"], _usd(model["cost_usd"])) for model in models),
        bars=tuple(_priced(model["model"], model["cost_usd"], most) for model in models),
    )


def _expected(models: list[dict[str, Any]]) -> Chart:
    """Without bars where nobody said what a wrong verdict costs."""
    known = [(model["model"], model["expected_usd"]) for model in models if model["expected_usd"]]
    most = max((found["high"] for _, found in known), default=0.0) or 1.0
    return Chart(
        key="expected",
        title="Expected cost of a ticket",
        says="What a ticket costs with what follows: looks at what is handed over, and verdicts that are wrong.",
        header=("model", "USD", "from", "to"),
        rows=tuple((name, *(_usd(found[end]) for end in ("value", "low", "high"))) for name, found in known),
        bars=tuple(
            _priced(name, found["value"], most)._replace(
                low=charts.part(found["low"], most), high=charts.part(found["high"], most)
            )
            for name, found in known
        ),
    )


def _priced(model: str, amount: float | None, most: float) -> Bar:
    return Bar(model, charts.part(amount or 0.0, most), dollars(eval_text.money(amount)))


def _usd(amount: float | None) -> Cell:
    return "" if amount is None else Decimal(str(amount))


def _latency(models: list[dict[str, Any]]) -> Chart:
    """p95 as the bar, because a technician who waits remembers the slow ones."""
    most = max((model["p95_ms"] or 0 for model in models), default=0) or 1
    return Chart(
        key="latency",
        title="Time for 19 of 20 tickets",
        says="Within what time the model's calls about a ticket end, but for the slowest of twenty.",
        header=("model", "p50 in ms", "p95 in ms"),
        rows=tuple((model["model"], model["p50_ms"] or 0, model["p95_ms"] or 0) for model in models),
        bars=tuple(
            Bar(model["model"], charts.part(model["p95_ms"] or 0, most), seconds(model["p95_ms"] or 0))
            for model in models
        ),
    )


def _criteria(place: int, model: Mapping[str, Any], called: Names, *, order: list[str]) -> Chart:
    """AC1 is drawn, because criteria are seldom not met; the table has all five."""
    found = [(called.subject(name), model["criteria"][name]) for name in order]
    return Chart(
        key=f"criteria-{place}",
        title=f"{model['model']}, by criterion: AC1",
        says="A bar for each criterion: agreement beyond chance with its 95 % interval.",
        header=("criterion", "labels", *(eval_text.MEASURES[name] for name in MEASURES)),
        rows=tuple(
            (name, beside["n"], *(eval_text.measure(one, (beside["measures"] or {}).get(one)) for one in MEASURES))
            for name, beside in found
        ),
        bars=tuple(_bar(name, "ac1", (beside["measures"] or {}).get("ac1")) for name, beside in found),
    )


def _bar(label: str, name: str, found: Mapping[str, float | None] | None) -> Bar:
    """Without its length where there is nothing to draw; what is below 0 begins at the left edge."""
    words = eval_text.measure(name, found)
    if found is None or found["value"] is None:
        return Bar(label, 0.0, words)
    low, high = (charts.part(found[end] or 0.0, 1.0) for end in ("low", "high"))
    return Bar(label, charts.part(found["value"], 1.0), words, low, high)


def _cells(found: Mapping[str, float | None] | None, *, share: bool) -> tuple[Cell, ...]:
    """A figure and its interval for a table: shares in per cent, the others as they are."""
    values = [(found or {}).get(name) for name in ("value", "low", "high")]
    return tuple("" if one is None else one if share else f"{one:.2f}" for one in values)
