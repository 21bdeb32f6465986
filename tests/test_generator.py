"""The generator: one loop, any chunks, endings, and nothing left behind."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import N_CODEBOOKS
from torch import Tensor
from watched_step import WatchedStep

from csmkit import Generator, Segment
from csmkit.csm.execution import choose
from csmkit.csm.execution.eager import EagerStep
from csmkit.csm.execution.step import Made
from csmkit.csm.model import CsmModel, CsmState
from csmkit.errors import CheckpointError, CheckpointNotFoundError, ContextOverflowError, DeviceError, InputError
from csmkit.mimi.codecs import FakeCodec
from csmkit.speech.base import FakeGenerator, SpeechGenerator

FRAME = 1920
TEXT = "Hello there, how are you?"
TEN_FRAMES = {"max_audio_length_ms": 800, "seed": 7}


@pytest.fixture(scope="module")
def generator(voice_directory: Path) -> Generator:
    return Generator.load(voice_directory, device="cpu")


class ScriptedStep(EagerStep):
    """Says the frames it is given, the last of them for ever, and counts."""

    def __init__(self, model: CsmModel, frames: list[list[int]]) -> None:
        super().__init__(model)
        self.frames, self.n_steps = [torch.tensor([frame]) for frame in frames], 0

    def read(self, state: CsmState, tokens: Tensor, mask: Tensor) -> None:
        pass

    def first(self, state: CsmState, aloud: bool = False) -> Made:
        return self.next(state)

    def next(self, state: CsmState) -> Made:
        self.n_steps += 1
        return Made(self.frames[min(self.n_steps, len(self.frames)) - 1], torch.ones(1, dtype=torch.bool))


@pytest.fixture
def scripted(voice_directory: Path, monkeypatch: pytest.MonkeyPatch):
    """A function from frames to a generator that says them, and its step."""

    def make(*frames: list[int]) -> tuple[Generator, ScriptedStep]:
        scripts: list[ScriptedStep] = []

        def script(model: CsmModel, _: object) -> ScriptedStep:
            scripts.append(ScriptedStep(model, list(frames)))
            return scripts[0]

        monkeypatch.setitem(choose._MODES, "scripted", script)
        return Generator.load(voice_directory, device="cpu", execution="scripted"), scripts[0]

    return make


def watch_state(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[CsmState]]:
    """Weak references to every state the generator makes from here on."""
    seen: list[weakref.ref[CsmState]] = []

    def new_state(*arguments: Any, **options: Any) -> CsmState:
        state = CsmModel.new_state(generator.model, *arguments, **options)
        seen.append(weakref.ref(state))
        return state

    monkeypatch.setattr(generator.model, "new_state", new_state)
    return seen


def test_chunk_size_changes_neither_samples_nor_codes(generator: Generator):
    whole = generator.generate(TEXT, **TEN_FRAMES)
    assert whole.shape == (10 * FRAME,) and whole.dtype == torch.float32 and whole.abs().max() > 0
    for chunk_frames, sizes in {
        1: [1] * 10,
        2: [2] * 5,
        5: [5, 5],
        6: [6, 4],
        11: [10],
        (1, 2, 4, 6): [1, 2, 4, 3],
        (1, 2): [1, 2, 2, 2, 2, 1],
    }.items():
        stream = generator.generate_streaming(TEXT, chunk_frames=chunk_frames, **TEN_FRAMES)
        chunks = list(stream)
        assert [len(chunk) // FRAME for chunk in chunks] == sizes
        assert torch.equal(torch.cat(chunks), whole), f"chunk_frames={chunk_frames}"
        assert stream.n_frames == 10 and stream.finish_reason == "max_length"


def test_streamed_sound_is_the_whole_decode_of_the_frames(generator: Generator):
    codes = torch.stack(list(generator.frames(TEXT, **TEN_FRAMES)), dim=1)
    assert codes.shape == (N_CODEBOOKS, 10) and codes.dtype == torch.int64
    whole = generator.codec.decode_whole(codes)
    torch.testing.assert_close(generator.generate(TEXT, **TEN_FRAMES), whole, atol=1e-4, rtol=0)


def test_the_same_seed_gives_the_same_frames_and_another_seed_others(generator: Generator):
    first, again = (torch.stack(list(generator.frames(TEXT, **TEN_FRAMES))) for _ in range(2))
    other = torch.stack(list(generator.frames(TEXT, max_audio_length_ms=800, seed=8)))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_longer_limit_only_adds_frames(generator: Generator):
    short = torch.stack(list(generator.frames(TEXT, max_audio_length_ms=400, seed=3)))
    long = torch.stack(list(generator.frames(TEXT, max_audio_length_ms=1_200, seed=3)))
    assert torch.equal(long[:5], short)


def test_without_a_seed_the_stream_tells_the_one_it_drew(generator: Generator):
    stream = generator.frames(TEXT, max_audio_length_ms=800)
    codes = torch.stack(list(stream), dim=1)
    assert torch.equal(stream.codes, codes)
    again = generator.frames(TEXT, max_audio_length_ms=800, seed=stream.seed)
    assert torch.equal(torch.stack(list(again), dim=1), codes)
    assert generator.frames(TEXT).seed != generator.frames(TEXT).seed


def test_a_turn_can_be_given_as_context_by_its_codes(generator: Generator):
    stream = generator.generate_streaming("Good morning.", **TEN_FRAMES)
    sound = torch.cat(list(stream))
    by_codes = (Segment(0, "Good morning.", sound, codes=stream.codes),)
    alone, after = (generator.generate(TEXT, 1, context, **TEN_FRAMES) for context in ((), by_codes))
    assert not torch.equal(alone, after)
    assert torch.equal(after, generator.generate(TEXT, 1, by_codes, **TEN_FRAMES))


def test_the_end_frame_is_neither_kept_nor_decoded_nor_sampled_past(scripted):
    generator, script = scripted([1, 2, 3, 4], [0, 2, 0, 0], [0, 0, 0, 0], [5, 5, 5, 5])
    stream = generator.frames("hello", seed=0)
    assert [frame.tolist() for frame in stream] == [[1, 2, 3, 4], [0, 2, 0, 0]]
    assert script.n_steps == 3
    assert stream.finish_reason == "end_of_speech"


def test_an_end_that_differs_in_the_last_codebook_only_is_no_end(scripted):
    generator, _ = scripted([0, 0, 0, 1], [0, 0, 0, 0])
    assert len(list(generator.frames("hello"))) == 1


def test_an_end_on_the_first_frame_is_empty_audio(scripted):
    generator, script = scripted([0, 0, 0, 0])
    audio = generator.generate("hello")
    assert audio.shape == (0,) and audio.dtype == torch.float32 and script.n_steps == 1
    stream = generator.generate_streaming("hello")
    assert list(stream) == [] and stream.n_frames == 0 and stream.finish_reason == "end_of_speech"


def test_nothing_is_computed_beyond_the_limit(scripted):
    generator, script = scripted([1, 2, 3, 4])
    stream = generator.frames("hello", max_audio_length_ms=400)
    assert len(list(stream)) == 5
    assert script.n_steps == 5 and stream.finish_reason == "max_length"


def test_frames_come_as_they_are_made(scripted):
    generator, script = scripted([1, 2, 3, 4])
    stream = generator.frames("hello")
    assert script.n_steps == 0
    next(stream)
    assert script.n_steps == 1
    chunks = generator.generate_streaming("hello", chunk_frames=(1, 3))
    next(chunks), next(chunks)
    assert script.n_steps == 1 + 4


def test_closing_frees_the_state_at_once_and_the_next_call_equals_a_first(generator: Generator, monkeypatch):
    expected = generator.generate(TEXT, **TEN_FRAMES)
    states = watch_state(generator, monkeypatch)
    gc.disable()  # freed by dropping the last reference, not by a later collection
    try:
        stream = generator.generate_streaming(TEXT, chunk_frames=2, **TEN_FRAMES)
        assert torch.equal(next(stream), expected[: 2 * FRAME])
        assert states[0]() is not None
        stream.close()
        assert states[0]() is None
    finally:
        gc.enable()
    assert stream.finish_reason == "interrupted"
    assert list(stream) == []
    stream.close()
    assert torch.equal(generator.generate(TEXT, **TEN_FRAMES), expected)


def test_closing_before_the_first_chunk_computes_nothing(scripted):
    generator, script = scripted([1, 2, 3, 4])
    with generator.generate_streaming("hello") as stream:
        pass
    assert script.n_steps == 0 and list(stream) == [] and stream.finish_reason == "interrupted"


def test_leaving_a_loop_frees_the_state_too(generator: Generator, monkeypatch):
    states = watch_state(generator, monkeypatch)
    for _ in generator.generate_streaming(TEXT, chunk_frames=1, **TEN_FRAMES):
        break
    assert states[0]() is None


def test_an_error_in_the_codec_frees_the_state_and_reaches_the_caller(generator: Generator, monkeypatch):
    states = watch_state(generator, monkeypatch)
    stream = generator.generate_streaming(TEXT, **TEN_FRAMES)

    def refuse(*_: object) -> Tensor:
        raise DeviceError("out of memory")

    monkeypatch.setattr(generator.codec.decoder, "forward", refuse)
    with pytest.raises(DeviceError, match="out of memory"):
        next(stream)
    assert states[0]() is None and stream.finish_reason == "interrupted"


def test_turns_read_before_are_not_read_again_and_the_codes_are_bit_equal(voice_directory: Path, monkeypatch):
    turns = [Segment(i % 2, f"turn {i}.", codes=torch.randint(0, 64, (N_CODEBOOKS, 6 + i))) for i in range(4)]
    contexts = (turns[:2], turns[:3], turns, turns[1:], turns[:1], [turns[0], turns[2]])
    fresh = [Generator.load(voice_directory, device="cpu").generate(TEXT, 0, list(c), **TEN_FRAMES) for c in contexts]
    generator = Generator.load(voice_directory, device="cpu")
    n_read: list[int] = []

    def read_prompt(state: CsmState, tokens: Tensor, *rest: Any, **named: Any) -> Tensor:
        n_read[-1] += 1
        return CsmModel.read_prompt(generator.model, state, tokens, *rest, **named)

    monkeypatch.setattr(generator.model, "read_prompt", read_prompt)
    for context, expected in zip(contexts, fresh, strict=True):
        n_read.append(0)
        assert torch.equal(generator.generate(TEXT, 0, list(context), **TEN_FRAMES), expected)
    assert [n - 1 for n in n_read] == [2, 1, 1, 3, 1, 1], "turns read, besides the text to speak"


def count_rows(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every prompt block the generator reads from here on."""
    n_rows: list[int] = []

    def read_prompt(state: CsmState, tokens: Tensor, *rest: Any, **named: Any) -> Tensor:
        n_rows.append(tokens.shape[1])
        return CsmModel.read_prompt(generator.model, state, tokens, *rest, **named)

    monkeypatch.setattr(generator.model, "read_prompt", read_prompt)
    return n_rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("execution", ["eager", "static"])
