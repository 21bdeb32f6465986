"""The memory of the composed conversations: what was told is what is answered, however late it is asked for."""

import random
import re

import pytest

from experiments.pocket.text.dialogues import Composer, Talk
from experiments.pocket.text.intents import Turn
from experiments.pocket.text.memory import Memory, key_of, other_words


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer(random.Random(0), wordnet=None)


@pytest.fixture
def memory(composer: Composer) -> Memory:
    return Talk(composer).memory


def asked(memory: Memory, n_times: int = 60) -> list[Turn]:
    """The turns that ask for the first thing told, without corrections and guesses."""
    turns = [memory.ask_told(next(iter(memory.told.values()))) for _ in range(n_times)]
    assert {turn.topic for turn in turns} == {"known"}
    return turns


def test_a_name_is_answered_letter_by_letter_with_its_capital(memory: Memory):
    memory.tell("name")
    name = memory.told["name", ""].bound["it"]
    assert name == name.lower()
    answers = {turn.answer for turn in asked(memory)} - {"yes, you told me that."}
    assert len(answers) >= 4
    assert all(name.title() in answer for answer in answers)


def test_every_kind_of_memory_answers_with_what_was_told(composer: Composer):
    for kind in composer.memories:
        memory = Talk(composer).memory
        turn = memory.tell(kind)
        fact = next(iter(memory.told.values()))
        assert turn.topic == f"memory {kind}"
        words = {
            word
            for slot in ("it", "other name", "first age", "second age")
            for word in fact.spoken.get(slot, "").split()
        }
        for asking in asked(memory, 30):
            assert words & set(asking.answer.replace(".", "").replace(",", "").split()), (asking, fact.bound)
            assert "<" not in asking.user + asking.answer


def test_two_names_are_both_told_and_both_answered(memory: Memory):
    memory.tell("pair")
    fact = next(iter(memory.told.values()))
    both = {fact.spoken["it"], fact.spoken["other name"]}
    assert len(both) == 2
    for turn in asked(memory):
        assert all(name in turn.answer for name in both)


def test_ages_may_follow_two_names_and_are_remembered_with_them(composer: Composer):
    for _ in range(40):
        memory = Talk(composer).memory
        memory.tell("pair")
        turn = memory.tell()
        if turn.topic == "memory pair age":
            break
    (fact,) = memory.told.values()
    assert fact.bound["first age"] in turn.user and fact.bound["second age"] in turn.user
    assert any(fact.bound["first age"] in asking.answer for asking in asked(memory))


def test_a_correction_replaces_what_was_told(memory: Memory):
    memory.tell("name")
    fact = memory.told["name", ""]
    old = fact.bound["it"]
    turn = memory.correct(fact)
    new = fact.bound["it"]
    assert new != old and new in turn.user and new.title() in turn.answer.title()
    assert all(old.title() not in asking.answer.split(".")[0].split() for asking in asked(memory))


def test_a_wrong_guess_is_denied_and_a_right_one_confirmed(memory: Memory):
    memory.tell("job")
    fact = memory.told["job", ""]
    fact.bound["it"] = "keeper of bees"
    for _ in range(30):
        turn = memory.ask_to_confirm(fact)
        assert turn.answer.startswith("yes" if fact.bound["it"] in turn.user else "no"), turn


def test_what_was_not_told_is_honestly_unknown(composer: Composer):
    memory = Talk(composer).memory
    turns = [memory.ask_untold() for _ in range(300)]
    words = ("haven't told me", "don't know", "don't remember")
    assert {turn.topic for turn in turns} == {"unknown"}
    assert all(any(word in turn.answer for word in words) for turn in turns)
    assert len({turn.answer for turn in turns}) >= 20


def test_other_words_of_the_user_that_may_have_told_it_are_never_answered_by_not_knowing(memory: Memory):
    memory.notice("i study medicine, you know")
    assert "study" in memory.unsure
    asks = composed = 0
    for _ in range(300):
        turn = memory.ask_untold()
        composed += 1
        asks += "study" in turn.user
    assert composed == 300 and asks == 0


def test_planned_talks_tell_at_first_and_ask_at_last(composer: Composer):
    talk = Talk(composer)
    talk.plan(32)
    topics = [talk.turn().topic for _ in range(32)]
    assert any(topic.startswith("memory ") for topic in topics[:8])
    assert "known" in topics[24:]


def test_things_of_the_same_kind_are_kept_apart_by_whose_they_are(composer: Composer):
    memory = Talk(composer).memory
    facts = []
    while len(facts) < 3:
        memory.tell("relative")
        facts = [fact for fact in memory.told.values() if fact.memory.name == "memory relative"]
    assert len({key_of(fact.memory, fact.bound) for fact in facts}) == len(facts)
    for fact in facts:
        turn, relation = memory.ask_told(fact), fact.bound["relation"]
        assert fact.spoken["it"] in turn.answer
        assert any(word in turn.user for word in (relation, *other_words(fact.memory, relation)))


def test_what_is_asked_in_other_words_is_meant_by_one_fact_alone(composer: Composer):
    memory = Talk(composer).memory
    while sum(key in memory.told for key in (("relative", "wife"), ("relative", "boyfriend"))) < 2:
        memory.tell("relative")
    wife = memory.told["relative", "wife"]
    assert all("partner" not in memory.ask_told(wife).user for _ in range(200))


def test_the_pronoun_fits_a_relative(composer: Composer):
    memory = Talk(composer).memory
    for of, he in (("wife", "she"), ("grandson", "he")):
        assert memory.drawn(composer.memories["relative"], of)["he"] == he


def test_a_second_thing_told_in_the_same_message_is_remembered_with_the_first(composer: Composer):
    told = []
    for _ in range(60):
        memory = Talk(composer).memory
        turn = memory.tell("relative")
        told.append(len(memory.told))
        assert all(fact.bound["it"].split()[-1] in turn.user for fact in memory.told.values())
    assert max(told) >= 2


def test_of_a_son_and_a_daughter_told_together_neither_is_unknown_nor_mixed_up_with_the_other(composer: Composer):
    memory = Talk(composer).memory
    memory.tell("son and daughter")
    (fact,) = memory.told.values()
    son, daughter = fact.spoken["it"], fact.spoken["other name"]
    for turn in asked(memory, 100):
        if not re.search(r"kids|children", turn.user):
            assert (daughter if "daughter" in turn.user else son) in turn.answer
    unknown = [memory.ask_untold().user for _ in range(300)]
    assert not [user for user in unknown if re.search(r"name of my (son|daughter)|my (sons|children) called", user)]
