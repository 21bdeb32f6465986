"""Several utterances at once: each row must sound as it does alone."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from tiny import N_CODEBOOKS, save_voice, tiny_csm

from csmkit import Generator, Segment
from csmkit.audio import FRAME_SAMPLES
from csmkit.csm.config import Sampling
from csmkit.csm.model import CsmModel, CsmState
from csmkit.csm.sampling import Noise, sample
from csmkit.errors import ContextOverflowError, InputError
from csmkit.mimi.codecs import FakeCodec
from csmkit.speech.base import FakeGenerator
from csmkit.speech.settings import Request

TEXTS = ("hello there.", "what is the time, please?", "no.", "a rather longer sentence than the others are.")


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return Generator.load(save_voice(tiny_csm(seed=3), tmp_path_factory.mktemp("batch")), device="cpu")


def requests(generator: Generator, heat: float) -> list[Request]:
    """Rows that differ in all that a row may."""
    sound = 0.3 * torch.randn(FRAME_SAMPLES * 4, generator=torch.Generator().manual_seed(0))
    return [
        generator.request(TEXTS[0], 0, seed=1, max_audio_length_ms=960, temperature=heat),
        generator.request(
            TEXTS[1],
            1,
            (Segment(0, "yes.", sound),),
            seed=2,
            topk=3,
            max_audio_length_ms=2_000,
            temperature=heat,
        ),
        generator.request(TEXTS[2], 0, seed=3, max_audio_length_ms=240, temperature=heat),
        generator.request(TEXTS[3], 1, seed=4, max_audio_length_ms=1_600, temperature=heat),
    ]


def alone(generator: Generator, request: Request) -> torch.Tensor:
    return torch.stack(list(generator.run(request)), dim=1)


@pytest.mark.parametrize("temperature", [0.0, 0.9], ids=["greedy", "sampled"])
def test_a_row_says_what_its_request_says_alone(generator: Generator, temperature: float):
    asked = requests(generator, temperature)
    batch = generator.generate_streaming_batch(asked, chunk_frames=(1, 2))
    sound: dict[int, list[torch.Tensor]] = {row: [] for row in range(len(asked))}
    for row, chunk in batch:
        sound[row].append(chunk)
    for row, request in enumerate(asked):
        expected = alone(generator, request)
        assert torch.equal(batch.streams[row].codes, expected), f"row {row}"
        whole = generator.codec.decode_whole(expected)
        torch.testing.assert_close(torch.cat(sound[row]), whole, atol=1e-4, rtol=0)
        assert batch.streams[row].finish_reason == "max_length"
    assert len({stream.codes.shape[1] for stream in batch.streams}) > 2, "rows of one length would prove little"


def test_rows_that_have_ended_are_computed_no_more(generator: Generator, monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    speak = CsmModel.speak_frame

    def watched(model: CsmModel, state: CsmState, *rest) -> torch.Tensor:
        sizes.append(len(state.hidden))
        return speak(model, state, *rest)

    monkeypatch.setattr(CsmModel, "speak_frame", watched)
    asked = [generator.request(text, seed=i, max_audio_length_ms=80 * (2 + 3 * i)) for i, text in enumerate(TEXTS)]
    for _ in generator.generate_streaming_batch(asked, 1):
        pass
    assert sizes == [4] * 2 + [3] * 3 + [2] * 3 + [1] * 3


def test_the_rows_of_a_batch_share_one_pass_of_the_codec(generator: Generator, monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    decode = generator.codec.decoder.forward

    def watched(codes: torch.Tensor, state: object) -> torch.Tensor:
        sizes.append(len(codes))
        return decode(codes, state)

    monkeypatch.setattr(generator.codec.decoder, "forward", watched)
    asked = [generator.request(text, seed=i, max_audio_length_ms=80 * (2 + 3 * i)) for i, text in enumerate(TEXTS)]
    for _ in generator.generate_streaming_batch(asked, 1):
        pass
    assert sizes == [4] * 2 + [3] * 3 + [2] * 3 + [1] * 3


def test_a_codec_of_single_streams_speaks_batches_too(generator: Generator):
    alone = Generator(generator.model, generator.tokenizer, FakeCodec(N_CODEBOOKS, 64))
    asked = [alone.request(text, seed=i, max_audio_length_ms=80 * (3 + i), guards=None) for i, text in enumerate(TEXTS)]
    sound: list[list[torch.Tensor]] = [[] for _ in asked]
    for row, chunk in alone.generate_streaming_batch(asked, 2):
        sound[row].append(chunk)
    for request, chunks in zip(asked, sound, strict=True):
        assert torch.equal(torch.cat(chunks), torch.cat(list(alone.speak(request, (2,)))))


def test_closing_a_row_ends_that_row_alone(generator: Generator):
    asked = [generator.request(text, seed=i, max_audio_length_ms=800) for i, text in enumerate(TEXTS)]
    batch = generator.generate_streaming_batch(asked, 2)
    rows = []
    for row, _ in batch:
        rows.append(row)
        if row == 1:
            batch.streams[1].close()
    assert rows.count(1) == 1 and all(rows.count(row) == 5 for row in (0, 2, 3))
    assert [stream.finish_reason for stream in batch.streams] == [
        "max_length",
        "interrupted",
        "max_length",
        "max_length",
    ]
    assert torch.equal(batch.streams[3].codes, alone(generator, asked[3]))


@pytest.mark.parametrize("closed", [0, 2])
def test_a_row_closed_before_anything_ran_ends_alone(generator: Generator, closed: int):
    asked = [generator.request(text, seed=i, max_audio_length_ms=800) for i, text in enumerate(TEXTS)]
    batch = generator.generate_streaming_batch(asked, 2)
    batch.streams[closed].close()
    rows = [row for row, _ in batch]
    assert rows.count(closed) == 0 and all(rows.count(row) == 5 for row in range(4) if row != closed)
    for row in {0, 1, 2, 3} - {closed}:
        assert torch.equal(batch.streams[row].codes, alone(generator, asked[row])), f"row {row}"
    assert batch.streams[closed].finish_reason == "interrupted"


def test_all_rows_closed_before_anything_ran_compute_nothing(generator: Generator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(generator.step, "read", lambda *_: pytest.fail("nothing is wanted"))
    batch = generator.generate_streaming_batch([generator.request(text) for text in TEXTS], 2)
    batch.close()
    assert list(batch) == []


def test_a_row_that_was_dropped_without_closing_it_is_computed_no_more(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
):
    sizes: list[int] = []
    speak = CsmModel.speak_frame

    def watched(model: CsmModel, state: CsmState, *rest) -> tuple:
        sizes.append(len(state.hidden))
        return speak(model, state, *rest)

    monkeypatch.setattr(CsmModel, "speak_frame", watched)
    asked = [generator.request(text, seed=i, max_audio_length_ms=480) for i, text in enumerate(TEXTS[:3])]
    streams = generator.run_batch(asked)
    next(streams[0])
    del streams[1:]  # one after a frame was made for it, as for the others
    frames = list(streams[0])
    assert len(frames) == 5 and sizes == [3] + [1] * 5
    other, kept = generator.run_batch(asked[:2])
    del other  # before anything ran
    sizes.clear()
    assert len(list(kept)) == 6 and sizes == [1] * 6


def test_closing_the_batch_frees_its_state_at_once(generator: Generator, monkeypatch: pytest.MonkeyPatch):
    seen: list[weakref.ref[CsmState]] = []
    join = CsmState.join.__func__

    def watched(cls: type[CsmState], states: list[CsmState]) -> CsmState:
        seen.append(weakref.ref(state := join(cls, states)))
        return state

    monkeypatch.setattr(CsmState, "join", classmethod(watched))
    asked = [generator.request(text, seed=i, max_audio_length_ms=800) for i, text in enumerate(TEXTS)]
    with generator.generate_streaming_batch(asked, 2) as batch:
        next(batch)
        assert seen[0]() is not None
    gc.collect()
    assert seen[0]() is None
    assert next(batch, None) is None
    assert {stream.finish_reason for stream in batch.streams} == {"interrupted"}


def test_an_error_in_a_shared_pass_is_the_error_of_every_row(generator: Generator, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise RuntimeError("out of order")

    batch = generator.generate_streaming_batch([generator.request(text, seed=0) for text in TEXTS], 1)
    next(batch)
    monkeypatch.setattr(CsmModel, "speak_frame", broken)
    with pytest.raises(RuntimeError, match="out of order"):
        list(batch)
    for _ in TEXTS[1:]:
        with pytest.raises(RuntimeError, match="out of order"):
            list(batch)
    assert list(batch) == []
    assert {stream.finish_reason for stream in batch.streams} == {"interrupted"}


def test_what_is_no_request_is_refused(generator: Generator):
    with pytest.raises(InputError, match="no list of requests"):
        generator.generate_streaming_batch([])
    with pytest.raises(InputError, match="no list of requests"):
        generator.generate_streaming_batch(generator.request("hello"))
    with pytest.raises(InputError, match="a str among the requests"):
        generator.generate_streaming_batch(["hello"])
    with pytest.raises(ContextOverflowError):
        generator.generate_streaming_batch([generator.request("hello " * 100)])


def test_a_fake_generator_speaks_batches_too():
    generator = FakeGenerator()
    asked = [generator.request(text, seed=1) for text in ("one two", "three")]
    rows = [row for row, _ in generator.generate_streaming_batch(asked, 2)]
    assert rows == [0, 1, 0]


def test_every_row_has_its_own_topk():
    logits = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(3, 20, generator=torch.Generator().manual_seed(1))
    together = sample(logits, noise, torch.tensor([[1], [5], [20]]))
    one_by_one = [sample(logits[i : i + 1], noise[i : i + 1], k) for i, k in enumerate((1, 5, 20))]
    for both, alone in zip(together, zip(*one_by_one, strict=True), strict=True):
        assert torch.equal(both, torch.cat(alone))


def test_noise_goes_on_where_it_was_when_rows_join_and_leave(generator: Generator):
    def noise(*seeds: int) -> Noise:
        return Noise(generator.config, [Sampling()] * len(seeds), seeds, torch.device("cpu"))

    both, first, second = noise(1, 2), noise(1), noise(2)
    joined = Noise.join([first, second])
    for _ in range(3):
        assert torch.equal(joined.draw(), torch.cat([first.draw(), second.draw()]))
        both.draw()
    last, moved = both.take([1]), noise(3, 4, 5)
    moved.load(1, both, [1])
    expected = second.draw()
    assert torch.equal(last.draw(), expected) and torch.equal(moved.draw()[1:2], expected)
    assert torch.equal(both.draw()[1:], expected), "whoever was taken from goes on, too"
    assert expected.shape[1] == N_CODEBOOKS
