"""How a frame runs: all modes give the same codes, and what is not available falls back and says why."""

from __future__ import annotations

import gc
import logging
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import fake_cuda
import pytest
import torch
from fake_cuda import FakeCuda
from tiny import save_voice, tiny_csm
from torch import Tensor

from csmkit import Generator, Segment
from csmkit.csm.config import Sampling
from csmkit.csm.execution import choose
from csmkit.csm.execution import static as static_step
from csmkit.csm.execution.cuda_graph import CudaGraphs, graph_step
from csmkit.csm.execution.eager import EagerStep
from csmkit.csm.execution.static import StaticStep
from csmkit.csm.execution.step import Made
from csmkit.csm.sampling import Noise
from csmkit.errors import DeviceError, InputError
from csmkit.speech.settings import Request

TEXTS = ("hello there, how are you today?", "no.", "what is the time, please?", "a longer sentence than the others.")
TEXT, CPU = TEXTS[0], torch.device("cpu")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return fake_cuda.install(monkeypatch)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_voice(tiny_csm(seed=3), tmp_path_factory.mktemp("execution"))


@pytest.fixture(scope="module")
def eager(directory: Path) -> Generator:
    return Generator.load(directory, device="cpu", execution="eager")


@pytest.fixture(params=[0, 1], ids=["in step", "one frame ahead"])
def static(request: pytest.FixtureRequest, directory: Path) -> Generator:
    """The graph's frame, uncaptured; with the lookahead that a GPU has, and without."""
    generator = Generator.load(directory, device="cpu", execution="static")
    generator.step = StaticStep(generator.model, generator.codec.decoder, n_ahead=request.param)
    return generator


def turns() -> tuple[Segment, ...]:
    noise = torch.Generator().manual_seed(0)
    return tuple(
        Segment(i % 2, f"turn {i}.", codes=torch.randint(0, 64, (4, 7 + 12 * i), generator=noise)) for i in range(3)
    )


def codes(generator: Generator, text: str = TEXTS[0], context: tuple[Segment, ...] = (), **how: object) -> torch.Tensor:
    frames = generator.frames(text, 1, context, max_audio_length_ms=80 * 30, **how)
    return torch.stack(list(frames), dim=1)


@pytest.mark.parametrize("context", [(), turns()], ids=["alone", "after turns"])
@pytest.mark.parametrize("how", [{"temperature": 0.0}, {"seed": 5}, {"seed": 6, "topk": 3, "temperature": 1.3}])
def test_constant_shapes_say_what_eager_says(eager: Generator, static: Generator, how: dict, context: tuple):
    expected = codes(eager, context=context, **how)
    assert len(expected.unique(dim=1)) > 1 and expected.shape[1] > 10
    for _ in range(2):  # the second utterance takes the first one's buffers
        assert torch.equal(codes(static, context=context, **how), expected)


def test_sound_made_with_the_frames_is_that_of_the_codec(eager: Generator, static: Generator):
    how = {"seed": 4, "max_audio_length_ms": 80 * 20, "guards": None}
    expected = eager.generate(TEXTS[0], **how)
    assert static.step.makes_sound and not eager.step.makes_sound
    for _ in range(2):
        torch.testing.assert_close(static.generate(TEXTS[0], **how), expected, atol=2e-5, rtol=0)


def mixed(generator: Generator) -> list[Request]:
    """Rows that differ in all that a row may, five of them: the buffers have three rows more."""
    rows = []
    for i, text in enumerate((*TEXTS, TEXTS[0])):
        length = 80 * (3, 25, 12, 9, 17)[i]
        how = {"temperature": (0.0, 0.9, 0.7, 1.2, 0.9)[i], "topk": (50, 5, 50, 20, 2)[i]}
        rows.append(generator.request(text, i % 2, turns()[: i % 3], seed=i, max_audio_length_ms=length, **how))
    return rows


