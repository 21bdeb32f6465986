"""The codec plugins: one interface, exact streams, checked codes, encoding like the references."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_mimi import random_codes, tiny_csm, tiny_mimi, whole
from torch import Tensor
from transformers import MimiModel

from csmkit import plugins
from csmkit.audio import FRAME_SAMPLES
from csmkit.codec import Codec, load_codec
from csmkit.errors import CheckpointError, InputError, PluginError, StateError
from csmkit.mimi.codecs import FakeCodec, IndependentCodec, StreamingCodec
from csmkit.mimi.files import CodecFiles

N_FRAMES = 12


@pytest.fixture(scope="module")
def model() -> MimiModel:
    return tiny_mimi()


@pytest.fixture(scope="module")
def directory(model: MimiModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mimi")
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def codec(directory: Path) -> StreamingCodec:
    return StreamingCodec.load(directory)


@pytest.fixture(scope="module")
def codes(model: MimiModel) -> Tensor:
    return random_codes(model.config, N_FRAMES)


def noise(n_samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, n_samples).astype(np.float32)


def error(given: Tensor, expected: Tensor) -> float:
    assert given.shape == expected.shape
    return float((given - expected).abs().max() / expected.abs().max())


def test_a_codec_plugin_that_is_a_function_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins.registered["codec"], "mine", lambda path, **options: FakeCodec())
    with pytest.raises(PluginError, match="'mine' is an object of type function without a class method load"):
        load_codec("mine", "anywhere")


def test_a_codec_plugin_that_loads_something_else_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        @classmethod
        def load(cls, path: str) -> int:
            return 3

    monkeypatch.setitem(plugins.registered["codec"], "other", Other)
    with pytest.raises(PluginError, match="'other': its load returned an object of type int: return an instance"):
        load_codec("other", "anywhere")


def test_separate_streams_in_a_batch_begin_and_end_alone() -> None:
    codec = FakeCodec()
    codes = torch.arange(8 * 3).reshape(3, 8) * 40 + 5
    batch = codec.streams(1)
    batch.decode(codes[:1])
    batch.join(codec.streams(1))
    both = batch.decode(codes[:2])
    batch.take([1])
    stream = codec.stream()
    assert torch.equal(both[1], stream.decode(codes[1][:, None]))
    assert torch.equal(batch.decode(codes[2:])[0], stream.decode(codes[2][:, None]))


def test_many_rows_are_shared_out_to_threads_and_sound_as_they_do_alone(
    codec: StreamingCodec, codes: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csmkit.mimi.codecs.n_cores", lambda: 3)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    rows_of: dict[str, set[int]] = {}

    def note(decoder: torch.nn.Module, inputs: tuple, samples: Tensor) -> None:
        rows_of.setdefault(threading.current_thread().name, set()).add(len(samples))

    batch, alone = codec.streams(9), [codec.stream() for _ in range(9)]
    hook = codec.decoder.register_forward_hook(note)
    for frame in range(3):
        rows = [(frame + row) % N_FRAMES for row in range(9)]
        together = batch.decode(codes[:, rows].t())
        assert error(together, torch.stack([alone[i].decode(codes[:, [row]]) for i, row in enumerate(rows)])) <= 1e-5
    hook.remove()
    names = rows_of.keys() - {threading.current_thread().name}
    assert names and all(name.startswith("csmkit-codec") for name in names)
    assert all(rows_of[name] <= {4, 5} for name in names), "two parts, though there are three cores"


def test_every_codec_is_found_by_name() -> None:
    assert {"streaming", "independent", "moshi", "fake"} <= set(plugins.available("codec"))
    assert all(issubclass(plugins.load("codec", name), Codec) for name in ("streaming", "independent", "moshi", "fake"))


def test_a_stream_frame_by_frame_is_the_whole(codec: StreamingCodec, model: MimiModel, codes: Tensor) -> None:
    stream = codec.stream()
    frames = [stream.decode(frame) for frame in codes.split(1, dim=1)]
    assert all(frame.shape == (FRAME_SAMPLES,) and frame.dtype == torch.float32 for frame in frames)
    assert error(torch.cat(frames), whole(model, codes)) <= 1e-5
    assert error(codec.decode_whole(codes), whole(model, codes)) <= 1e-5


def test_a_second_stream_starts_from_silence(codec: StreamingCodec, codes: Tensor) -> None:
    first = codec.stream().decode(codes)
    assert torch.equal(codec.stream().decode(codes), first)


def test_no_frames_are_no_samples(codec: StreamingCodec) -> None:
    empty = torch.zeros(4, 0, dtype=torch.int64)
    assert codec.stream().decode(empty).shape == FakeCodec(4).stream().decode(empty).shape == (0,)


def test_decoded_sound_can_be_changed_in_place(codec: StreamingCodec, codes: Tensor) -> None:
    assert float(codec.decode_whole(codes).mul_(0).abs().max()) == 0.0


def test_half_precision_weights_are_close(directory: Path, codec: StreamingCodec, codes: Tensor) -> None:
    half = StreamingCodec.load(directory, dtype=torch.bfloat16).decode_whole(codes)
    assert half.dtype == torch.float32
    assert error(half, codec.decode_whole(codes)) < 0.1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(3, 1, dtype=torch.int64), r"shape \(3, 1\): give \(4, n_frames\)"),
        (torch.zeros(4, dtype=torch.int64), r"shape \(4,\): give \(4, n_frames\)"),
        (torch.zeros(1, 4, 1, dtype=torch.int64), r"shape \(1, 4, 1\)"),
        (torch.zeros(4, 1), "float32"),
        (torch.zeros(4, 1, dtype=torch.bool), "bool"),
        (torch.full((4, 1), 32), "codes from 32 to 32: the codebooks hold 0 to 31"),
        (torch.full((4, 1), -1), "codes from -1 to -1"),
        ([[0]] * 4, "codes of list"),
    ],
)
def test_wrong_codes_are_refused_and_leave_the_stream_alone(
    codec: StreamingCodec, codes: Tensor, wrong: Tensor, message: str
) -> None:
    for tried in (codec, FakeCodec(4, 32)):
        stream = tried.stream()
        start = stream.decode(codes[:, :2])
        with pytest.raises(InputError, match=message):
            stream.decode(wrong)
        assert error(torch.cat((start, stream.decode(codes[:, 2:]))), tried.decode_whole(codes)) <= 1e-5


def test_narrow_integers_are_fine(codec: StreamingCodec, codes: Tensor) -> None:
    assert torch.equal(codec.decode_whole(codes.to(torch.int32)), codec.decode_whole(codes))


def test_encoding_gives_the_codes_of_transformers(codec: StreamingCodec, model: MimiModel) -> None:
    audio = noise(7 * FRAME_SAMPLES)
    with torch.no_grad():
        expected = model.encode(torch.from_numpy(audio)[None, None], return_dict=True).audio_codes[0]
    given = codec.encode(audio)
    assert given.dtype == torch.int64
    assert torch.equal(given, expected)
    assert len(given.unique()) > 4


@pytest.mark.parametrize(("n_samples", "n_frames"), [(0, 0), (1, 1), (1920, 1), (1921, 2), (5000, 3)])
def test_encoding_fills_up_the_last_frame(codec: StreamingCodec, n_samples: int, n_frames: int) -> None:
    for tried in (codec, FakeCodec(4)):
        encoded = tried.encode(noise(n_samples))
        assert encoded.shape == (4, n_frames)
        assert tried.decode_whole(encoded).shape == (n_frames * FRAME_SAMPLES,)


def test_a_half_filled_frame_is_encoded_as_if_silence_followed(codec: StreamingCodec) -> None:
    audio = noise(3 * FRAME_SAMPLES)
    audio[5000:] = 0
    assert torch.equal(codec.encode(audio[:5000]), codec.encode(audio))


def test_encoding_refuses_what_is_not_a_waveform(codec: StreamingCodec) -> None:
    with pytest.raises(InputError, match="shape"):
        codec.encode(torch.zeros(2, 3, 4))


def test_the_encoder_is_loaded_at_first_use_and_strictly(directory: Path, tmp_path: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    missing = "encoder_transformer.layers.0.mlp.fc1.weight"
    save_file({name: tensor for name, tensor in tensors.items() if name != missing}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    codec = StreamingCodec.load(tmp_path)
    assert codec.decode_whole(torch.zeros(4, 1, dtype=torch.int64)).shape == (FRAME_SAMPLES,)
    with pytest.raises(CheckpointError, match=missing):
        codec.encode(noise(1920))


def test_the_codec_of_a_csm_checkpoint_encodes_its_own_codebooks(
    codec: StreamingCodec, model: MimiModel, tmp_path: Path
) -> None:
    inside = StreamingCodec.load(tiny_csm(tmp_path, model, n_codebooks=3))
    audio = noise(5000)
    assert inside.n_codebooks == 3
    assert torch.equal(inside.encode(audio), codec.encode(audio)[:3])


def test_frames_of_another_length_are_refused(tmp_path: Path) -> None:
    tiny_mimi(upsampling_ratios=[3, 2]).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="12 samples a frame at 24000 Hz"):
        StreamingCodec.load(tmp_path)


def test_independent_calls_are_each_exact_and_break_at_the_seams(
    directory: Path, codec: StreamingCodec, codes: Tensor
) -> None:
    independent = IndependentCodec.load(directory)
    stream = independent.stream()
    first, second = stream.decode(codes[:, :6]), stream.decode(codes[:, 6:])
    expected = codec.decode_whole(codes)
    assert error(first, expected[: 6 * FRAME_SAMPLES]) <= 1e-5
    assert torch.equal(second, codec.decode_whole(codes[:, 6:]))
    assert error(second, expected[6 * FRAME_SAMPLES :]) > 0.05
    assert error(independent.decode_whole(codes), expected) <= 1e-5


def test_the_fake_codec_sounds_the_same_however_it_is_cut(codes: Tensor) -> None:
    fake = FakeCodec(4, 32)
    expected = fake.decode_whole(codes)
    stream = fake.stream()
    assert torch.equal(torch.cat([stream.decode(part) for part in codes.split(5, dim=1)]), expected)
    assert 0.05 < float(expected.abs().max()) < 0.35


def test_the_fake_codec_betrays_a_restarted_or_shared_stream(codes: Tensor) -> None:
    fake = FakeCodec(4, 32)
    expected, stream = fake.decode_whole(codes), fake.stream()
    restarted = torch.cat([fake.stream().decode(frame) for frame in codes.split(1, dim=1)])
    assert error(restarted, expected) > 0.05
    stream.decode(codes)
    assert error(stream.decode(codes), expected) > 0.05
    assert not torch.equal(fake.decode_whole(codes.flip(0)), expected)


def test_moshi_streams_the_same_within_its_window(directory: Path, codec: StreamingCodec, codes: Tensor) -> None:
    os.environ.setdefault("NO_TORCH_COMPILE", "1")
    pytest.importorskip("moshi")
    from csmkit.mimi.moshi import MoshiCodec

    moshi = MoshiCodec.load(directory)
    assert error(moshi.decode_whole(codes), codec.decode_whole(codes)) <= 1e-5
    within = codes[:, :5]  # ten latents, the window
    stream = moshi.stream()
    frames = [stream.decode(frame) for frame in within.split(1, dim=1)]
    assert error(torch.cat(frames), codec.decode_whole(within)) <= 1e-5
    assert error(moshi.stream().decode(within), codec.decode_whole(within)) <= 1e-5
    with pytest.raises(StateError, match="newer one began"):
        stream.decode(within)
    assert torch.equal(moshi.encode(noise(5000)), codec.encode(noise(5000)))


def test_encoding_gives_the_codes_of_moshi(directory: Path, codec: StreamingCodec, tmp_path: Path) -> None:
    os.environ.setdefault("NO_TORCH_COMPILE", "1")
    pytest.importorskip("moshi")
    from csmkit.mimi.moshi import moshi_model

    theirs, audio = moshi_model(CodecFiles(directory)), noise(5000)
    with torch.no_grad():
        expected = theirs.encode(torch.from_numpy(audio)[None, None])[0]
    assert torch.equal(codec.encode(audio), expected)
    save_file(
        {name: tensor.contiguous() for name, tensor in theirs.state_dict().items()},
        tmp_path / "tokenizer-t.safetensors",
    )
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    assert torch.equal(StreamingCodec.load(tmp_path).encode(audio), expected)
