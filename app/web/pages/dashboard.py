"""`/dashboard`: the figures of the last seven days beside the seven before, and eight weeks of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from app import headlines, releases
from app.errors import NotFound
from app.periods import WEEK, last_days
from app.queries import figures
from app.queries.figures.trend import weeks
from app.report_text import EVENTS, KINDS, LINES
from app.web import charts, names
from app.web.charts import Chart
from app.web.guard import guard
from app.web.view import Viewed  # noqa: TC001  FastAPI reads it from the signature
from app.web.words import dollars

if TYPE_CHECKING:
    from app.queries.figures import Figures
    from app.queries.figures.trend import WeekRow
    from app.shares import Share
    from app.web.names import Names
    from app.web.view import View

router = APIRouter(dependencies=[Depends(guard)])

MOST_CRITERIA = 12  # drawn; the table has them all
LOWEST_TOP = 0.1  # of a share's axis: a line near 0 must not look like a mountain
TONES = {"pass": "pass", "fail": "fail", "escalate": "to a person"}


@router.get("/dashboard")
def dashboard(view: Viewed, tickets: Literal["live", "all"] = "live", csv: str = "") -> Response:
    """`csv` names a chart whose table is asked for as a file."""
    zone = ZoneInfo(view.settings.timezone)
    history = tickets == "all"
    week = last_days(view.now)
    found = figures.read(view.session, week, compared=week.back(WEEK), now=view.now, zone=zone, history=history)
    trend = weeks(view.session, view.now, history=history)
    called = names.of(releases.newest(view.session))
    drawn = {chart.key: chart for chart in _charts(found, trend, called, zone)}
    if csv:
        return _file(view, drawn.get(csv))
    return view.page(
        "dashboard.html",
        found=found,
        charts=drawn,
        names=called,
        say=headlines,
        tickets=tickets,
        empty=not any(row.outcomes.total for row in trend) and not found.volume.came,
        events=EVENTS,
        kinds=KINDS,
        lines=LINES,
        zone=view.settings.timezone,
    )


def _file(view: View, chart: Chart | None) -> Response:
    if chart is None:
        raise NotFound("there is no chart of this name; the dashboard has a link to the table of each")
    named = f"ticketqc-{chart.key}-{view.now:%Y-%m-%d}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{named}"'}
    return Response(chart.csv, media_type="text/csv; charset=utf-8", headers=headers)


def _charts(found: Figures, trend: tuple[WeekRow, ...], called: Names, zone: ZoneInfo) -> tuple[Chart, ...]:
    return (
        _verdicts(found, trend, zone),
        _fail_rate(found, trend, zone),
        _criteria(found, called),
        _cost(found, trend, zone),
        _failures(found, called),
    )


def _verdicts(found: Figures, trend: tuple[WeekRow, ...], zone: ZoneInfo) -> Chart:
    counts = [(row.outcomes.passed, row.outcomes.failed, row.outcomes.escalated) for row in trend]
    ends = _ends(trend, zone)
    return Chart(
        key="verdicts",
        title=headlines.verdicts(found.outcomes),
        says="A column for each of eight weeks, made of tickets that passed, failed, and went to a person.",
        header=("seven days up to", *TONES.values(), "judged"),
        rows=tuple((end, *each, sum(each)) for end, each in zip(ends, counts, strict=True)),
        first=ends[0],
        last="today",
        top=f"{max(map(sum, counts)):,}",
        columns=charts.columns([dict(zip(TONES, each, strict=True)) for each in counts]),
        legend=TONES,
    )


def _fail_rate(found: Figures, trend: tuple[WeekRow, ...], zone: ZoneInfo) -> Chart:
    shares = [row.outcomes.fail for row in trend]
    highest = max((share.interval.high for share in shares if share.enough), default=1.0)
    top = max(highest, LOWEST_TOP)
    ends = _ends(trend, zone)
    return Chart(
        key="fail-rate",
        title=headlines.fail_rate(found.outcomes, found.outcomes_before),
        says="The share of tickets that fail in each of eight weeks, with its 95 % interval around it.",
        header=("seven days up to", "fail", *_SHARE),
        rows=tuple((end, *_share(share)) for end, share in zip(ends, shares, strict=True)),
        first=ends[0],
        last="today",
        top=f"{top * 100:.0f} %",
        line=charts.line(shares, top=top),
    )


def _criteria(found: Figures, called: Names) -> Chart:
    rows = found.criteria
    return Chart(
        key="criteria",
        title=headlines.criteria(rows, called),
        says="A bar for each criterion: in what share of the tickets it is not met, with the 95 % interval.",
        header=("criterion", "not met", *_SHARE, "seven days before: not met", "of"),
        rows=tuple((called.subject(row.criterion), *_share(row.share), row.before.hits, row.before.n) for row in rows),
        bars=tuple(
            charts.share_bar(called.subject(row.criterion), row.share, row.before) for row in rows[:MOST_CRITERIA]
        ),
    )


def _cost(found: Figures, trend: tuple[WeekRow, ...], zone: ZoneInfo) -> Chart:
    ends = _ends(trend, zone)
    costs = [row.cost_usd for row in trend]
    return Chart(
        key="cost",
        title=headlines.cost(found.cost),
        says="A column for each of eight weeks: what was paid for model calls.",
        header=("seven days up to", "USD"),
        rows=tuple((end, amount) for end, amount in zip(ends, costs, strict=True)),
        first=ends[0],
        last="today",
        top=dollars(max(costs)),
        columns=charts.columns([{"paid": amount} for amount in costs]),
    )


def _failures(found: Figures, called: Names) -> Chart:
    rows = found.health.failures
    counts = {f"{called.agent(row.agent)} {called.words(row)}": row.count for row in rows}
    return Chart(
        key="failures",
        title=headlines.agents(rows, called),
        says="A bar for each kind of failure: how often it was seen in seven days.",
        header=("failure", "times"),
        rows=tuple(counts.items()),
        bars=charts.count_bars(counts),
    )


_SHARE = ("of", "share", "95 % from", "to")


def _share(share: Share) -> tuple[int | float | str, ...]:
    if not share.n:
        return share.hits, share.n, "", "", ""
    low, high = share.interval
    return share.hits, share.n, round(share.value, 4), round(low, 4), round(high, 4)


def _ends(trend: tuple[WeekRow, ...], zone: ZoneInfo) -> list[str]:
    return [f"{row.period.end.astimezone(zone):%Y-%m-%d}" for row in trend]
