"""Values that are not finite end in an error with a name, and are gone with it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fake_cuda
import pytest
import torch
from tiny import character_tokenizer, save_voice, tiny_csm

from csmkit import Generator, Segment
from csmkit.csm.execution.cuda_graph import CudaGraphs
from csmkit.csm.execution.static import StaticStep
from csmkit.errors import CsmkitError, NotFiniteError

TEXT = "hello there, how are you today?"
CONTEXT = (Segment(1, "well?"), Segment(0, "yes.", codes=torch.randint(0, 64, (4, 9))))
MODES = ("eager", "static", "one frame ahead", "graph")
LENGTH = {"max_audio_length_ms": 800, "guards": None}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_voice(tiny_csm(seed=3), tmp_path_factory.mktemp("finite"))


@pytest.fixture(params=MODES)
def generator(request: pytest.FixtureRequest, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Generator:
    mode = request.param
    made = Generator.load(directory, device="cpu", execution="eager" if mode == "eager" else "static")
    if mode == "one frame ahead":
        made.step = StaticStep(made.model, made.codec.decoder, n_ahead=1)
    if mode == "graph":
        fake_cuda.install(monkeypatch)
        made.step = StaticStep(made.model, made.codec.decoder, CudaGraphs(torch.device("cpu")), n_ahead=1)
    return made


def codes(generator: Generator, **how: Any) -> torch.Tensor:
    return torch.stack(list(generator.frames(TEXT, 0, CONTEXT, **(LENGTH | how))), dim=1)


@contextmanager
def damaged(weight: torch.Tensor, *index: int) -> Iterator[None]:
    """One value of a weight is not a number meanwhile; it stays where it is, as a recording needs it."""
    before = weight[index].clone()
    weight[index] = torch.nan
    yield
    weight[index] = before


def test_a_damaged_weight_is_an_error_that_names_frame_dtype_and_cause(generator: Generator):
    expected = codes(generator, seed=1)
    message = r"codes of frame 1 came from values that are not finite \(dtype torch.float32\): its weights are damaged"
    with damaged(generator.model.backbone.norm, 3):
        for _ in range(3):
            with pytest.raises(NotFiniteError, match=message) as raised:
                codes(generator, seed=1)
            assert isinstance(raised.value, FloatingPointError) and isinstance(raised.value, CsmkitError)
            with pytest.raises(NotFiniteError):
                generator.generate(TEXT, **LENGTH)
    for _ in range(3):
        assert torch.equal(codes(generator, seed=1), expected), "a later good request is a fresh one"


@pytest.mark.parametrize("part", ["first layer", "last head"])
def test_one_bad_moment_in_the_middle_leaves_no_trace(generator: Generator, part: str):
    model = generator.model
    weight, index = {
        "first layer": (model.backbone.blocks[0].qkv, (5, 100)),  # of a value: it goes to the cache
        "last head": (model.other_heads, (2, 3, 9)),
    }[part]
    expected = codes(generator, seed=2)
    for _ in range(2):  # run and recorded, so that the next one is launched
        codes(generator, seed=2)
    stream = generator.frames(TEXT, 0, CONTEXT, seed=2, **LENGTH)
    frames = [next(stream) for _ in range(3)]
    with damaged(weight, *index), pytest.raises(NotFiniteError, match=r"codes of frame [45] "):
        for _ in range(2):  # one may have been launched before
            frames.append(next(stream))
    assert torch.equal(torch.stack(frames, dim=1), expected[:, : len(frames)]) and next(stream, None) is None
    for _ in range(3):
        assert torch.equal(codes(generator, seed=2), expected)
        assert torch.equal(codes(generator, seed=2), codes(generator, seed=2))


def test_a_damaged_prompt_is_not_kept_for_the_next_one(generator: Generator):
    fresh = codes(generator, seed=3)
    other = (Segment(0, "something else."),)
    alone = torch.stack(list(generator.frames(TEXT, 1, other, seed=3, **LENGTH)), dim=1)
    with damaged(generator.model.text_embedding, 10, 0), pytest.raises(NotFiniteError, match="frame 1 "):
        list(generator.frames("yes, efgh.", 1, (Segment(0, "efgh efgh."),), **LENGTH))
    with damaged(generator.model.backbone.blocks[0].qkv, 5, 100), pytest.raises(NotFiniteError):
        codes(generator, seed=3)
    assert torch.equal(torch.stack(list(generator.frames(TEXT, 1, other, seed=3, **LENGTH)), dim=1), alone)
    assert torch.equal(codes(generator, seed=3), fresh)


def test_frames_that_nobody_looked_at_spoil_no_buffers(generator: Generator, monkeypatch: pytest.MonkeyPatch):
    expected = codes(generator, seed=4)
    states: list[weakref.ref[Any]] = []
    first = generator.step.first

    def watched(state: Any, aloud: bool = False) -> Any:
        states.append(weakref.ref(state))
        return first(state, aloud)

    monkeypatch.setattr(generator.step, "first", watched)
    stream = generator.frames(TEXT, 0, CONTEXT, seed=4, **LENGTH)
    next(stream)
    with damaged(generator.model.backbone.blocks[0].qkv, 5, 100):
        if generator.step.makes_sound and generator.step.n_ahead:
            with torch.inference_mode():
                generator.step.launch(states[0]())  # as if it had been launched in that moment
    stream.close()
    gc.collect()
    for _ in range(2):
        assert torch.equal(codes(generator, seed=4), expected)


def test_one_bad_row_of_a_batch_ends_alone(generator: Generator):
    letter = character_tokenizer().token_to_id("z")
    texts = ("hello there.", "a lazy zebra.", "no.")
    asked = [generator.request(text, seed=i, **LENGTH) for i, text in enumerate(texts)]
    alone = [torch.stack(list(generator.run(request)), dim=1) for request in asked]
    with damaged(generator.model.text_embedding, letter, 0):
        batch = generator.generate_streaming_batch(asked, 2)
        seen = []
        with pytest.raises(NotFiniteError, match="frame 1 "):
            for row, _ in batch:
                seen.append(row)
        assert 1 not in seen
        for row, _ in batch:
            seen.append(row)
    assert sorted(seen) == [0] * 5 + [2] * 5
    for row in (0, 2):
        assert torch.equal(batch.streams[row].codes, alone[row]), f"row {row}"
    assert torch.equal(torch.stack(list(generator.run(asked[1])), dim=1), alone[1])


def test_damaged_sound_is_an_error_of_the_codec(generator: Generator):
    expected = generator.generate(TEXT, seed=5, **LENGTH)
    weight = generator.codec.decoder.layers[0].attention_norm.bias
    with damaged(weight, 0):
        for _ in range(2):
            with pytest.raises(NotFiniteError, match=r"sound of frame 1 came from values that are not finite"):
                generator.generate(TEXT, seed=5, **LENGTH)
        batch = generator.generate_streaming_batch([generator.request(TEXT, seed=i, **LENGTH) for i in range(2)])
        for _ in range(2):
            with pytest.raises(NotFiniteError, match="sound of frame 1"):
                next(batch)
    for _ in range(3):
        torch.testing.assert_close(generator.generate(TEXT, seed=5, **LENGTH), expected, atol=2e-5, rtol=0)


def test_an_overflow_of_float16_names_the_way_out(directory: Path):
    generator = Generator.load(directory, device="cpu", dtype=torch.float16)
    generator.model.first_head.mul_(3e4)
    with pytest.raises(
        NotFiniteError, match=r"dtype torch\.float16.* load with dtype=torch\.bfloat16 or torch\.float32"
    ):
        codes(generator)


def test_a_context_that_was_read_ahead_with_a_damaged_weight_is_not_kept(generator: Generator):
    expected = codes(generator, seed=1)
    other = [Segment(0, "something else.")]
    list(generator.read_ahead(other))
    with damaged(generator.model.backbone.blocks[0].attention_norm, 3):
        list(generator.read_ahead(CONTEXT))
    for _ in range(3):
        assert torch.equal(codes(generator, seed=1), expected), "neither its rows nor its buffers are used again"


@pytest.mark.parametrize("joined", [False, True])
def test_a_prompt_that_no_frame_followed_spoils_no_buffers(
    generator: Generator, joined: bool, monkeypatch: pytest.MonkeyPatch
):
    short = [generator.request("well?", seed=seed, **LENGTH) for seed in range(2)]

    def both() -> list[torch.Tensor]:
        batch = generator.generate_streaming_batch(short)
        list(batch)
        return [stream.codes for stream in batch.streams]

    def interrupted(*_: Any) -> None:
        raise RuntimeError("as if an error came before the first frame was launched")

    alone, together = torch.stack(list(generator.run(short[0])), dim=1), both()
    batch = generator.new_batch(generator.codec)
    rows = [batch.open(generator.request(TEXT, 0, CONTEXT, **LENGTH), seed) for seed in range(2)]
    with damaged(generator.model.backbone.blocks[0].qkv, 5, 100):
        for row in rows:
            while not batch.prepare(row):
                pass
        if joined:
            with monkeypatch.context() as patch:
                patch.setattr(generator.step, "first", interrupted)
                ends = batch.make(rows)
            assert all(isinstance(end.error, RuntimeError) for end in ends)
    batch.close(rows)
    gc.collect()
    for _ in range(3):
        assert torch.equal(torch.stack(list(generator.run(short[0])), dim=1), alone)
        assert all(map(torch.equal, both(), together))
