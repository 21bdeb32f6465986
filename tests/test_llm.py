"""The language models: transformers from a directory, and the ones without weights."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import tiny_llama
import torch

from csmkit.errors import CheckpointError, CheckpointNotFoundError, DeviceError, InputError, LanguageModelError
from csmkit.llm.transformers import EchoLLM, FakeLLM, TransformersLLM


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.build(tmp_path_factory.mktemp("llm") / "tiny")


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_pieces_are_what_transformers_generates_whole(directory: Path) -> None:
    llm = TransformersLLM(directory, temperature=0, max_new_tokens=40)
    pieces = list(llm.stream(said("hello")))
    prompt = llm.tokenizer.apply_chat_template(said("hello"), tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([llm.tokenizer(prompt, add_special_tokens=False).input_ids])
    expected = llm.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False, pad_token_id=0
    )
    text = llm.tokenizer.decode(expected[0, ids.shape[1] :], skip_special_tokens=True)
    assert len(pieces) > 3
    assert text.startswith("".join(pieces))
    assert set(text[len("".join(pieces)) :]) <= {"\ufffd"}, "only a broken character at the end is left out"


def test_pieces_hold_no_halves_of_characters(directory: Path) -> None:
    llm = TransformersLLM(directory, temperature=2.0, max_new_tokens=60, seed=3)
    assert all(piece and not piece.endswith("\ufffd") for piece in llm.stream(said("hello")))


def test_a_seed_gives_the_same_answer_and_none_another(directory: Path) -> None:
    seeded = TransformersLLM(directory, temperature=1.5, max_new_tokens=30, seed=7)
    free = TransformersLLM(directory, temperature=1.5, max_new_tokens=30)
    first = "".join(seeded.stream(said("hi")))
    assert first == "".join(seeded.stream(said("hi")))
    assert len({"".join(free.stream(said("hi"))) for _ in range(4)}) > 1


def test_only_the_likeliest_tokens_are_drawn(directory: Path) -> None:
    greedy = "".join(TransformersLLM(directory, temperature=0, max_new_tokens=20).stream(said("hi")))
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}):
        model = TransformersLLM(directory, temperature=5.0, max_new_tokens=20, **narrow)
        assert "".join(model.stream(said("hi"))) == greedy
    assert TransformersLLM("pocket").top_p == 0.95, "as its generation_config says"
    with pytest.raises(InputError, match="top_p=0"):
        TransformersLLM(directory, top_p=0)


def test_closing_stops_within_one_token(directory: Path) -> None:
    llm = TransformersLLM(directory, temperature=0, max_new_tokens=100)
    n_steps = 0

    def count(*_: object) -> None:
        nonlocal n_steps
        n_steps += 1

    llm.model.register_forward_pre_hook(count)
    stream = llm.stream(said("hello"))
    list(islice(stream, 2))
    before = n_steps
    stream.close()
    assert n_steps == before < 100


def test_a_long_conversation_loses_its_oldest_turns(directory: Path) -> None:
    llm = TransformersLLM(directory, max_new_tokens=100, system_prompt="be brief")
    turns = [{"role": role, "content": f"{role} {n} " * 3} for n in range(5) for role in ("user", "assistant")]
    prompt = llm.tokenizer.decode(llm.prompt_ids([*turns, *said("the question")]))
    assert "be brief" in prompt
    assert "the question" in prompt
    assert "user 4" in prompt and "user 0" not in prompt
    assert len(llm.prompt_ids([*turns, *said("the question")])) <= 256 - 100


def test_a_message_that_cannot_fit_is_refused(directory: Path) -> None:
    llm = TransformersLLM(directory, max_new_tokens=100)
    with pytest.raises(InputError, match="shorten it"):
        next(llm.stream(said("word " * 100)))


def test_the_checkpoint_says_how_it_is_sampled(directory: Path) -> None:
    assert TransformersLLM(directory).temperature == 0, "its generation_config does not sample"
    assert TransformersLLM(directory, temperature=0.8).temperature == 0.8


def test_a_missing_model_is_named_before_anything_is_asked_of_the_network(tmp_path: Path) -> None:
    for model in (tmp_path / "nowhere", "./nothing/here", "nowhere"):
        with pytest.raises(CheckpointNotFoundError, match="give 'pocket'"):
            TransformersLLM(model)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        TransformersLLM(tmp_path)


def test_a_model_that_cannot_chat_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="chat template"):
        TransformersLLM(tiny_llama.build(tmp_path / "base", template=None))


def test_parameters_out_of_their_range_are_refused(directory: Path) -> None:
    with pytest.raises(InputError, match="max_new_tokens=0"):
        TransformersLLM(directory, max_new_tokens=0)
    with pytest.raises(InputError, match="max_new_tokens=256"):
        TransformersLLM(directory, max_new_tokens=256)
    with pytest.raises(InputError, match="temperature=-1"):
        TransformersLLM(directory, temperature=-1)
    with pytest.raises(DeviceError, match="cuda:99"):
        TransformersLLM(directory, device="cuda:99")


def test_the_fakes_speak_word_by_word() -> None:
    assert list(EchoLLM().stream(said("one two"))) == ["one", " two"]
    fake = FakeLLM(["first answer", "second"])
    assert ["".join(fake.stream(said("x"))) for _ in range(3)] == ["first answer", "second", "first answer"]
    with pytest.raises(LanguageModelError, match="after 1 words"):
        list(FakeLLM(["a b"], fail_after=1).stream(said("x")))
    with pytest.raises(InputError, match="at least one answer"):
        FakeLLM([])