def test_what_was_said_before_never_changes_the_codes(voice_directory: Path, dtype: torch.dtype, execution: str):
    def load() -> Generator:
        return Generator.load(voice_directory, device="cpu", dtype=dtype, execution=execution)

    generator, fresh = load(), load()
    context = [Segment(0, "a voice to speak like.", codes=torch.randint(0, 64, (N_CODEBOOKS, 9)))]
    for turn in range(6):
        text, n_frames = f"answer {turn}.", 6 + turn
        stream = generator.frames(text, 0, context, max_audio_length_ms=80 * n_frames, seed=turn, guards=None)
        frames = [next(stream) for _ in range(n_frames - turn % 2)]  # to its end, or interrupted
        stream.close()
        context.append(Segment(0, text, codes=torch.stack(frames, dim=1)))
        asked = {"max_audio_length_ms": 960, "seed": 40 + turn, "guards": None}
        again = torch.stack(list(generator.frames(TEXT, 0, context, **asked)))
        unused = Generator(fresh.model, fresh.tokenizer, fresh.codec, execution=execution)
        assert torch.equal(again, torch.stack(list(unused.frames(TEXT, 0, context, **asked)))), f"turn {turn}"


def test_only_the_last_answer_is_read_for_the_next_turn(voice_directory: Path, monkeypatch: pytest.MonkeyPatch):
    generator = Generator.load(voice_directory, device="cpu")
    context: list[Segment] = []
    for turn in range(4):
        n_rows = count_rows(generator, monkeypatch)
        stream = generator.frames("well.", 0, context, max_audio_length_ms=640, seed=turn, guards=None)
        codes = torch.stack(list(stream), dim=1)
        n_text = len("[0]well.") + 2
        assert n_rows == [*[n_text + 8 + 1] * (turn > 0), n_text], "the last answer with its end frame, and the text"
        context.append(Segment(0, "well.", codes=codes))


