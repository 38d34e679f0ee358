"""The report's opening: what is not in the data is not said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agents.answer import Failed
from agents.opening import checked, plain, question, write
from tests.cast import MODEL, reply

if TYPE_CHECKING:
    from agents.question import Question, Reply

FIGURES = {"tickets judged": "1,234", "fail rate": "31.5 % (week before: 22 %)", "cost": "$0.50", "week": "2026-W47"}


@pytest.mark.parametrize(
    "sentence",
    [
        "We judged 1234 tickets.",
        "We judged 1 234 tickets.",
        "The fail rate rose from 22 % to 31.5 %.",
        "It cost $0.5 in 2026-W47.",
        "It cost 0.50 USD, and 31.5 percent failed.",
        "Nothing else changed.",
    ],
)
def test_sentences_that_keep_to_the_figures_stay(sentence: str) -> None:
    assert checked(sentence, FIGURES) == sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "We judged 1,235 tickets.",
        "The fail rate rose by 9.5 points.",
        "The fail rate is 31 %.",
        "It cost $50.",
        "Judged were 31.5 tickets, 1,234 % more than before.",
        "It cost $22.",
        "It cost 31.5 dollars.",
        "1,234 percent of it was saved.",
        "Three tickets need a person.",
        "A third of the tickets failed.",
        "\uff13\uff11 % of tickets failed.",  # full-width digits
        "See https://example.com for more.",
        "Look at <b>this</b>.",
    ],
)
def test_a_sentence_with_another_number_or_a_link_is_dropped(sentence: str) -> None:
    assert checked(f"All is well. {sentence} It cost $0.50.", FIGURES) == "All is well. It cost $0.50."


def said(*sentences: str) -> Reply:
    return reply(json.dumps({"sentences": sentences}))


def test_what_the_model_writes_is_checked_sentence_by_sentence() -> None:
    asked: list[Question] = []

    def ask(one: Question) -> Reply:
        asked.append(one)
        return said("We judged 1,234 tickets. We saved 40 hours.", "Cost was $0.50.")

    assert write(FIGURES, ask=ask, model=MODEL) == "We judged 1,234 tickets. Cost was $0.50."
    assert (asked[0].agent, asked[0].purpose) == ("chief_of_staff", "opening")


def test_an_opening_of_which_nothing_is_left_or_none_at_all_is_a_failure() -> None:
    assert isinstance(write(FIGURES, ask=lambda _: said("We saved 40 hours."), model=MODEL), Failed)
    assert isinstance(write(FIGURES, ask=lambda _: said(), model=MODEL), Failed)
    refused = reply("", outcome="refused", stop_reason="refusal")
    assert isinstance(write(FIGURES, ask=lambda _: refused, model=MODEL), Failed)


def test_the_same_figures_are_the_same_question() -> None:
    assert question(FIGURES, model=MODEL).key == question(dict(FIGURES), model=MODEL).key
    assert question(FIGURES, model=MODEL).key != question({**FIGURES, "cost": "$0.51"}, model=MODEL).key


def test_without_a_model_the_figures_speak() -> None:
    assert plain({"tickets judged": "12", "cost": "$0.50"}) == "Tickets judged: 12. Cost: $0.50."
