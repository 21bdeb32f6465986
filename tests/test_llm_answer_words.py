"""The words of the bundled language model's answers: its list's, and those of the conversation."""

from __future__ import annotations

import pytest
import tiny_llama
import torch

from csmkit.files.hub import bundled_folder
from csmkit.llm.answer_words import FILE, AnswerWords, words_in
from csmkit.llm.transformers import TransformersLLM

NAMES = ("Xandralotte", "Brzezinski", "Quiverfoot", "Oluwaseun", "Zoë")


@pytest.fixture(scope="module")
def llm() -> TransformersLLM:
    return TransformersLLM(seed=0, max_new_tokens=24)


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": "assistant" if number % 2 else "user", "content": text} for number, text in enumerate(texts)]


def can_be_written(llm: TransformersLLM, messages: list[dict[str, str]], answer: str) -> bool:
    """Whether each token of an answer, and its end, is left possible by those before it."""
    assert llm.answer_words is not None
    spelling = llm.answer_words.begin(messages)
    for token in [*llm.tokenizer(answer, add_special_tokens=False).input_ids, llm.tokenizer.eos_token_id]:
        logits = torch.zeros(len(llm.tokenizer))
        logits[token] = 20.0
        if spelling.restrict(logits)[token] == -torch.inf:
            return False
        spelling.add(token)
    return True


@pytest.mark.parametrize(
    ("answer", "possible"),
    [
        ("Hello, Xandralotte, it's nice to meet you.", True),
        ("You told me that your name is Xandralotte. I will remember it.", True),
        ("My name is Pocket. Monday comes after Sunday.", True),
        ("Hi Zoe, I'm glad that you are here.", True),
        ("Hello, Brigantia.", True),  # told without an apostrophe
        ("You told me about Brigantia Xandralotte.", True),
        ("You told me about Brigantia xandralotte.", False),  # the second half of a name in small letters
        ("You told me about Brigantia and Xandralotte.", True),
        ("I hope you like it in Brigantia.", True),
        ("Hello, Brigantia.\nI see.", False),  # a second line
        ("I am 3 years old.", False),  # a number that is not in words
        ("I like it", False),  # no end
        ('I like it: "good".', False),  # marks that answers do not have
        ("Hello, Xandra.", False),  # half a name
        ("Hello, Xandralottes.", False),  # more than a name
        ("Hello, Very, it's nice to meet you.", False),  # a common word that nobody said
        ("Hello, quagmire.", False),  # a word that is in neither
        ("Hello. it's nice to meet you.", False),  # a small letter where a sentence begins
        ("Your name isXandralotte.", False),  # no space
    ],
)
def test_what_can_be_written(llm: TransformersLLM, answer: str, possible: bool) -> None:
    messages = said(
        "hi there, I'm Xandralotte", "Hi.", "and this is Zo\u00eb, brigantias friend, brigantia three weeks ago"
    )
    assert can_be_written(llm, messages, answer) is possible


def test_words_of_earlier_answers_are_not_words_to_copy(llm: TransformersLLM) -> None:
    assert not can_be_written(llm, said("hello", "Quagmire.", "and you?"), "Hello, Quagmire.")
    assert can_be_written(llm, said("a quagmire", "I see.", "and you?"), "Hello, Quagmire.")


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_however_wild_the_sampling_every_word_is_one(llm: TransformersLLM, temperature: float) -> None:
    llm.temperature, llm.top_p = temperature, 1.0
    listed = {word.lower() for word in (bundled_folder("llm") / FILE).read_text().split()}
    n_words = 0
    for name in NAMES:
        messages = said("hello", "Hello.", f"my name is {name}, and I like dancing")
        answer = "".join(llm.stream(messages))
        known = listed | set(words_in(f"hello my name is {name.lower()} and i like dancing"))
        known |= {f"{word}'s" for word in known}
        *whole, _last = words_in(answer.lower()) or [""]
        assert set(whole) <= known, answer
        n_words += len(whole)
    assert n_words > 10


def test_without_the_list_such_sampling_says_words_that_are_none(llm: TransformersLLM) -> None:
    free = TransformersLLM(seed=0, temperature=3.0, top_p=1.0, max_new_tokens=24)
    listed = {word.lower() for word in (bundled_folder("llm") / FILE).read_text().split()}
    free.answer_words = None
    answer = "".join(free.stream(said("hello")))
    assert set(words_in(answer.lower())) - listed


def test_a_name_ends_where_the_model_would_go_on_with_what_follows_it(llm: TransformersLLM) -> None:
    assert llm.answer_words is not None
    spelling = llm.answer_words.begin(said("our coach is called brigantia dawson"))
    for token in llm.tokenizer("You told me about Brigantia", add_special_tokens=False).input_ids:
        spelling.add(token)
    first, other, mark = (
        llm.tokenizer(text, add_special_tokens=False).input_ids[0] for text in (" dawson", " sounds", ".")
    )
    logits = torch.zeros(len(llm.tokenizer))
    logits[first], logits[other], logits[mark] = 20.0, 10.0, 5.0
    assert int(spelling.restrict(logits).argmax()) == mark
    logits[first] = 0.0
    assert int(spelling.restrict(logits).argmax()) == other


def test_a_list_that_nothing_can_follow_restricts_nothing(llm: TransformersLLM) -> None:
    spelling = AnswerWords((), llm.tokenizer).begin([])
    logits = torch.arange(len(llm.tokenizer), dtype=torch.float32)
    words = [token for token in range(len(logits)) if llm.tokenizer.decode([token]).strip().isalpha()]
    assert (spelling.restrict(logits)[words] == -torch.inf).all()
    for token in ("\ufffd", "\u0120"):  # a capital's mark and a space alone: a letter has to follow
        spelling.add(llm.tokenizer.convert_tokens_to_ids(token))
    assert torch.equal(spelling.restrict(logits), logits)


def test_a_checkpoint_without_a_list_says_any_words(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert TransformersLLM(tiny_llama.build(tmp_path_factory.mktemp("tiny")), max_new_tokens=8).answer_words is None


def test_words_are_read_without_accents_and_in_either_apostrophe() -> None:
    assert words_in("It\u2019s Jos\u00e9's - caf\u00e9!") == ["It's", "Jose's", "cafe"]
