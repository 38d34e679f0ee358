"""Every failure code and direction has its words for people."""

from __future__ import annotations

from typing import get_args

from agents.observation import Code, Direction, describe


def test_every_code_has_words_of_its_own() -> None:
    codes: tuple[Code, ...] = get_args(Code)
    words = [describe(code) for code in codes]
    assert len(set(words)) == len(codes)
    assert all(text and text == text.strip() and "_" not in text for text in words)


def test_the_direction_says_what_a_person_found_wrong() -> None:
    directions: tuple[Direction, ...] = get_args(Direction)
    assert [describe("overruled", direction) for direction in directions] == [
        "was overruled by a person",
        "was overruled by a person: too strict",
        "was overruled by a person: too lenient",
    ]
