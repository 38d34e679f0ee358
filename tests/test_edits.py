"""Itemised edits of the context files: exactly one item changes, exactly back again, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.context import READ_BY, RUBRIC, Context, numbered, read_documents
from agents.context_lint import usable
from agents.edits import Edit, EditError, Undo, apply_edits, documents, from_documents, inverse, undo
from tests.cast import shipped_context

if TYPE_CHECKING:
    from collections.abc import Mapping

FILES = shipped_context().files
ITEMS = [(item.file, item.id) for document in read_documents(FILES).values() for item in document.items]
SMALL = {
    "qc.md": "\ufeff<!-- to editors -->\r\n# Work\r\n\r\n## One {#one}\r\n<!-- under one -->\r\nFirst.\r\n\r\n"
    "<!-- about two -->\r\n## Two {#two}\r\n\r\nSecond.\r\nMore.  \r\n<!-- last words -->\r\n\r\n",
    "known_patterns.md": "## Three {#three}\nThird.",
}


def test_add_appends_the_item_and_touches_nothing_else() -> None:
    added = apply_edits(
        FILES, [Edit("add", "known_patterns.md", "printed", "Printed  it", "A page: [[follow_up]] met.\n")]
    )
    assert added["known_patterns.md"] == (
        FILES["known_patterns.md"] + "\n## Printed  it {#printed}\nA page: [[follow_up]] met.\n"
    )
    assert {name: added[name] for name in FILES if name != "known_patterns.md"} == {
        name: FILES[name] for name in FILES if name != "known_patterns.md"
    }
    assert usable(added).version != shipped_context().version


def test_the_added_item_is_parted_from_what_stands_before_it_as_the_file_does() -> None:
    more = [Edit("add", name, f"new_{number}", "New", "Said.") for number, name in enumerate(SMALL)]
    added = apply_edits(SMALL, more)
    assert added["qc.md"] == SMALL["qc.md"] + "## New {#new_0}\r\n\r\nSaid.\r\n"
    assert added["known_patterns.md"] == "## Three {#three}\nThird.\n\n## New {#new_1}\nSaid.\n"
    assert apply_edits({"qc.md": ""}, [Edit("add", "qc.md", "a", "A", "B")])["qc.md"] == "## A {#a}\nB\n"


def test_update_replaces_title_and_body_and_keeps_the_notes_around_them() -> None:
    changed = apply_edits(SMALL, [Edit("update", "qc.md", "one", "Uno", "New.\nTwo lines.")])
    assert changed["qc.md"] == SMALL["qc.md"].replace(
        "## One {#one}\r\n<!-- under one -->\r\nFirst.", "## Uno {#one}\r\n<!-- under one -->\r\nNew.\r\nTwo lines."
    )
    kept = apply_edits(SMALL, [Edit("update", "qc.md", "two", "", "\nNew.\n\n")])
    assert kept["qc.md"] == SMALL["qc.md"].replace("Second.\r\nMore.  ", "New.")


def test_retire_takes_the_item_and_leaves_the_notes_after_it() -> None:
    retired = apply_edits(SMALL, [Edit("retire", "qc.md", "one")])
    assert retired["qc.md"] == SMALL["qc.md"].replace("## One {#one}\r\n<!-- under one -->\r\nFirst.\r\n\r\n", "")
    assert apply_edits(SMALL, [Edit("retire", "known_patterns.md", "three")])["known_patterns.md"] == ""


def test_both_forms_of_a_heading_can_be_edited() -> None:
    files = {"qc.md": "One {#one}\n---\n\nFirst.\n"}
    assert apply_edits(files, [Edit("update", "qc.md", "one", "Uno", "New.")])["qc.md"] == "## Uno {#one}\n\nNew.\n"
    assert apply_edits(files, [Edit("update", "qc.md", "one", "", "New.")])["qc.md"] == "One {#one}\n---\n\nNew.\n"


def test_several_edits_apply_in_order_whatever_their_files() -> None:
    edits = [
        Edit("retire", "known_patterns.md", "second_problem"),
        Edit("add", "known_patterns.md", "first_new", "First", "One."),
        Edit("update", "qc.md", "qc_method", "", "Take each criterion alone."),
        Edit("add", "known_patterns.md", "second_new", "Second", "Two."),
    ]
    changed = apply_edits(FILES, edits)
    assert changed["known_patterns.md"].endswith("\n## First {#first_new}\nOne.\n\n## Second {#second_new}\nTwo.\n")
    assert undo(changed, inverse(FILES, edits)) == FILES


REFUSED: dict[str, tuple[Edit, str]] = {
    "unknown file": (Edit("add", "../secrets.md", "a", "A", "B"), "no such file"),
    "unknown item": (Edit("update", "qc.md", "nothing_here", "", "B"), "no item nothing_here in qc.md"),
    "item of another file": (Edit("retire", "qc.md", "vendor"), "but in known_patterns.md"),
    "id exists": (Edit("add", "qc.md", "vendor", "A", "B"), "already stands in known_patterns.md"),
    "id not in form": (Edit("add", "qc.md", "A b", "A", "B"), "small letters"),
    "id with a line": (Edit("add", "qc.md", "a\n", "A", "B"), "small letters"),
    "no id": (Edit("add", "qc.md", "", "A", "B"), "small letters"),
    "add without title": (Edit("add", "qc.md", "a", " ", "B"), "needs a title"),
    "add without text": (Edit("add", "qc.md", "a", "A", " \n"), "needs a text"),
    "update without text": (Edit("update", "qc.md", "qc_method", "A", ""), "needs a text"),
    "retire with text": (Edit("retire", "qc.md", "qc_method", "", "B"), "empty"),
    "title of two lines": (Edit("add", "qc.md", "a", "A\nB", "C"), "one line"),
    "title of two lines, unseen": (Edit("add", "qc.md", "a", "A\u2028B", "C"), "one line"),
    "title with an id": (Edit("add", "qc.md", "a", "A {#b}", "C"), "without an id"),
    "heading in text": (Edit("update", "qc.md", "qc_method", "", "B\n## C {#c}\nD"), "heading"),
    "first heading in text": (Edit("update", "qc.md", "qc_method", "", "# C"), "heading"),
    "heading after a bare return": (Edit("update", "qc.md", "qc_method", "", "B\r## C {#c}\rD"), "heading"),
    "underlined heading": (Edit("update", "qc.md", "qc_method", "", "B\n\nC {#c}\n---\nD"), "one item"),
    "comment": (Edit("update", "qc.md", "qc_method", "", "B <!-- C"), "comment mark"),
    "end of a comment": (Edit("update", "qc.md", "qc_method", "", "B --> C"), "comment mark"),
    "comment in a title": (Edit("add", "qc.md", "a", "A <!--", "B"), "comment mark"),
    "open block": (Edit("update", "qc.md", "qc_method", "", "B\n```\nC"), "one item"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_edit_is_refused_in_one_line(case: str) -> None:
    edit, words = REFUSED[case]
    good = Edit("retire", "known_patterns.md", "vendor")
    with pytest.raises(EditError, match=words) as caught:
        apply_edits(FILES, [*([] if edit.item == "vendor" else [good]), edit])
    assert len(str(caught.value).splitlines()) == 1


def test_an_item_is_edited_once() -> None:
    with pytest.raises(EditError, match="vendor is edited twice"):
        apply_edits(FILES, [Edit("retire", "known_patterns.md", "vendor"), Edit("add", "qc.md", "vendor", "A", "B")])


@pytest.mark.parametrize(
    "text",
    [
        "## One {#one}\nFirst. <!-- a note\nthat runs on -->\n## Two {#two}\nSecond.\n",
        "## Nought {#nought}\nZero.\n<!-- a note\nthat ends here -->## One {#one}\nFirst.\n",
        "## One {#one}\n<!-- a note\nthat ends here --> First.\n",
    ],
)
def test_a_note_is_never_cut_in_two(text: str) -> None:
    with pytest.raises(EditError):
        apply_edits({"qc.md": text}, [Edit("update", "qc.md", "one", "", "New.")])


def test_a_file_that_is_not_in_the_form_is_not_edited() -> None:
    with pytest.raises(EditError, match="has to be mended"):
        apply_edits({"qc.md": "## One {#one}\nA.\n\n## No id\nB.\n"}, [Edit("update", "qc.md", "one", "", "New.")])


def test_what_has_changed_since_is_not_taken_back() -> None:
    edits = [Edit("update", "qc.md", "one", "", "New.")]
    changed = apply_edits(SMALL, edits)
    with pytest.raises(EditError, match="has changed since"):
        undo(changed | {"qc.md": "\n" + changed["qc.md"]}, inverse(SMALL, edits))
    with pytest.raises(EditError, match="has changed since"):
        undo({}, [Undo("qc.md", 0, "a", "b")])


LINES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)
TEXTS = st.lists(LINES, min_size=1, max_size=5).map("\n".join)


@st.composite
def some_edits(draw: st.DrawFn) -> list[Edit]:
    chosen = draw(st.lists(st.sampled_from(ITEMS), unique=True, max_size=4))
    edits = []
    for file, item in chosen:
        if draw(st.booleans()):
            edits.append(Edit("retire", file, item))
        else:
            edits.append(Edit("update", file, item, draw(LINES), draw(TEXTS)))
    for number in range(draw(st.integers(0, 2))):
        file, _ = draw(st.sampled_from(ITEMS))
        edits.append(Edit("add", file, f"new_{number}", draw(LINES), draw(TEXTS)))
    return draw(st.permutations(edits))


@settings(max_examples=60, deadline=None)
@given(edits=some_edits())
def test_the_inverse_gives_back_every_byte(edits: list[Edit]) -> None:
    stored = from_documents(json.loads(json.dumps(documents(edits))))
    assert list(stored) == edits
    for files in (FILES, {name: text.replace("\n", "\r\n") for name, text in FILES.items()}):
        _apply_and_take_back(files, edits)


def _apply_and_take_back(files: Mapping[str, str], edits: list[Edit]) -> None:
    try:
        changed = apply_edits(files, edits)
    except EditError:
        return
    assert undo(changed, inverse(files, edits)) == files
    touched = {edit.item for edit in edits}
    before, after = _items(files), _items(changed)
    assert {key: body for key, body in before.items() if key not in touched} == {
        key: body for key, body in after.items() if key not in touched
    }
    assert {edit.item for edit in edits if edit.operation != "retire"} == touched & after.keys()


def _items(files: Mapping[str, str]) -> dict[str, tuple[str, str, str]]:
    found = (item for document in read_documents(files).values() for item in document.items)
    return {item.id: (item.file, item.title, item.body) for item in found}


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        {"edits": []},
        {"version": 2, "edits": []},
        {"version": 1, "edits": [{}]},
        {"version": 1, "edits": [{"operation": "merge", "file": "a", "item": "b", "title": "", "text": ""}]},
        {"version": 1, "edits": [{"operation": "add", "file": "a", "item": 1, "title": "", "text": ""}]},
        {"version": 1, "edits": [], "more": 1},
    ],
)
def test_stored_edits_of_another_form_are_refused(raw: Any) -> None:  # noqa: ANN401  any JSON value
    with pytest.raises(EditError, match="no stored edits"):
        from_documents(raw)


def test_an_agents_texts_are_shown_item_by_item_without_notes_and_without_what_only_the_program_reads() -> None:
    context: Context = shipped_context()
    for agent, names in READ_BY.items():
        shown = numbered(context, agent)
        assert "<!--" not in shown
        for name in names:
            for item in read_documents(context.files)[name].items:
                read = name != RUBRIC or context.rubric[item.id].kind == "judged"
                assert (f"[{name}] {{#{item.id}}} {item.title}\n" in shown) == read
    assert "- weight: 20\n- kind: judged\n- critical: yes" in numbered(context, "qc")
