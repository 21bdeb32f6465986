"""From written text to spoken clauses."""

from __future__ import annotations

import random
import re

import pytest

from csmkit.errors import InputError
from csmkit.text.clauses import ClauseSplitter, split_long, spoken_part
from csmkit.text.markup import speakable
from csmkit.text.normalize import in_words


def split(text: str, **limits: int) -> list[tuple[str, int]]:
    """Each clause with the number of words that were written when it was complete."""
    splitter = ClauseSplitter(**limits)
    words = text.split(" ")
    clauses = []
    for number, word in enumerate(words, start=1):
        delta = word if number == len(words) else f"{word} "
        clauses += [(clause.written, number) for clause in splitter.push(delta)]
    return clauses + [(clause.written, len(words)) for clause in splitter.flush()]


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
        (
            "Look [here](https://example.org/a_b) or at https://example.org/x?y=1 now.",
            "Look here or at example.org now.",
        ),
        ("See <https://www.example.org/a_b>.", "See <example.org>."),
        ("```python\nsay()\n```\n1) Then\n- [x] go\n\n---", "say() 1. Then go"),
        ("<b>Hi</b> &amp; bye<br/> :-) <3", "Hi & bye"),
        ("3 * 4 is **12**", "3 × 4 is 12"),
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


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Come at 10:30, it costs $3.50.", "Come at ten thirty, it costs three dollars and fifty cents."),
        ("At 9:00 am, or at 10:00, or at 14:05.", "At nine a m, or at ten o'clock, or at fourteen oh five."),
        ("I have 1,250 apples and -5 pears.", "I have one thousand two hundred and fifty apples and minus five pears."),
        (
            "On 2026-11-23 it was 21°C.",
            "On November twenty third, twenty twenty six it was twenty one degrees celsius.",
        ),
        ("The 22nd of May, in 1999.", "The twenty second of May, in nineteen ninety nine."),
        ("£1.01 or €20 or $1.5 million.", "one pound and one penny or twenty euros or one point five million dollars."),
        (
            "Dr. Smith, e.g. at pages 3-5 & more etc.",
            "doctor Smith, for example at pages three to five and more and so on.",
        ),
        ("95% of 80 ms at 24 kHz.", "ninety five percent of eighty milliseconds at twenty four kilohertz."),
        ("7 + 5 = 12 (I think).", "seven plus five equals twelve, I think."),
        ("3/4 of it, and/or 1 km.", "three quarters of it, and or one kilometer."),
        ("No. Not no. 7.", "No. Not number seven."),
        ("9:05am, 9.30 pm, 3PM.", "nine oh five a m, nine thirty p m, three p m."),
        (
            "12 - 5 = 7, -$5, 3 × 4, x^2 ≈ ~9",
            "twelve minus five equals seven, minus five dollars, three times four, x squared is about about nine",
        ),
        (
            "US$5, 20 €, ¥500, 50¢, $5-10, $3bn, $0.99",
            "five dollars, twenty euros, five hundred yen, fifty cents, "
            "five to ten dollars, three billion dollars, ninety nine cents",
        ),
        (
            "the 1990s, the '90s, 1984, 1990-1995",
            "the nineteen nineties, the nineties, nineteen eighty four, nineteen ninety to nineteen ninety five",
        ),
        (
            "On Dec. 25, or 12/25/2024, or July 4, 1776.",
            "On December twenty fifth, or December twenty fifth, "
            "twenty twenty four, or July fourth, seventeen seventy six.",
        ),
        (
            "Call 555-1234, room 007, .5 of it, 2½ cups",
            "Call five five five, one two three four, room zero zero seven, zero point five of it, two and a half cups",
        ),
        ("Write to me@example.com in the U.S. by TV", "Write to me at example dot com in the U S by T V"),
        (
            "-5 °F, 2 GB, 1 ft, 6 m², 10 s, 100k, MP3",
            "minus five degrees fahrenheit, two gigabytes, one foot, "
            "six square meters, ten seconds, one hundred thousand, M P three",
        ),
        ("(quickly, I", "quickly, I"),
    ],
)
def test_what_is_written_in_signs_is_spoken_in_words(written: str, spoken: str) -> None:
    assert in_words(written) == spoken


@pytest.mark.parametrize("signs", ["0123456789.,:/-", "019 $€%°.kmx", "1²½ ()~^<>=+#@", "12a.m. -–−'s"])
def test_no_text_makes_it_fail_and_none_keeps_a_digit(signs: str) -> None:
    dice = random.Random(0)
    for length in [1, 2, 3, 5, 8, 13] * 200 + [400]:
        text = "".join(dice.choices(signs, k=length))
        assert not re.search(r"\d", in_words(speakable(text))), text


def test_a_clause_of_numbers_is_no_longer_than_what_one_generation_can_say() -> None:
    splitter = ClauseSplitter(first_words=20, most_words=14)
    clauses = [*splitter.push("It is 1,250 or 2,345 or else 3,456 in all. "), *splitter.flush()]
    assert [clause.written for clause in clauses] == ["It is 1,250 or", "2,345 or else", "3,456 in all."]


def test_plain_text_is_spoken_as_it_is_written() -> None:
    text = "Well, it's nice of you to ask: I'm fine! And you? Two-thirds of us are."
    assert in_words(text) == text


def test_a_clause_knows_how_it_was_written() -> None:
    splitter = ClauseSplitter()
    (clause,) = [*splitter.push("It is **10:30** now."), *splitter.flush()]
    assert (clause.written, clause.spoken) == ("It is 10:30 now.", "It is ten thirty now.")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("It is 3 km. It is far.", "It is three kilometers. It is far."),
        ("Wait 5 min. Then go.", "Wait five minutes. Then go."),
        ("about 5 km. away", "about five kilometers away"),
        ("She is in her 20s.", "She is in her twenties."),
        ("Music of the 80s and '90s.", "Music of the eighties and nineties."),
        ("Wait 30s.", "Wait thirty seconds."),
        ("Take No. 5.", "Take number five."),
        ("He lives on Elm St. He left.", "He lives on Elm street. He left."),
        ("We met on 5th St. in May.", "We met on fifth street in May."),
        ("Visit St. Mary's.", "Visit saint Mary's."),
        ("Pears, etc. Then we ate.", "Pears, and so on. Then we ate."),
        ("Mr Smith met Dr. Brown.", "mister Smith met doctor Brown."),
        ("Open 9am-5pm.", "Open nine a m to five p m."),
        ("It pays $15/hour.", "It pays fifteen dollars per hour."),
    ],
)
def test_a_sentence_keeps_its_end_and_its_sense(written: str, said: str):
    assert in_words(written) == said
