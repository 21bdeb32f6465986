"""The sentences of the bundled language model's answers, with the words of the user in their places."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import tiny_llama
import torch

from csmkit.files.hub import bundled_folder
from csmkit.llm.answer_sentences import FILE, AnswerSentences, phrases_in, words_in
from csmkit.llm.transformers import TransformersLLM

SPOKEN = Path(__file__).parents[1] / "results/pocket/conversation_50.jsonl"


@pytest.fixture(scope="module")
def llm() -> TransformersLLM:
    return TransformersLLM(seed=0, max_new_tokens=48)


@pytest.fixture(scope="module")
def listed(llm: TransformersLLM) -> AnswerSentences:
    assert llm.answer_sentences is not None
    return llm.answer_sentences


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": "assistant" if number % 2 else "user", "content": text} for number, text in enumerate(texts)]


def can_be_written(llm: TransformersLLM, messages: list[dict[str, str]], answer: str) -> bool:
    """Whether each token of an answer, and its end, is left possible by those before it."""
    assert llm.answer_sentences is not None
    so_far = llm.answer_sentences.begin(messages)
    for token in [*llm.tokenizer(answer, add_special_tokens=False).input_ids, llm.tokenizer.eos_token_id]:
        logits = torch.zeros(len(llm.tokenizer))
        logits[token] = 20.0
        if so_far.restrict(logits)[token] == -torch.inf:
            return False
        so_far.add(token)
    return True


@pytest.mark.parametrize(
    ("answer", "possible"),
    [
        ("Hello, Xandralotte, it's nice to meet you.", True),
        ("You told me that your name is Xandralotte. I see.", True),
        ("Hi Zoe, that's a lovely name.", True),  # accents are left out
        ("Hello, New Xandria. I will remember your name.", True),
        ("It's Brigantia, I remember.", True),  # told without an apostrophe
        ("I'm Pocket, a small voice in your computer.", True),
        ("Seven plus four is eleven.", True),
        ("You are forty two years old.", True),  # said in digits
        ("You told me that your sister is coming.", True),  # "my sister" was said
        ("Your sister is coming.", True),
        ("Monday comes before Tuesday. I see.", True),
        ("Hello, Xandra. I will remember your name.", False),  # half a name
        ("Hello, Xandralottes. I will remember your name.", False),  # more than a name
        ("Hello, xandralotte. I will remember your name.", False),
        ("Hello, Very. I will remember your name.", False),  # nobody said it
        ("Hello, Coming. I will remember your name.", False),  # a word of the list in small letters
        ("Hello, Hope. I will remember your name.", True),  # it had a capital
        ("I hope you like it in Brigantia.", False),  # half a sentence
        ("How nice, I hope you like it in Brigantia Three.", False),  # "three" is no part of the name
        ("How nice, I hope you like it in A.", False),  # nothing has such a name
        ("Oh, From New Xandria sounds like a nice place.", False),
        ("Oh, I'm Xandralotte sounds like a nice place.", False),
        ("Hello, Minu. I will remember your name.", False),  # half of "minus"
        ("You told me that you like coming today.", False),  # its words were not said side by side
        ("You told me that you like my sister.", False),  # "your sister" would be right
        ("You told me that you like this is.", True),
        ("You told me that your sister is called Zoe.", True),
        ("You told me that your sister is coming and Zoe.", False),  # a capital inside other words
        ("You are going to Xandria.", True),
        ("You told me that you like friend from.", False),  # more has to come
        ("Seven plus four is eleventy.", False),
        ("I see", False),  # no end
        ("I see. I", False),
        ("I see.\nI see.", False),  # a second line
        ("I see.I see.", False),  # no space
        ("i see.", False),
        ("It is a calendar.", False),  # a sentence that is not listed
        ("Why did the cookie go to the doctor? It wasn't peeling well.", False),  # the end of another joke
    ],
)
def test_what_can_be_written(llm: TransformersLLM, listed: AnswerSentences, answer: str, possible: bool) -> None:
    messages = said(
        "hi there, I'm Xandralotte and my sister is coming with Hope, minus three",
        "Hi.",
        "and this is Zo\u00eb, brigantias friend from new xandria, brigantia three weeks ago today. a 42 year old",
    )
    assert can_be_written(llm, messages, answer) is possible
    assert listed.hold(messages, answer) is possible


def test_words_of_earlier_answers_are_not_words_to_copy(listed: AnswerSentences) -> None:
    answer = "Hello, Quagmire. I will remember your name."
    assert not listed.hold(said("hello", "Quagmire.", "and you?"), answer)
    assert listed.hold(said("quagmire", "I see.", "and you?"), answer)


def test_only_what_the_model_reads_is_copied(llm: TransformersLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[list[dict[str, str]]] = []
    assert llm.answer_sentences is not None
    begin = llm.answer_sentences.begin
    monkeypatch.setattr(llm.answer_sentences, "begin", lambda messages: begun.append(list(messages)) or begin(messages))
    talk = said("my name is Xandralotte", *["I see.", "and it rains again in the old town by the river today"] * 400)
    "".join(llm.stream(talk))
    assert 4 < len(begun[0]) < len(talk) / 2
    assert begun[0] == talk[-len(begun[0]) :]


@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
def test_however_wild_the_sampling_every_sentence_is_a_listed_one(
    llm: TransformersLLM, listed: AnswerSentences, temperature: float
) -> None:
    wild = TransformersLLM(seed=1, temperature=temperature, top_p=1.0, max_new_tokens=120)
    for text in ("hello", "my name is Oluwaseun Brzezinski", "lkjsdf 77 ??", "what is two plus two", ""):
        messages = said("I live in Denver", "I see.", text)
        answer = "".join(wild.stream(messages))
        assert listed.hold(messages, answer) or len(llm.tokenizer(answer).input_ids) >= 118, answer


def test_without_the_list_such_sampling_says_other_sentences(listed: AnswerSentences) -> None:
    free = TransformersLLM(seed=0, temperature=5.0, top_p=1.0, max_new_tokens=24)
    free.answer_sentences = None
    assert not listed.hold(said("hello"), "".join(free.stream(said("hello"))))


def test_a_list_that_nothing_can_follow_restricts_nothing(llm: TransformersLLM) -> None:
    so_far = AnswerSentences((), llm.tokenizer).begin([])
    logits = torch.arange(len(llm.tokenizer), dtype=torch.float32)
    assert torch.equal(so_far.restrict(logits), logits)


def test_every_answer_that_the_texts_compose_can_be_said(listed: AnswerSentences) -> None:
    from experiments.pocket.text.dialogues import Composer

    composer = Composer(random.Random(3), wordnet=None)
    n_answers, others = 0, []
    for _ in range(60):
        _topic, messages = composer.dialogue()
        for number, message in enumerate(messages):
            if message["learn"]:
                n_answers += 1
                if not listed.hold(messages[:number], message["content"]):
                    others.append((messages[number - 1]["content"], message["content"]))
    assert n_answers > 300
    assert len(others) <= 3, others


def test_every_answer_of_the_published_conversations_can_be_said(listed: AnswerSentences) -> None:
    messages: list[dict[str, str]] = []
    for row in map(json.loads, SPOKEN.read_text().splitlines()):
        messages = [] if row["turn"] == 1 else messages
        messages.append({"role": "user", "content": row["prompt"]})
        assert listed.hold(messages, row["answer"]), row
        messages.append({"role": "assistant", "content": row["answer"]})


def test_a_checkpoint_without_a_list_says_anything(tmp_path_factory: pytest.TempPathFactory) -> None:
    tiny = tiny_llama.build(tmp_path_factory.mktemp("tiny"))
    assert TransformersLLM(tiny, max_new_tokens=8).answer_sentences is None
    (tiny / FILE).write_text("It is.\n")
    assert "".join(TransformersLLM(tiny, max_new_tokens=8).stream(said("hello"))) in {"It is.", "It is. It is."}


def test_words_are_read_without_accents_in_either_apostrophe_and_numbers_spelled() -> None:
    assert words_in("It\u2019s Jos\u00e9's - caf\u00e9 21!") == ["it's", "jose's", "cafe", "twenty", "one"]
    assert ("isla",) in set(phrases_in("isla's dog"))
    assert ("your", "sister") in set(phrases_in("my sisters"))


def test_the_list_is_that_of_the_texts() -> None:
    from experiments.pocket.text.dialogues import Composer

    sentences = Composer(random.Random(0), wordnet=None).answer_sentences()
    assert (bundled_folder("llm") / FILE).read_text(encoding="utf-8").splitlines() == sentences
