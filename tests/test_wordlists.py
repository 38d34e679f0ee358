"""The form of the word lists: what an entry finds, and where."""

from __future__ import annotations

import re
import tomllib

import pytest

from agents import instructions, mechanical
from agents.wordlists import FOLDER, Hit, WordList, _File


def hits(text: str, **entry: object) -> list[Hit]:
    """What one entry about a court finds."""
    content = {"classes": {"who": "judge|court"}, "entry": [{"about": "law", "words": ["judge", "court"], **entry}]}
    return list(WordList(_File.model_validate(content)).hits(text))


def test_near_stands_before_or_after_the_wording_or_in_it_and_not_too_far() -> None:
    entry = {"wording": r"\b(?:{who})\b", "near": r"\b(?:see you|decides|court)\b", "within": 12}
    assert hits("see you in court", **entry) == [Hit("law", 0, 16)]
    assert hits("the judge decides", **entry) == [Hit("law", 4, 17)]
    assert hits("court", **entry) == [Hit("law", 0, 5)]
    assert hits("the judge hardly ever decides", **entry) == []
    assert hits("a judge and another one, the judge decides", **entry) == [Hit("law", 29, 42)]


def test_unless_counts_anywhere_in_the_text() -> None:
    entry = {"wording": r"\bcourt\b", "unless": "tennis"}
    assert hits("the court is booked", **entry) != []
    assert hits("the court is booked for some tennis", **entry) == []


def test_a_space_is_any_white_space_and_with_a_question_mark_perhaps_none() -> None:
    entry = {"wording": "court ?room at"}
    assert [bool(hits(text, **entry)) for text in ("courtroom at", "court room  at")] == [False, True]
    assert hits("the court: courtroom at", **entry) != []


def test_nothing_is_tried_on_a_text_without_one_of_the_words() -> None:
    assert hits("no such word", wording="word") == []


@pytest.mark.parametrize("name", [instructions.LIST, mechanical.LIST])
def test_our_lists_are_written_folded_as_the_texts_are_that_they_are_looked_for_in(name: str) -> None:
    content = tomllib.loads((FOLDER / name).read_text("utf-8"))
    texts = [*content.get("classes", {}).values()]
    for entry in content["entry"]:
        texts += [*entry.get("words", ()), entry["wording"], entry.get("near", ""), entry.get("unless", "")]
    assert [text for text in texts if (plain := re.sub(r"\\[A-Z]", "", text)) != plain.casefold()] == []