def test_interleaved_streams_do_not_disturb_each_other(generator: Generator):
    texts = ("Good morning.", "What is the time?")
    expected = [generator.generate(text, **TEN_FRAMES) for text in texts]
    streams = [generator.generate_streaming(text, chunk_frames=1, **TEN_FRAMES) for text in texts]
    pairs = list(zip(*streams, strict=True))
    for row, audio in enumerate(expected):
        assert torch.equal(torch.cat([pair[row] for pair in pairs]), audio)


def test_a_stream_can_be_closed_from_another_thread_while_it_speaks(generator: Generator):
    stream = generator.generate_streaming(TEXT, chunk_frames=1, max_audio_length_ms=16_000, seed=1)
    started = threading.Event()
    received = []

    def listen() -> None:
        for chunk in stream:
            received.append(chunk)
            started.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert started.wait(10)
    stream.close()
    listener.join(10)
    assert not listener.is_alive()
    assert 0 < len(received) < 200 and stream.finish_reason == "interrupted"


def test_what_comes_out_may_be_changed_and_differentiated(generator: Generator):
    stream = generator.generate_streaming(TEXT, **TEN_FRAMES)
    chunk = next(stream)
    chunk *= 0.5
    (chunk * torch.ones(1, requires_grad=True)).sum().backward()
    frame = next(generator.frames(TEXT))
    frame += 1