def test_rows_of_a_batch_say_and_sound_what_they_do_alone(eager: Generator, static: Generator):
    batch = static.generate_streaming_batch(mixed(static), chunk_frames=2)
    sound: dict[int, list[torch.Tensor]] = {row: [] for row in range(5)}
    for row, chunk in batch:
        sound[row].append(chunk)
    for row, request in enumerate(mixed(eager)):
        alone = eager.speak(request, (2,))
        expected = torch.cat(list(alone))
        assert torch.equal(batch.streams[row].codes, alone.codes), f"row {row}"
        torch.testing.assert_close(torch.cat(sound[row]), expected, atol=2e-5, rtol=0)
    assert sorted(static.step.free) == [1, 2, 4, 8], "buffers shrink with the batch"


def test_streams_that_interleave_have_buffers_each_and_give_them_back(eager: Generator, static: Generator):
    expected = [codes(eager, text, seed=9) for text in TEXTS[:2]]
    streams = [static.frames(text, 1, max_audio_length_ms=80 * 30, seed=9) for text in TEXTS[:2]]
    pairs = list(zip(*streams, strict=False))
    for row, frames in enumerate(expected):
        n_frames = min(len(pairs), frames.shape[1])
        assert torch.equal(torch.stack([pair[row] for pair in pairs[:n_frames]], dim=1), frames[:, :n_frames])
    del streams
    gc.collect()
    (free,) = static.step.free.values()
    assert len(free) == 2
    codes(static, seed=9)
    assert len(free) == 2, "the next stream takes one of them"


@pytest.mark.parametrize("n_ahead", [0, 1])
def test_streams_that_join_and_leave_a_running_batch_say_and_sound_what_they_do_alone(eager: Generator, n_ahead: int):
    model, decoder = eager.model, eager.codec.decoder
    step = StaticStep(model, decoder, n_ahead=n_ahead)

    def begun(speaker: int) -> Any:
        ids = eager.tokenizer.ids(speaker, "hello.")
        tokens = torch.zeros(1, len(ids), model.config.n_slots, dtype=torch.int64)
        tokens[0, :, -1] = torch.tensor(ids)
        mask = torch.zeros_like(tokens, dtype=torch.bool)
        mask[..., -1] = True
        state = step.new_state(100, Noise(model.config, [Sampling(topk=3 + speaker)], [speaker], CPU))
        step.read(state, tokens, mask)
        return state

    def made(state: Any, n_frames: int, first: bool = False) -> list[Made]:
        return [step.first(state, True) if first and not n else step.next(state) for n in range(n_frames)]

    alone = [made(begun(speaker), 9, first=True) for speaker in range(3)]
    found: list[list[tuple[Tensor, Tensor]]] = [[], [], []]

    def note(rows: list[int], frames: list[Made]) -> None:
        for frame in frames:
            for index, row in enumerate(rows):
                found[row].append((frame.codes[index], frame.sound[index]))

    both, third = step.join([begun(0), begun(1)]), begun(2)
    note([0, 1], made(both, 3, first=True))
    note([2], made(third, 2, first=True))
    all_three = step.join([both, third])
    note([0, 1, 2], made(all_three, 2))
    middle = step.split(all_three, [1])
    outer = step.take(all_three, [2, 0])
    note([1], made(middle, 2))
    note([2, 0], made(outer, 4))
    again = step.join([outer, middle])
    note([2, 0, 1], made(step.take(again, [0, 1, 2]), 1))
    note([0], made(step.take(again, [1]), 0))
    for row, frames in enumerate(found):
        for index, (codes, sound) in enumerate(frames[:9]):
            assert torch.equal(codes, alone[row][index].codes[0]), (row, index)
            torch.testing.assert_close(sound, alone[row][index].sound[0], atol=2e-5, rtol=0)
    assert [len(frames) for frames in found] == [10, 8, 9]


