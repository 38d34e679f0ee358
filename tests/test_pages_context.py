"""`/context`: what is in force as people read it, what was before, any two versions side by side, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from app import releases
from app.audit import Actor
from app.db import transaction
from app.tables import AuditEvent, Release
from app.web import diff
from tests.cast import shipped_context
from tests.markup import read

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from app.tables import User
    from tests.markup import Element


def variant(word: str) -> dict[str, str]:
    """The shipped files with one word changed."""
    files = dict(shipped_context().files)
    return {**files, "qc.md": files["qc.md"].replace("confident tone", f"{word} tone")}


@pytest.fixture
def versions(engine: Engine) -> list[str]:
    """Three that went live one after the other."""
    found = []
    for files, note in ((variant("bold"), "first"), (variant("warm"), "second"), (variant("cold"), "<b>third</b>")):
        with transaction(engine) as session:
            found.append(releases.release(session, files, note=note, actor=Actor("lee@example.com")).version)
    return found


def page(pages: TestClient, address: str = "/context") -> Element:
    answer = pages.get(address)
    assert answer.status_code == 200, answer.text
    return read(answer.text)


def in_force(session: Session) -> str | None:
    session.expire_all()
    return releases.newest_version(session)


def test_before_the_first_release_the_page_says_what_to_do(pages: TestClient) -> None:
    assert "No context is in force yet" in page(pages).one("main").words


def test_the_page_shows_every_item_by_its_id_and_what_went_live_when(pages: TestClient, versions: list[str]) -> None:
    shown = page(pages)
    context = shipped_context()
    for name in [*(one.id for one in context.rubric.criteria), *(one.id for one in context.rules)]:
        assert shown.one("section", id=name).one("code").words == name
    assert len(shown.all("h1")) == 1
    rows = [row.words for row in shown.all("section")[0].one("tbody").all("tr")]
    assert [row.split()[0] for row in rows] == [version[:12] for version in reversed(versions)]
    assert "released by lee@example.com <b>third</b> what changed" in rows[0]
    assert "nothing to mend" in shown.one("main").words
    assert "triage 2" in shown.one("main").words


def test_words_that_changed_are_marked_between_any_two_versions(pages: TestClient, versions: list[str]) -> None:
    shown = page(pages, f"/context/{versions[0][:8]}/diff/{versions[2]}")
    assert [one.words for one in shown.all("del")] == ["bold"]
    assert [one.words for one in shown.all("ins")] == ["cold"]
    assert [one.words for one in shown.all("h2")][:1] == ["qc.md"]
    same = page(pages, f"/context/{versions[0]}/diff/{versions[0]}")
    assert "the same, byte for byte" in same.one("main").words
    chosen = pages.get("/context/diff", params={"a": versions[0][:6], "b": versions[1]})
    assert (chosen.status_code, chosen.headers["location"]) == (303, f"/context/{versions[0]}/diff/{versions[1]}")
    for address in ("/context/abc", "/context/000000000000", f"/context/{versions[0]}/diff/zzzzzz", "/context/%00"):
        assert pages.get(address).status_code == 404
    assert pages.get("/context/diff", params={"a": "", "b": versions[1]}).status_code == 400


def test_a_lead_rolls_back_with_a_reason(pages: TestClient, versions: list[str], session: Session, lead: User) -> None:
    sent = {"to": versions[0], "expected": versions[2], "note": "  the third\u202e judged too harshly \n"}
    answer = pages.post("/context/rollback", data=sent)
    assert (answer.status_code, answer.headers["location"]) == (303, "/context?done=rollback")
    assert in_force(session) == versions[0]
    newest = session.scalars(select(Release).order_by(Release.id.desc())).first()
    assert newest is not None
    assert (newest.kind, newest.note, newest.actor) == ("rollback", "the third judged too harshly", lead.email)
    event = session.scalars(select(AuditEvent).where(AuditEvent.action == "context.rolled_back")).one()
    assert (event.user_id, event.before) == (lead.id, {"version": versions[2]})
    assert "is in force again" in page(pages, answer.headers["location"]).one(cls="flash").words
    twice = pages.post("/context/rollback", data=sent)
    assert twice.status_code == 409
    assert len(list(session.scalars(select(Release)))) == 4


def test_a_rollback_that_cannot_be_is_refused_and_changes_nothing(
    pages: TestClient, viewer_pages: TestClient, stranger_pages: TestClient, versions: list[str], session: Session
) -> None:
    good = {"to": versions[0], "expected": versions[2], "note": "why"}
    for changed, status in (
        ({"note": ""}, 422),
        ({"note": " \u200b\n"}, 422),
        ({"note": "x" * 2_001}, 422),
        ({"note": "a\0b"}, 400),
        ({"to": ""}, 400),
        ({"to": "0" * 64}, 404),
        ({"to": versions[2]}, 409),
        ({"expected": ""}, 400),
        ({"expected": versions[1]}, 409),
    ):
        assert pages.post("/context/rollback", data={**good, **changed}).status_code == status, changed
    again = read(pages.post("/context/rollback", data={**good, "note": "x" * 2_001}).text)
    assert "At most 2,000 characters" in again.one(id="note-said").words
    assert again.one("textarea").text.strip() == "x" * 2_001
    assert viewer_pages.post("/context/rollback", data=good).status_code == 403
    assert stranger_pages.post("/context/rollback", data=good).status_code in {303, 401}
    assert not page(viewer_pages).all("form", action="/context/rollback")
    assert in_force(session) == versions[2]


def kinds(old: str, new: str) -> list[tuple[str, str]]:
    return [(line.kind, "".join(part.text for part in line.parts)) for line in diff.lines(old, new)]


def test_a_diff_keeps_every_line_of_a_change_and_folds_the_rest() -> None:
    old = "\n".join(f"line {number}" for number in range(20))
    assert kinds(old, old) == []
    assert kinds(old, old.replace("line 10", "row 10")) == [
        ("gap", ""), ("same", "line 8"), ("same", "line 9"), ("old", "line 10"), ("new", "row 10"),
        ("same", "line 11"), ("same", "line 12"), ("gap", ""),
    ]  # fmt: skip
    assert kinds("", "a\nb\n") == [("new", "a"), ("new", "b")]
    assert kinds("a\nb\n", "") == [("old", "a"), ("old", "b")]
    assert kinds("a\r\n", "a\n") == [("old", "a\N{SYMBOL FOR CARRIAGE RETURN}"), ("new", "a")]
    assert [kind for kind, _ in kinds("x " * 5_000, "y " * 5_000)] == ["old", "new"]
    (before, after) = diff.lines("one two\nthree", "one 2\nthree")[:2]
    assert [part.text for part in (*before.parts, *after.parts) if part.changed] == ["two", "2"]