def test_warming_up_changes_nothing_that_follows(generator: Generator):
    expected = generator.generate(TEXT, **TEN_FRAMES)
    generator.warm_up()
    assert torch.equal(generator.generate(TEXT, **TEN_FRAMES), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": ""}, "text='': give a sentence"),
        ({"text": "  \n"}, "give a sentence to speak"),
        ({"text": None}, "text=None"),
        ({"speaker": -1}, "speaker=-1: give a non-negative integer"),
        ({"speaker": 0.5}, r"speaker=0\.5"),
        ({"speaker": True}, "speaker=True"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"temperature": -1}, "temperature=-1: give a finite number of at least 0"),
        ({"topk": 0}, "topk=0: give an integer of at least 1"),
        ({"chunk_frames": 0}, "chunk_frames=0: give a number of frames of at least 1"),
        ({"chunk_frames": ()}, r"chunk_frames=\(\)"),
        ({"chunk_frames": (1, -2)}, r"chunk_frames=\(1, -2\)"),
        ({"chunk_frames": 1.5}, r"chunk_frames=1\.5"),
        ({"chunk_frames": "six"}, "chunk_frames='six'"),
        ({"max_audio_length_ms": 79}, "max_audio_length_ms=79: give at least one frame, 80 ms"),
        ({"max_audio_length_ms": float("inf")}, "max_audio_length_ms=inf"),
        ({"seed": -3}, "seed=-3: give an integer"),
        ({"seed": "lucky"}, "seed='lucky'"),
        ({"context": [torch.zeros(10)]}, "context holds a Tensor: give a list of Segments"),
        ({"context": Segment(0, "hi")}, "context holds a Segment: give a list"),
    ],
)
def test_what_cannot_be_used_is_refused_at_the_call(generator: Generator, options, message):
    with pytest.raises(InputError, match=message):
        generator.generate_streaming(**{"text": "hello", **options})


def test_text_and_context_beyond_the_model_are_refused_at_the_call(generator: Generator):
    with pytest.raises(ContextOverflowError, match="text of 2005 positions"):
        generator.frames("a" * 2000)
    spoken = Segment(0, "yes", torch.zeros(FRAME * 200))
    with pytest.raises(ContextOverflowError, match="drop the oldest segments"):
        generator.frames("hello", 0, [spoken])
    request = generator.request("hello", 0, [spoken, Segment(0, "no")])
    assert len(list(generator.run(generator.fit(request)))) <= 100


