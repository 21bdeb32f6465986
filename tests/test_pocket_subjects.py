"""What the miniature assistant is taught to tell about a thing, to tell once more, and to add up."""

import random
import re

import pytest

from experiments.pocket.text.dialogues import THINGS_TOLD, Composer, Talk
from experiments.pocket.text.intents import Turn
from experiments.pocket.text.subjects import NONE_ABOUT, Subjects
from experiments.pocket.text.sums import DECLINED, NUMBERS, result_of, sum_turn


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer(random.Random(0), wordnet=None)


def test_a_request_names_its_subject_also_before_or_as_a_pronoun():
    subjects = Subjects({"fact": ["bees dance.", "cats sleep."]}, [["bees", "bee"], ["cats", "a cat", "cat"]])
    assert subjects.asked("tell me something about a cat i don't know") == "a cat"
    assert subjects.asked("got any bee facts") == subjects.asked("a bee fact please") == "bee"
    assert subjects.asked("owen loves bees, can you tell me a fact about them") == "bees"
    assert subjects.asked("a fact about them", before="i like cats") == "cats"
    assert subjects.asked("how about a fact") is None and subjects.asked("a fact about animals") is None
    assert subjects.lines("fact", "bee") == ["bees dance."] and subjects.lines("fact", "glue") == []
    named = Subjects({"joke": []}, [["bees", "bee"]], others=frozenset(("alien", "dad")))
    assert named.asked("ok an alien joke") == "alien" and named.asked("a dad joke") is None
    assert subjects.known_fact("what do you know about cats?") == ["cats sleep."]


def test_what_is_told_is_about_the_thing_asked_for_or_says_that_nothing_is_known(composer: Composer):
    talk, subjects, known = Talk(composer), composer.requests.subjects, 0
    for _ in range(400):
        talk.due = {}
        turn = talk.ask_about()
        said = turn.user
        if turn.topic == "told about":
            turn = talk.due[talk.n_turns]()
        if turn.answer.startswith(NONE_ABOUT):
            continue
        named = subjects.pattern.findall(f"{said} {turn.user}")
        assert any(turn.answer in subjects.lines(turn.topic, name) for name in named), (said, turn)
        known += 1
    assert known > 200


@pytest.mark.parametrize("kind", THINGS_TOLD)
def test_another_one_is_of_the_kind_that_was_told_last_also_after_remarks(composer: Composer, kind: str):
    for _ in range(40):
        talk = Talk(composer)
        turn = talk.intent(kind)
        talk.note_thing(turn)
        for _ in range(2):
            talk.note_thing(Turn("talk funny", "haha, what a story", "that is a funny story."))
        assert talk.means_thing() and talk.is_told
        assert talk.another_one().topic == kind


def test_sums_are_right_and_whatever_is_beyond_twenty_is_declined():
    rng, seen = random.Random(0), set()
    for number in range(3000):
        turn = sum_turn(rng, again=number % 5 == 0)
        if turn.topic == "large sum":
            assert turn.answer in DECLINED
            continue
        found = re.match(r"(?:yes, |no, )?(\w+) (plus|minus|times) (\w+) (?:is|makes) (\w+)\.", turn.answer)
        assert found, turn
        a, b, result = (NUMBERS.index(found[i]) for i in (1, 3, 4))
        assert result == result_of(found[2], a, b) and "{" not in turn.user
        seen.add(found[2])
    assert seen == {"plus", "minus", "times"}
