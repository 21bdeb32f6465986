"""The recorder of CUDA graphs, on a CPU with a fake: what is recorded runs on the memory it was recorded with."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_cuda
import pytest
import torch
from fake_cuda import FakeCuda
from tiny import save_voice, tiny_csm

from csmkit import Generator, Segment
from csmkit.csm.execution.cuda_graph import N_AHEAD, N_WARM_UPS, CudaGraphs
from csmkit.csm.execution.static import StaticStep
from csmkit.csm.model import CsmModel
from csmkit.errors import DeviceMemoryError

TEXT = "hello there, how are you today?"
CPU = torch.device("cpu")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return fake_cuda.install(monkeypatch)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_voice(tiny_csm(seed=3), tmp_path_factory.mktemp("graph"))


def recorded(directory: Path) -> Generator:
    """A generator in the mode "graph", but for the device."""
    generator = Generator.load(directory, device="cpu")
    recorder = CudaGraphs(CPU)
    generator.step = StaticStep(generator.model, generator.codec.decoder, recorder, N_AHEAD, n_warm_ups=N_WARM_UPS)
    generator.n_warm_ups = N_WARM_UPS
    return generator


def codes(generator: Generator, text: str = TEXT, context: tuple[Segment, ...] = (), **how: Any) -> torch.Tensor:
    frames = generator.frames(text, 1, context, max_audio_length_ms=80 * 12, guards=None, **how)
    return torch.stack(list(frames), dim=1)


def keys(generator: Generator) -> set[Any]:
    """What was recorded over the buffers of one stream."""
    gc.collect()
    (buffers,) = generator.step.free[1]
    return set(buffers.recorded)


def test_launched_frames_say_what_eager_says(directory: Path, cuda: FakeCuda):
    eager, graph = Generator.load(directory, device="cpu"), recorded(directory)
    for seed in range(4):  # run, recorded, launched
        how = {"seed": seed, "temperature": 0.5 + 0.2 * seed, "topk": 5 + seed}
        expected = eager.generate(TEXT, max_audio_length_ms=960, guards=None, **how)
        sound = graph.generate(TEXT, max_audio_length_ms=960, guards=None, **how)
        torch.testing.assert_close(sound, expected, atol=2e-5, rtol=0)
    assert sum(line.endswith("launch") for line in cuda.log) > 20
    assert len({line for line in cuda.log if line.endswith("begin")}) == 1, "on a stream of its own"


def test_recordings_do_not_pile_up_with_settings(directory: Path, cuda: FakeCuda):
    graph = recorded(directory)
    for _ in range(2):  # run, recorded
        graph.generate(TEXT, seed=0, max_audio_length_ms=400)
    before = keys(graph)
    for topk in (1, 2, 7, 50, 64):
        graph.generate(TEXT, seed=0, topk=topk, temperature=topk / 10, max_audio_length_ms=400)
    assert keys(graph) == before


def test_warming_up_records_prompts_and_frames_of_all_lengths(
    directory: Path, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("csmkit.csm.execution.static.SMALLEST_SPAN", 32)
    graph = recorded(directory)
    graph.warm_up()
    before, n_recordings = keys(graph), sum(line.endswith("begin") for line in cuda.log)
    assert [key[1] for key in sorted(key for key in before if key[0] == "read")] == [16, 32, 64, 128, 256]
    assert {key[3] for key in before if key[0] == "frame" and key[2] and not key[1]} == {32, 64, 128, 257}
    for n_letters in (1, 20, 40, 100, 180):
        graph.generate("a" * n_letters, seed=1, max_audio_length_ms=240)
    assert keys(graph) == before
    assert sum(line.endswith("begin") for line in cuda.log) == n_recordings, "nothing is left to be recorded"


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4])
def test_an_error_inside_a_frame_leaves_nothing_for_those_that_follow(
    directory: Path, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, fails_at: int
):
    eager, graph = Generator.load(directory, device="cpu"), recorded(directory)
    expected = codes(eager, seed=7)
    speak, n_frames = CsmModel.speak_frame, 0

    def failing(*given: Any) -> Any:
        nonlocal n_frames
        n_frames += 1
        if n_frames == fails_at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return speak(*given)

    stream = graph.frames(TEXT, 1, seed=7, max_audio_length_ms=960, guards=None)
    with monkeypatch.context() as patched:
        patched.setattr(CsmModel, "speak_frame", failing)
        # The third and the fourth are of frames run before: they fail while they are recorded.
        with pytest.raises(DeviceMemoryError):
            for _ in range(3):
                list(stream)
                stream = graph.frames(TEXT, 1, seed=7, max_audio_length_ms=960, guards=None)
    for _ in range(4):
        assert torch.equal(codes(graph, seed=7), expected)


def test_buffers_never_move(directory: Path, monkeypatch: pytest.MonkeyPatch):
    generator = Generator.load(directory, device="cpu")
    generator.step = step = StaticStep(generator.model, generator.codec.decoder)
    places = []

    def noted(buffers: Any) -> list[int]:
        state = buffers.state
        tensors = [state.hidden, state.codes, *state.backbone.layers, *state.depth.layers, state.noise.counter]
        return [one.data_ptr() for one in (*tensors, state.noise.topk, buffers.position, buffers.frame, buffers.sound)]

    codes(generator, seed=1)
    gc.collect()
    (buffers,) = step.free[1]
    places.append(noted(buffers))

    def broken(*_: object) -> None:
        raise RuntimeError("out of order")

    with monkeypatch.context() as patched:
        patched.setattr("csmkit.csm.execution.static.packed", broken)
        with pytest.raises(RuntimeError, match="out of order"):
            codes(generator, seed=1)
    assert noted(buffers) == places[0], "an error in the middle of a frame replaces no tensor"
    gc.collect()
    assert step.free[1] == [], "and nobody gets what it left half-way"


def body_that(refuses: Callable[[], bool]) -> Callable[[], None]:
    """A body that counts, and asks the device for a number where it is told to."""
    one = torch.ones(2)

    def body() -> None:
        one.add_(1)
        if refuses():
            one.sum().item()

    return body


def test_a_refused_recording_leaves_the_thread_on_its_stream(cuda: FakeCuda, caplog: pytest.LogCaptureFixture):
    recorder, kept = CudaGraphs(CPU), {}
    cuda.refuses_to_end = True
    body = body_that(lambda: True)
    for key in ("frame", "read"):
        for _ in range(3):
            recorder.run(kept, key, body)
            assert cuda.stream_name() == "default"
    assert [line.split(": ")[1] for line in cuda.log].count("end") == 2, "each was ended, and tried once"
    (record,) = caplog.records
    assert record.message.endswith(f"{fake_cuda.REFUSED}. It is run each time."), "the first reason, not its echo"


def test_what_was_run_once_is_recorded_at_once_over_other_buffers(cuda: FakeCuda):
    recorder, kept = CudaGraphs(CPU), ({}, {})
    counts = torch.zeros(2, dtype=torch.int64)
    for index, recorded_here in enumerate(kept):
        recorder.run(recorded_here, "frame", lambda index=index: counts[index].add_(1))
    assert counts.tolist() == [1, 1] and [len(recorded_here) for recorded_here in kept] == [0, 1]
    assert [line.split(": ")[1] for line in cuda.log if line.endswith(("begin", "launch"))] == ["begin", "launch"]


def test_warming_up_for_several_streams_records_every_size_of_batch_over_two_sets_of_buffers(
    directory: Path, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("csmkit.csm.execution.static.SMALLEST_SPAN", 128)
    graph = recorded(directory)
    graph.warm_up(n_streams=3)
    gc.collect()
    assert {batch: len(free) for batch, free in graph.step.free.items()} == {1: 2, 2: 2, 4: 2}
    for batch, free in graph.step.free.items():
        for buffers in free:
            frames = {key[1:4] for key in buffers.recorded if key[0] == "frame" and key[4] == batch}
            assert {(False, True, 128), (False, True, 257)} < frames and any(first for first, *_ in frames)


def test_memory_that_runs_out_while_recording_is_an_error_and_no_refusal(cuda: FakeCuda):
    recorder, kept, calls = CudaGraphs(CPU), {}, []

    def body() -> None:
        calls.append("ran")
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    recorder.run(kept, "frame", body)
    cuda.refuses_to_end = True
    with pytest.raises(torch.OutOfMemoryError):
        recorder.run(kept, "frame", body)
    assert cuda.stream_name() == "default" and gc.isenabled()


def test_a_thread_that_never_multiplied_can_record(cuda: FakeCuda, caplog: pytest.LogCaptureFixture):
    recorder, kept = CudaGraphs(CPU), {}
    left, right, product = torch.eye(2), torch.ones(2, 2), torch.zeros(2, 2)

    def body() -> None:
        product.copy_(left @ right)

    recorder.run(kept, "frame", body)
    thread = threading.Thread(target=recorder.run, args=(kept, "frame", body))
    thread.start()
    thread.join()
    assert not caplog.records
    left.mul_(3)
    recorder.run(kept, "frame", body)
    assert torch.equal(product, 3 * right)
    whats = [line.split(": ")[1] for line in cuda.log]
    assert whats.index("tiny product") < whats.index("begin")


def test_everything_happens_on_the_device_of_the_voice(cuda: FakeCuda):
    recorder, kept = CudaGraphs(torch.device("cuda", 1)), {}
    for _ in range(3):
        recorder.run(kept, "frame", body_that(lambda: False))
        recorder.wait()()
    assert {"pool", "event", "tiny product", "begin", "end", "launch"} <= {line.split(": ")[1] for line in cuda.log}
    assert all(line.startswith("1 ") for line in cuda.log), cuda.log


def test_recorders_record_on_streams_of_their_own_and_launches_wait_for_each_other(cuda: FakeCuda):
    recorders = [CudaGraphs(CPU) for _ in range(2)]
    kept: list[dict] = [{}, {}]
    for recorder, mine in zip(recorders, kept, strict=True):
        for _ in range(2):
            recorder.run(mine, "frame", body_that(lambda: False))
    begun = [line for line in cuda.log if line.endswith("begin")]
    assert len(set(begun)) == 2 and not any("default" in line for line in begun)
    cuda.log.clear()
    other = cuda.new_stream()
    with cuda.stream(other):
        recorders[0].run(kept[0], "frame", body_that(lambda: False))
    recorders[0].run(kept[0], "frame", body_that(lambda: False))
    assert cuda.log == [
        f"0 {other.name}: wait for default",
        f"0 {other.name}: launch",
        f"0 default: wait for {other.name}",
        "0 default: launch",
    ], "they share their scratch memory"