def test_a_codec_of_other_sizes_is_refused(voice_directory: Path):
    with pytest.raises(CheckpointError, match="codec with 2 codebooks of 64 codes, voice with 4 of 64"):
        Generator.load(voice_directory, codec=FakeCodec(2, 64), device="cpu")


def test_a_codec_may_be_given_as_an_object(voice_directory: Path):
    generator = Generator.load(voice_directory, codec=FakeCodec(N_CODEBOOKS, 64), device="cpu")
    assert generator.generate(TEXT, **TEN_FRAMES).shape == (10 * FRAME,)


def test_a_voice_that_is_not_there_is_named_with_the_remedy(tmp_path: Path):
    with pytest.raises(CheckpointNotFoundError, match=r"no voice '.*nowhere': give 'pocket', a checkpoint directory"):
        Generator.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointNotFoundError, match="no voice ''"):
        Generator.load("")
    with pytest.raises(InputError, match=r"dtype=torch\.int8: give torch\.float32"):
        Generator.load(tmp_path, device="cpu", dtype=torch.int8)
    with pytest.raises(InputError, match=r"dtype=torch\.float8_e4m3fn: give torch\.float32"):
        Generator.load(tmp_path, device="cpu", dtype=torch.float8_e4m3fn)
    with pytest.raises(DeviceError, match="device 'abacus' cannot be used"):
        Generator.load(tmp_path, device="abacus")


def test_the_fake_speaks_through_the_same_interface():
    fake = FakeGenerator()
    assert isinstance(fake, SpeechGenerator)
    whole = fake.generate("one two three", seed=1)
    assert whole.shape == (6 * FRAME,)
    stream = fake.generate_streaming("one two three", chunk_frames=4, seed=1)
    assert torch.equal(torch.cat(list(stream)), whole) and stream.finish_reason == "end_of_speech"
    assert fake.requests[-1].text == "one two three"
    stream = fake.generate_streaming("one two three", max_audio_length_ms=160)
    assert len(list(stream)) == 1 and stream.finish_reason == "max_length"
    with pytest.raises(DeviceError, match="told to fail after 2 frames"):
        FakeGenerator(fails_after=2).generate("one two three")


def test_importing_the_package_loads_neither_torch_nor_a_model():
    heavy = "{'torch', 'transformers', 'numpy', 'faster_whisper'}"
    code = f"import csmkit, os, sys; print(sorted({heavy} & set(sys.modules)), os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "PASSIVE"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("execution", ["eager", "static"])
def test_a_context_read_ahead_is_not_read_again_and_changes_no_code(voice_directory: Path, dtype, execution):
    context = [Segment(0, "hi."), Segment(1, "well? " * 20, codes=torch.randint(0, 64, (N_CODEBOOKS, 30)))]

    def load() -> Generator:
        return Generator.load(voice_directory, device="cpu", dtype=dtype, execution=execution)

    generator = load()
    watched = WatchedStep(generator)
    n_pieces = len(list(generator.read_ahead(context)))
    n_ahead, watched.n_rows = watched.n_rows, 0
    codes = list(generator.frames(TEXT, 0, context, **TEN_FRAMES))
    n_text_rows = generator.prompts.n_rows(generator.request(TEXT))
    assert watched.n_rows == n_text_rows, "the text alone"
    assert n_ahead == generator.prompts.n_rows(generator.request(TEXT, 0, context)) - n_text_rows
    assert n_pieces == 4, "a turn of three blocks and a short one"
    assert torch.equal(torch.stack(codes), torch.stack(list(load().frames(TEXT, 0, context, **TEN_FRAMES))))


def test_reading_ahead_may_stop_at_any_piece_and_what_was_read_counts(voice_directory: Path):
    generator = Generator.load(voice_directory, device="cpu")
    watched = WatchedStep(generator)
    context = [Segment(0, "hi."), Segment(1, "well?"), Segment(0, "fine, thank you.")]
    pieces = generator.read_ahead(context)
    next(pieces)
    pieces.close()
    assert list(generator.read_ahead([])) == []
    watched.n_rows = 0
    assert len(list(generator.read_ahead(context))) == 2
    assert list(generator.read_ahead(context)) == []
