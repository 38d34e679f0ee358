"""`/evals` and `/evals/{id}`: what was found, with its intervals drawn, and the numbers behind it."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from tests.factories import eval_figures, make_eval, shipped_context
from tests.markup import Element, read

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"


def page(pages: TestClient, address: str, status: int = 200) -> Element:
    answer = pages.get(address)
    assert answer.status_code == status, answer.text
    (main,) = read(answer.text).all("main")
    return main


def made(session: Session, **columns: Any) -> int:  # noqa: ANN401  columns of the row
    row = make_eval(session, **columns)
    session.commit()
    return row.id


def section(main: Element, name: str) -> Element:
    return next(one for tag in ("section", "figure") for one in main.all(tag) if one.attributes.get("id") == name)


def bars(chart: Element) -> dict[str, tuple[str, list[str]]]:
    """By label: the value in words, and what is drawn."""
    found = {}
    for line in chart.all("li"):
        label, value = line.all("span")[:2]
        drawn = [
            one.attributes.get("width") or one.attributes["d"] for tag in ("rect", "path") for one in line.all(tag)
        ]
        found[label.words] = (value.words, drawn)
    return found


def test_a_fresh_install_says_how_to_compare_models(viewer_pages: TestClient) -> None:
    words = page(viewer_pages, "/evals").words
    assert "No models were compared yet" in words
    assert "ticketqc eval --models claude-haiku-5-5,claude-sonnet-5-5" in words


def test_the_list_has_what_was_found_and_leads_there(viewer_pages: TestClient, session: Session) -> None:
    first, second = made(session), made(session, figures=eval_figures(tickets=6))
    main = page(viewer_pages, "/evals")
    links = [one.attributes["href"] for one in main.all("a") if one.attributes["href"].startswith("/evals/")]
    assert links == [f"/evals/{second}", f"/evals/{first}"]
    assert "Too little to say who is right: 6 labels, and it takes 10" in main.words
    assert f"{HAIKU}, {SONNET}" in main.words
    assert {"/evals"} <= {one.attributes["href"] for one in page(viewer_pages, "/agents").all("a")}


def test_every_figure_is_drawn_with_its_interval(viewer_pages: TestClient, session: Session) -> None:
    main = page(viewer_pages, f"/evals/{made(session)}")
    assert "Nobody can say which model is right more often, on 12 labels" in main.words
    assert "12 of 12 labelled tickets, each labelled blind; 3 labels that came after the verdict was seen" in main.words
    raw = bars(section(main, "raw"))
    assert raw[HAIKU][0] == "75 % (47 to 91)"
    assert raw[HAIKU][1] == ["75.0", "M0 5H100", "M46.77 5H91.11"]
    assert bars(section(main, "sensitivity"))[HAIKU] == ("0 % (0 to 56)", ["M0 5H100", "M0.0 5H56.15"])
    assert bars(section(main, "escalated"))[SONNET][0] == "8 % (1 to 35)"
    assert bars(section(main, "kappa"))[HAIKU][0].startswith("0.00 (-")
    assert bars(section(main, "calls"))[HAIKU] == ("$0.00060", ["5.0", "M0 5H100"])
    expected = section(main, "expected")
    assert bars(expected)[HAIKU][0] == "$0.13"  # 0.0006 + 3/12 * 0.50
    assert len(bars(expected)[HAIKU][1]) == 3  # its interval too
    assert "a person's look at what is handed over $0.10" in expected.words
    assert bars(section(main, "latency"))[SONNET][0] == "4.8 s"
    criteria = section(main, "criteria-1")
    assert list(bars(criteria)) == ["Root cause"]
    assert "100 % (76 to 100)" in criteria.words


def test_what_is_undecided_says_what_it_takes(viewer_pages: TestClient, session: Session) -> None:
    main = page(viewer_pages, f"/evals/{made(session)}")
    rows = [[cell.words for cell in row.all("td")] for row in section(main, "pairs").all("tr")][1:]
    names = f"{HAIKU} / {SONNET}"
    # the third fail is the ticket that the second model handed over
    assert rows[0][:5] == ["The verdict", names, "11", "0", "2"]
    assert rows[0][5] == "-18 points (-44 to +14)"
    assert rows[0][6] == "undecidable, needs 30 more labels"
    assert rows[1][0] == "Root cause"
    assert rows[1][6] == "undecidable, needs 10 more labels"
    counted = [cell.words for cell in section(main, "counts").all("tr")[2].all("td")]
    assert counted == [SONNET, "12", "2", "0", "0", "9", "1", "0", "0"]


def test_with_few_labels_cost_and_time_are_there_and_nothing_else(viewer_pages: TestClient, session: Session) -> None:
    main = page(viewer_pages, f"/evals/{made(session, figures=eval_figures(tickets=6))}")
    assert bars(section(main, "raw"))[HAIKU] == ("too few", ["M0 5H100"])
    assert bars(section(main, "calls"))[SONNET][0] == "$0.012"
    assert bars(section(main, "expected")) == {}
    assert "undecidable on 5 labels, needs at least 5 more" in section(main, "pairs").words


def test_one_model_alone_is_compared_with_people_only(viewer_pages: TestClient, session: Session) -> None:
    figures = eval_figures()
    alone = {**figures, "models": figures["models"][:1], "pairs": [], "blind": False, "others": 0}
    main = page(viewer_pages, f"/evals/{made(session, figures=alone, models=[HAIKU])}")
    assert f"{HAIKU} says the same as the person on 9 of 12 labels" in main.words
    assert "None of these labels was given blind" in main.words
    assert "Who is right more often" not in main.words


def test_each_chart_is_a_file_too(viewer_pages: TestClient, session: Session) -> None:
    key = made(session)
    main = page(viewer_pages, f"/evals/{key}")
    files = [one.attributes["href"] for one in main.all("a") if "csv=" in one.attributes["href"]]
    assert len(files) == 11
    for address in files:
        answer = viewer_pages.get(address)
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        header, *rows = csv.reader(answer.text.splitlines())
        assert {len(row) for row in rows} == {len(header)}
    found = list(csv.reader(viewer_pages.get(f"/evals/{key}?csv=expected").text.splitlines()))
    assert found[1][:2] == [HAIKU, "0.1256"]


def test_what_is_not_there_is_said_calmly(viewer_pages: TestClient, session: Session) -> None:
    key = made(session)
    for address in (f"/evals/{key + 1}", f"/evals/{2**70}", "/evals/x", f"/evals/{key}?csv=none"):
        assert "Nothing here" in page(viewer_pages, address, 404).words, address
    assert shipped_context().version[:12] in page(viewer_pages, f"/evals/{key}").words
