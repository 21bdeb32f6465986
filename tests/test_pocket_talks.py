"""The written talks from which the miniature assistant learns what ordinary people say."""

import random
from pathlib import Path

import pytest

from experiments.pocket.text.build import clauses_of
from experiments.pocket.text.dialogues import MAX_TURNS, Composer, Talk
from experiments.pocket.text.intents import INTENTS, read_paragraphs, sentences_of
from experiments.pocket.text.sentences import words_of
from experiments.pocket.text.talks import Excerpts, Line, fitting, is_held_out_talk, read_answers, read_talks
from experiments.pocket.text.vocabulary import load_vocabulary


def test_every_class_has_answers_in_the_words_of_the_voice_or_an_intent_that_answers():
    intents, vocabulary = {intent.name for intent in read_paragraphs(INTENTS)}, set(load_vocabulary().words)
    for name, answers in read_answers().items():
        assert bool(answers["a"]) != bool(answers["go"]), name
        assert set(answers["go"]) <= intents
        assert set(answers["or"]) <= set(read_answers())
        for answer in answers["a"]:
            assert "".join(sentences_of(answer)).replace(" ", "") == answer.replace(" ", "")
            assert set(words_of(answer)) <= vocabulary, answer


def test_a_line_that_names_no_class_is_refused_with_its_file_and_text(tmp_path: Path):
    (tmp_path / "a.txt").write_text("[a talk]\nsee: it is a small room\nshout: hello\n")
    with pytest.raises(ValueError, match=r"a\.txt: 'shout: hello' needs a \[title\]"):
        read_talks(tmp_path)
    (tmp_path / "a.txt").write_text("[a talk]\nsee: a\n[a talk]\nsee: b\n")
    with pytest.raises(ValueError, match="stands twice"):
        read_talks(tmp_path)


def test_an_excerpt_is_consecutive_lines_of_one_talk_of_the_right_half():
    talks = {f"talk {n}": [Line("see", f"{n} line {i}") for i in range(30)] for n in range(60)}
    for held_out in (False, True):
        excerpts = Excerpts(talks, random.Random(1), held_out)
        for _ in range(50):
            numbers = [line.phrasing.split(" line ") for line in excerpts.draw()]
            assert len({talk for talk, _ in numbers}) == 1
            assert is_held_out_talk(f"talk {numbers[0][0]}") == held_out
            first = int(numbers[0][1])
            assert [int(number) for _, number in numbers] == list(range(first, first + len(numbers)))


def test_what_training_composes_has_answers_of_the_class_and_nothing_of_the_talks_for_the_test():
    classes, composer = read_answers(), Composer(random.Random(3), wordnet=None)
    assert composer.excerpts.talks == [lines for title, lines in read_talks().items() if not is_held_out_talk(title)]
    drawn = [line for _ in range(200) for line in composer.excerpts.draw()]
    talk = Talk(composer)
    for line in drawn[:500]:
        asked, talk.excerpt = classes[line.answer], [line]
        turn = talk.next_line()
        assert turn.user == line.phrasing
        assert turn.answer in fitting(classes, line.answer) or asked["go"] == [turn.topic] or line.answer == "more"


def test_the_clauses_that_the_voice_learns_are_what_the_chatbot_cuts_of_answers_and_their_sentences():
    said = clauses_of(Composer(random.Random(3), odd_names=0, wordnet=None), 2 * MAX_TURNS)
    assert said.total() > 2 * MAX_TURNS
    assert all(text == text.lower() and words_of(text) for text in said)
