"""What a language model has read is kept between turns: the same answers, in the same time at any length."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny_llama
import torch

from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.llm.transformers import Message, TransformersLLM
from csmkit.speech.generator import FakeGenerator

PROMPTS = (
    "hello, who are you?", "my dog is ill.", "tell me a joke.", "what can we eat tonight?", "I am tired.",
    "can you sing?", "what is the weather like?", "I like green tea.", "why?", "thank you, see you soon.",
)  # fmt: skip


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.build(tmp_path_factory.mktemp("llm") / "tiny", n_positions=2048)


def asked(history: list[Message], text: str) -> list[Message]:
    return [*history, {"role": "user", "content": text}]


def answer(llm: TransformersLLM, history: list[Message], text: str) -> str:
    return "".join(llm.stream(asked(history, text)))


def converse(llm: TransformersLLM, n_turns: int) -> list[Message]:
    """A conversation in which every answer becomes history, without the spaces around it."""
    history: list[Message] = []
    for turn in range(n_turns):
        text = PROMPTS[turn % len(PROMPTS)]
        spoken = {"role": "assistant", "content": answer(llm, history, text).strip()}
        history = [*asked(history, text), spoken]
    return history


class Reads:
    """Counts the tokens of every call of a model."""

    def __init__(self, llm: TransformersLLM) -> None:
        self.n_tokens: list[int] = []
        llm.model.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _: Any, positional: Any, named: dict[str, Any]) -> None:
        self.n_tokens.append(named["input_ids"].shape[1])


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 0.8, "seed": 1}, {"seed": 7, "top_p": 0.5}])
def test_a_conversation_is_the_same_with_and_without_what_was_kept(sampling: dict[str, Any]):
    kept = TransformersLLM("pocket", **sampling, max_new_tokens=30)
    fresh = TransformersLLM("pocket", **sampling, max_new_tokens=30, prefix_caching=False)
    talk = converse(kept, 15)
    assert talk == converse(fresh, 15)
    assert len({message["content"] for message in talk[1::2]}) > 3


def test_a_turn_reads_what_is_new_and_not_the_conversation(directory: Path):
    llm = TransformersLLM("pocket", temperature=0, max_new_tokens=30)
    reads, history = Reads(llm), list[Message]()
    for turn in range(20):
        text = PROMPTS[turn % len(PROMPTS)]
        reads.n_tokens.clear()
        spoken = answer(llm, history, text)
        history = [*asked(history, text), {"role": "assistant", "content": spoken}]
        assert reads.n_tokens[0] <= 40, f"turn {turn}"
        assert set(reads.n_tokens[1:]) <= {1}


def interrupted(llm: TransformersLLM, history: list[Message]) -> list[Message]:
    """A turn of which two pieces were taken and one was spoken."""
    stream = llm.stream(asked(history, "tell me a long story"))
    first, _ = islice(stream, 2)
    stream.close()
    return [*asked(history, "tell me a long story"), {"role": "assistant", "content": first}]


def edited(llm: TransformersLLM, history: list[Message]) -> list[Message]:
    return [*history[:3], {"role": "assistant", "content": "something else"}, *history[4:]]


def shortened(llm: TransformersLLM, history: list[Message]) -> list[Message]:
    return history[:4]


def forgotten(llm: TransformersLLM, history: list[Message]) -> list[Message]:
    return []


def failed(llm: TransformersLLM, history: list[Message]) -> list[Message]:
    """A turn in which the model broke off after its first layer had grown the cache."""

    def break_off(*_: Any) -> None:
        raise RuntimeError("broken off")

    hook = llm.model.model.norm.register_forward_pre_hook(break_off)
    with pytest.raises(RuntimeError, match="broken off"):
        answer(llm, history, "hello")
    hook.remove()
    return history


@pytest.mark.parametrize("change", [interrupted, edited, shortened, forgotten, failed])
def test_after_whatever_happened_to_the_history_the_answer_is_that_of_a_fresh_model(change: Any, directory: Path):
    kept = TransformersLLM(directory, temperature=0, max_new_tokens=20)
    history = change(kept, converse(kept, 5))
    for text in ("and now?", "and then?"):
        fresh = TransformersLLM(directory, temperature=0, max_new_tokens=20, prefix_caching=False)
        said = answer(fresh, history, text)
        assert answer(kept, history, text) == said != ""
        history = [*asked(history, text), {"role": "assistant", "content": said}]


def test_conversations_in_threads_of_their_own_do_not_touch_each_other(directory: Path):
    shared = TransformersLLM(directory, temperature=0.8, seed=3, max_new_tokens=15)
    alone = TransformersLLM(directory, temperature=0.8, seed=3, max_new_tokens=15, prefix_caching=False)

    def talk(llm: TransformersLLM, name: str) -> list[str]:
        history: list[Message] = []
        for text in PROMPTS[:6]:
            said = answer(llm, history, f"{name} {text}")
            history = [*asked(history, f"{name} {text}"), {"role": "assistant", "content": said}]
        return [message["content"] for message in history]

    names = ["anna", "ben", "carla", "dan"]
    with ThreadPoolExecutor() as pool:
        together = list(pool.map(lambda name: talk(shared, name), names))
    assert together == [talk(alone, name) for name in names]


def test_two_conversations_that_take_turns_each_keep_what_was_read():
    llm = TransformersLLM("pocket", temperature=0, max_new_tokens=20, system_prompt="you are kind and short. " * 20)
    reads = Reads(llm)
    histories: dict[str, list[Message]] = {"I like cats.": [], "do you know the way?": []}
    for turn in range(5):
        for text, history in histories.items():
            reads.n_tokens.clear()
            said = answer(llm, history, text)
            histories[text] = [*asked(history, text), {"role": "assistant", "content": said}]
            first_ever = turn == 0 and not histories["do you know the way?"]
            assert first_ever or reads.n_tokens[0] < 70 < 140 < len(llm.prompt_ids(asked(history, text)))


def test_a_model_with_a_sliding_window_answers_the_same(directory: Path, tmp_path: Path):
    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 24}
    (tmp_path / "config.json").write_text(json.dumps(config))
    kept = TransformersLLM(tmp_path, temperature=0, max_new_tokens=10)
    fresh = TransformersLLM(tmp_path, temperature=0, max_new_tokens=10, prefix_caching=False)
    assert kept.model.config.model_type == "mistral"
    assert converse(kept, 4) == converse(fresh, 4)


def turns_read(llm: TransformersLLM, messages: list[Message]) -> list[str]:
    """What the user says in the part of a conversation that the model reads."""
    text = llm.tokenizer.decode(llm.prompt_ids(messages))
    return [message["content"] for message in messages if message["role"] == "user" and message["content"] in text]


def long_talk(n_turns: int) -> Iterator[list[Message]]:
    """The prompt of each turn."""
    history: list[Message] = []
    for turn in range(n_turns):
        yield asked(history, f"question {turn:03d}")
        history = [*asked(history, f"question {turn:03d}"), {"role": "assistant", "content": "word " * (3 + turn % 5)}]


def test_a_conversation_that_is_too_long_loses_whole_turns_seldom_and_keeps_the_system_prompt(tmp_path: Path):
    directory = tiny_llama.build(tmp_path / "short", n_positions=600)
    llm = TransformersLLM(directory, max_new_tokens=100, system_prompt="be brief")
    prompts = list(long_talk(120))
    read = [turns_read(llm, prompt) for prompt in prompts]
    for prompt, turns in zip(prompts, read, strict=True):
        ids = llm.prompt_ids(prompt)
        text = llm.tokenizer.decode(ids)
        assert len(ids) <= 500 and text.startswith("<s>system be brief</s><s>user question")
        assert turns[-1] == prompt[-1]["content"]
        assert text.count("<s>user") == len(turns) and text.count("<s>assistant") == len(turns)
    moved = [n for n, (before, after) in enumerate(pairwise(read)) if before[0] != after[0]]
    assert 5 < len(moved) < 120 / 3, "a third of the room is freed at once"
    assert min(len(turns) for turns in read[20:]) >= 5


def test_the_length_is_that_of_the_config_and_of_the_tokenizer(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    directory = tiny_llama.build(tmp_path / "tiny", n_positions=2048)
    assert TransformersLLM(directory).n_positions == 2048
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    (directory / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 300}))
    llm = TransformersLLM(directory, max_new_tokens=100)
    *_, longest = long_talk(60)
    assert llm.n_positions == 300 and len(llm.prompt_ids(longest)) <= 200
    assert not caplog.records, "no warning about a prompt that is not used"


def test_a_turn_that_is_cut_short_and_one_that_is_loaded_go_on_with_what_was_heard(directory: Path, tmp_path: Path):
    def chatbot(**options: Any) -> StreamingConversationalChatbot:
        llm = TransformersLLM(directory, temperature=0.7, seed=5, max_new_tokens=30, **options)
        return StreamingConversationalChatbot(generator=FakeGenerator(), llm=llm, asr=False)

    histories = []
    for options in ({}, {"prefix_caching": False}):
        with chatbot(**options) as bot:
            list(bot.process_streaming("hello there"))
            bot.save(tmp_path / "talk")
            for event in bot.process_streaming("go on"):
                if event["type"] == "audio_chunk":
                    bot.interrupt()
            list(bot.process_streaming("and now?"))
            bot.load(tmp_path / "talk")
            list(bot.process_streaming("and now?"))
            histories.append(list(bot.history))
    assert histories[0] == histories[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cache_that_is_kept_is_that_of_the_tokens_that_were_read(dtype: torch.dtype, directory: Path):
    llm = TransformersLLM(directory, temperature=0, max_new_tokens=12, dtype=dtype)
    prompt = asked([], "hello there")
    said = "".join(llm.stream(prompt))
    prefix = llm.prefixes.take([*llm.prompt_ids(prompt), *llm.tokenizer(said).input_ids, 0], 1)
    assert len(prefix.ids) == prefix.cache.get_seq_length() >= len(llm.prompt_ids(prompt))
