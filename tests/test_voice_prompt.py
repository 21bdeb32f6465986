"""A recording as the voice to speak with: read, trimmed, refused with a reason, and encoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from csmkit import Generator, voice_prompt
from csmkit.audio import SAMPLE_RATE
from csmkit.errors import AudioFileError, ContextOverflowError, InputError
from csmkit.mimi.codecs import StreamingCodec

TEXT = "This is how I sound."
WHOLE = {"max_audio_length_ms": 400, "seed": 1}


def tone(seconds: float, rate: int = SAMPLE_RATE, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 200 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def hush(seconds: float, rate: int = SAMPLE_RATE) -> np.ndarray:
    """The noise of a room, some -66 dBFS."""
    return (0.0005 * np.random.default_rng(0).standard_normal(round(seconds * rate))).astype(np.float32)


def seconds_of(segment) -> float:
    return len(segment.audio) / SAMPLE_RATE


def test_silence_at_the_ends_is_cut_but_for_a_margin_and_that_within_is_kept():
    samples = np.concatenate([hush(1.5), tone(1.0), hush(0.7), tone(0.5), hush(2.0)])
    segment = voice_prompt(samples, TEXT, speaker=3)
    assert (segment.speaker, segment.text) == (3, TEXT)
    assert seconds_of(segment) == pytest.approx(1.0 + 0.7 + 0.5 + 2 * 0.08, abs=0.02)
    start = round(1.5 * SAMPLE_RATE) - 1920
    assert np.array_equal(segment.audio.numpy(), samples[start : start + len(segment.audio)])


def test_speech_that_fills_the_recording_is_kept_whole():
    assert np.array_equal(voice_prompt(tone(1.0), TEXT).audio.numpy(), tone(1.0))


def test_a_soft_ending_belongs_to_the_speech():
    samples = np.concatenate([hush(0.5), tone(1.0), tone(0.3, level=0.006), hush(0.5)])
    assert seconds_of(voice_prompt(samples, TEXT)) == pytest.approx(1.3 + 0.16, abs=0.02)


def test_a_file_of_any_rate_and_channels_becomes_mono_at_24_khz(tmp_path: Path):
    for rate, n_channels in ((16_000, 1), (44_100, 2), (48_000, 1)):
        samples = np.concatenate([np.zeros(rate), tone(2.0, rate), np.zeros(rate)])
        soundfile.write(tmp_path / "prompt.wav", np.stack([samples] * n_channels, axis=1), rate)
        segment = voice_prompt(tmp_path / "prompt.wav", TEXT)
        assert segment.audio.ndim == 1 and segment.sample_rate == SAMPLE_RATE
        assert seconds_of(segment) == pytest.approx(2.16, abs=0.03)
        peak = np.abs(np.fft.rfft(segment.audio.numpy())).argmax() / seconds_of(segment)
        assert peak == pytest.approx(200, abs=1)


def test_samples_of_another_rate_are_resampled():
    assert seconds_of(voice_prompt(torch.from_numpy(tone(1.0, 16_000)), TEXT, 0, 16_000)) == pytest.approx(1.0)
    assert voice_prompt(tone(1.0), TEXT).speaker == 0


def test_what_is_no_voice_prompt_is_refused_with_what_to_do(tmp_path: Path):
    with pytest.raises(AudioFileError, match=r"no sound file at '.*nowhere\.wav': check the path"):
        voice_prompt(tmp_path / "nowhere.wav", TEXT)
    (tmp_path / "text.wav").write_text("This is not sound.")
    with pytest.raises(AudioFileError, match=r"cannot read '.*text\.wav' as sound"):
        voice_prompt(str(tmp_path / "text.wav"), TEXT)
    soundfile.write(tmp_path / "room.wav", hush(2.0), SAMPLE_RATE)
    with pytest.raises(InputError, match=r"voice prompt '.*room\.wav' of 2\.0 s holds only silence, at most -6\d dBFS"):
        voice_prompt(tmp_path / "room.wav", TEXT)
    for nothing in (np.zeros(0, dtype=np.float32), np.zeros(5000, dtype=np.float32)):
        with pytest.raises(InputError, match=r"holds only silence, at most -120 dBFS: give a recording of speech"):
            voice_prompt(nothing, TEXT)
    with pytest.raises(InputError, match=r"voice prompt of 31\.0 s: give at most 30 s"):
        voice_prompt(tone(31.0), TEXT)
    assert seconds_of(voice_prompt(np.concatenate([np.zeros(SAMPLE_RATE * 9), tone(29.0)]), TEXT)) < 30
    with pytest.raises(InputError, match="text='': give a sentence"):
        voice_prompt(tone(1.0), "")
    with pytest.raises(InputError, match="sample_rate=24000 with a file: leave it out"):
        voice_prompt("prompt.wav", TEXT, 0, 24_000)
    with pytest.raises(InputError, match="audio of shape"):
        voice_prompt(np.zeros((2, 3, 4), dtype=np.float32), TEXT)


def test_a_voice_is_encoded_once_and_colours_what_is_said(voice_directory: Path, monkeypatch: pytest.MonkeyPatch):
    encode, n_samples = StreamingCodec.encode, []

    def counting(codec: StreamingCodec, audio: torch.Tensor) -> torch.Tensor:
        n_samples.append(len(audio))
        return encode(codec, audio)

    monkeypatch.setattr(StreamingCodec, "encode", counting)
    generator = Generator.load(voice_directory, device="cpu")
    voice = voice_prompt(tone(1.0), TEXT)
    generator.warm_up([voice])
    assert n_samples == [SAMPLE_RATE], "whole, and before the first text"
    said = [generator.generate("hello", 0, context, **WHOLE) for context in ([voice], [voice], [])]
    assert n_samples == [SAMPLE_RATE]
    assert torch.equal(said[0], said[1]) and not torch.equal(said[0], said[2])


def test_a_voice_that_exceeds_the_model_is_refused(voice_directory: Path):
    generator = Generator.load(voice_directory, device="cpu")  # 256 positions
    with pytest.raises(ContextOverflowError, match=r"voice prompt of 20\.0 s .* give a shorter voice prompt"):
        generator.warm_up([voice_prompt(tone(20.0), TEXT)])