def test_a_frame_attends_to_no_more_rows_than_it_must(directory: Path, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(static_step, "SMALLEST_SPAN", 16)
    generator, eager = Generator.load(directory, device="cpu"), Generator.load(directory, device="cpu")
    generator.step = StaticStep(generator.model, None, CudaGraphs(CPU))
    how = {"seed": 3, "guards": None, "max_audio_length_ms": 80 * 40}
    for _ in range(3):  # run, recorded, launched
        frames = torch.stack(list(generator.frames(TEXT, 1, **how)))
        assert torch.equal(frames, torch.stack(list(eager.frames(TEXT, 1, **how))))
    gc.collect()
    (buffers,) = generator.step.free[1]
    n_keys = sorted(key[3] for key in buffers.recorded if key[0] == "frame" and not key[1])
    assert n_keys == [64, 128], "of 34 prompt rows and 40 frames"


def test_a_frame_beyond_the_room_hurts_nobody(directory: Path, tmp_path: Path):
    voice = save_voice(tiny_csm(seed=3, max_positions=64), tmp_path)
    eager, ahead = (Generator.load(voice, device="cpu") for _ in range(2))
    ahead.step = StaticStep(ahead.model, n_ahead=1)
    room = 64 - len(eager.prompts.build(eager.request("hello."))[1][0].rows)
    for _ in range(2):
        found = [
            torch.stack(list(g.frames("hello.", seed=1, max_audio_length_ms=80 * room, guards=None)))
            for g in (eager, ahead)
        ]
        assert len(found[0]) == room, "the voice must fill all its positions"
        assert torch.equal(*found)


def test_a_prompt_of_any_length_fits_a_bucket(eager: Generator, static: Generator):
    for n_words in (1, 4, 9, 17, 30):
        text = "yes " * n_words + "no."
        assert torch.equal(codes(static, text, temperature=0.0), codes(eager, text, temperature=0.0)), n_words


def has_compiler() -> bool:
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return header.is_file() and any(shutil.which(name) for name in ("g++", "clang++", "c++"))


@pytest.mark.skipif(not has_compiler(), reason="inductor needs a C++ compiler and Python's headers")
@pytest.mark.filterwarnings("ignore")  # of the compiler's own making
@pytest.mark.timeout(900)  # it waits for a C++ compiler, which takes its time where cores are few
def test_compiled_says_greedily_what_eager_says(tmp_path: Path):
    voice = save_voice(tiny_csm(seed=3, n_layers=1), tmp_path)
    eager, generator = (Generator.load(voice, device="cpu", execution=mode) for mode in ("eager", "compiled"))
    assert isinstance(generator.step, StaticStep), "it fell back"
    expected = codes(eager, temperature=0.0)
    assert len(expected.unique(dim=1)) > 1
    assert torch.equal(codes(generator, temperature=0.0), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("how", [{"temperature": 0.0}, {"seed": 5}])
def test_a_recorded_frame_says_what_eager_says_on_the_same_device(directory: Path, how: dict):
    eager, graph = (
        Generator.load(directory, device="cuda", dtype=torch.float32, execution=mode) for mode in ("eager", "graph")
    )
    graph.warm_up()
    expected = codes(eager, **how)
    for _ in range(3):  # run, recorded, launched
        assert torch.equal(codes(graph, **how), expected)
    (free,) = graph.step.free.values()
    assert any(isinstance(kept, torch.cuda.CUDAGraph) for kept in free[0].recorded.values())
    sound = [g.generate(TEXTS[0], **how, max_audio_length_ms=1_600) for g in (eager, graph)]
    torch.testing.assert_close(*sound, atol=1e-4, rtol=0)


def test_what_cannot_be_had_falls_back_with_one_warning_that_says_why(
    directory: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise DeviceError("inductor cannot compile here (no compiler); install a C++ compiler, g++ or clang")

    monkeypatch.setattr(choose, "_try_inductor", broken)
    for mode, reason in (
        ("graph", "a CUDA graph needs a CUDA device, the model is on cpu"),
        ("compiled", "inductor cannot compile here"),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            generator = Generator.load(directory, device="cpu", execution=mode)
        (record,) = caplog.records
        assert f"execution={mode!r} is not available: {reason}" in record.message
        assert record.message.endswith("Using 'eager'.")
        assert isinstance(generator.step, EagerStep) and generator.execution == "eager"
        assert len(codes(generator, seed=0)) == 4
    caplog.clear()
    Generator.load(directory, device="cpu")
    assert not caplog.records, "'auto' asks for nothing that is not there"


def test_an_unknown_mode_is_refused_and_the_graph_asks_for_cuda(eager: Generator):
    modes = "'auto', 'eager', 'graph', 'compiled', 'int8', 'int4', 'static'"
    with pytest.raises(InputError, match=f"execution='fast': the modes are {modes}"):
        choose.make_step(eager.model, "fast")
    with pytest.raises(DeviceError, match="needs a CUDA device"):
        graph_step(eager.model, None)
