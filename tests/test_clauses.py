"""From written text to spoken clauses."""

from __future__ import annotations

import pytest

from csmkit.chat.clauses import ClauseSplitter, speakable, split_long, spoken_part
from csmkit.errors import InputError


def split(text: str, **limits: int) -> list[tuple[str, int]]:
    """Each clause with the number of words that were written when it was complete."""
    splitter = ClauseSplitter(**limits)
    words = text.split(" ")
    clauses = []
    for number, word in enumerate(words, start=1):
        delta = word if number == len(words) else f"{word} "
        clauses += [(clause, number) for clause in splitter.push(delta)]
    return clauses + [(clause, len(words)) for clause in splitter.flush()]


def test_the_first_clause_comes_long_before_the_text_ends() -> None:
    text = "Well of course, I can tell you about that. It is a long story. Are you ready?"
    clauses = split(text)
    assert clauses[0] == ("Well of course,", 3)
    assert " ".join(clause for clause, _ in clauses) == text


def test_a_first_sentence_without_a_comma_is_not_waited_for() -> None:
    text = "I think that we could go to the market and buy some apples and pears and plums today."
    clauses = split(text, first_words=6)
    assert len(clauses[0][0].split()) <= 7
    assert clauses[0][1] <= 8
    assert " ".join(clause for clause, _ in clauses) == text


@pytest.mark.parametrize("text", ["See Dr. Smith today.", "It costs $29.99 in the shop.", "Come at 3 p.m. on Friday."])
def test_stops_inside_a_sentence_do_not_cut_it(text: str) -> None:
    assert [clause for clause, _ in split(text)] == [text]


@pytest.mark.parametrize("text", ["Yes.", "ok", "No. Yes. Fine."])
def test_short_answers_survive(text: str) -> None:
    assert " ".join(clause for clause, _ in split(text)) == text


def test_text_without_sound_gives_no_clause() -> None:
    assert split("👍 😀") == []
    assert split("...") == []


def test_long_sentences_are_cut_to_what_one_generation_can_say() -> None:
    sentence = "one two three, four five six seven eight nine ten"
    assert split_long(sentence, 5) == ["one two three,", "four five six seven eight", "nine ten"]
    assert split_long(sentence, 20) == [sentence]


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("**Hello**, _you_ there!", "Hello, you there!"),
        ("# Title\n- one\n* two", "Title one two"),
        ("Look [here](https://example.org/a_b) or at https://example.org/x?y=1 now.", "Look here or at now."),
        ("Fine 😀👍🏽 thanks", "Fine thanks"),
        ("`code` and snake_case", "code and snake_case"),
        ("It's 5 + 3 = 8, café", "It's 5 + 3 = 8, café"),
        ("👩‍👩‍👧 …", ""),
    ],
)
def test_only_what_can_be_said_is_left(written: str, spoken: str) -> None:
    assert speakable(written) == spoken


def test_of_a_broken_off_clause_the_whole_words_count() -> None:
    assert spoken_part("hello my friend", 0.0) == ""
    assert spoken_part("hello my friend", 0.6) == "hello my"
    assert spoken_part("hello my friend", 1.0) == "hello my friend"


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(InputError, match="most_words=0"):
        ClauseSplitter(most_words=0)
