"""Whisper on CTranslate2, with a random model of one layer that speaks in numbers."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import tiny_whisper

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import RATE_HZ, Hypothesis
from csmkit.asr.whisper import WhisperTranscriber, cut_loop, is_silent, resolve
from csmkit.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    DeviceError,
    InputError,
    MissingDependencyError,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper.build(tmp_path_factory.mktemp("whisper") / "padded")


@pytest.fixture(scope="module")
def short_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper.build(tmp_path_factory.mktemp("whisper") / "short", short_windows=True)


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32)


def encoded_frames(transcriber: WhisperTranscriber, seconds: float, monkeypatch: pytest.MonkeyPatch) -> int:
    sizes: list[int] = []
    encode = transcriber.whisper.encode

    def spy(mel: np.ndarray) -> object:
        sizes.append(mel.shape[1])
        assert not mel[:, round(seconds * 100) :].any(), "what follows the sound is zero in mel space"
        return encode(mel)

    with monkeypatch.context() as patch:
        patch.setattr(transcriber.whisper, "encode", spy)
        transcriber.transcribe(noise(seconds), final=False)
    return sizes[0]


def test_text_and_word_times_come_back(model: Path) -> None:
    heard = WhisperTranscriber(model, compute_type="float32").transcribe(noise(2.0), final=True)
    assert heard.text
    assert set(heard.text.split()) <= set(tiny_whisper.WORDS)
    assert [word.text for word in heard.words] == heard.text.split()
    starts = [word.start_s for word in heard.words]
    assert starts == sorted(starts)
    assert all(0 <= word.start_s <= word.end_s <= 30 for word in heard.words)


def test_only_a_model_trained_for_it_gets_short_windows(
    model: Path, short_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    padded, short = WhisperTranscriber(model), WhisperTranscriber(short_model)
    assert encoded_frames(padded, 1.0, monkeypatch) == 3000
    assert [encoded_frames(short, seconds, monkeypatch) for seconds in (0.2, 1.0, 1.3, 1.31)] == [50, 150, 150, 200]
    assert encoded_frames(short, short.window_s, monkeypatch) == 3000


def test_a_model_trained_on_silence_may_answer_with_no_text(model: Path, short_model: Path) -> None:
    assert WhisperTranscriber(model).options.suppress_blank
    assert not WhisperTranscriber(short_model).options.suppress_blank


def test_a_model_trained_on_short_sounds_is_given_no_longer_ones(short_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(short_model, model)
    assert WhisperTranscriber(model).window_s == pytest.approx(29.8)
    (model / "csmkit.json").write_text('{"short_windows": true, "window_s": 8}')
    assert WhisperTranscriber(model).window_s == 8


def test_a_partial_cannot_run_on_longer_than_its_sound(model: Path) -> None:
    transcriber = WhisperTranscriber(model)
    n_words = [len(transcriber.transcribe(noise(seconds), final=False).text.split()) for seconds in (0.2, 0.5)]
    assert n_words[0] <= 8 + 4
    assert n_words[1] <= 8 + 8


def test_the_same_sound_gives_the_same_text(model: Path) -> None:
    transcriber = WhisperTranscriber(model)
    first = transcriber.transcribe(noise(3.0), final=True)
    transcriber.transcribe(noise(1.0), final=False)
    assert transcriber.transcribe(noise(3.0), final=True) == first


def test_silence_and_scraps_of_sound_are_no_words(model: Path) -> None:
    transcriber = WhisperTranscriber(model)
    for audio in (np.zeros(0, np.float32), noise(0.05), np.zeros(RATE_HZ, np.float32), noise(2.0) * 1e-4):
        assert transcriber.transcribe(audio, final=True) == Hypothesis()
    assert not is_silent(np.concatenate([np.zeros(RATE_HZ, np.float32), noise(0.1)]))


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.full(3200, np.nan, np.float32), "NaN"),
        (np.zeros((2, 3200), np.float32), r"shape \(2, 3200\)"),
        (np.zeros(3200, np.int16), "int16"),
        (np.zeros(31 * RATE_HZ, np.float32), r"31\.0 s"),
    ],
)
def test_what_is_no_sound_is_refused(model: Path, audio: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        WhisperTranscriber(model).transcribe(audio, final=False)


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [
        ([], []),
        ([1, 2, 3], [1, 2, 3]),
        ([7, 1, 1, 1, 1], [7, 1, 1, 1, 1]),
        ([7] + [1] * 8, [7, 1]),
        ([7] + [1, 2] * 4, [7, 1, 2]),
        ([7] + [1, 2] * 3, [7] + [1, 2] * 3),
        ([7] + [1, 2, 3] * 5 + [1], [7, 1, 2, 3]),
    ],
)
def test_a_text_that_runs_in_circles_is_cut(tokens: list[int], kept: list[int]) -> None:
    assert cut_loop(tokens) == kept


def test_names_mean_the_model_of_the_preset(tmp_path: Path) -> None:
    assert resolve("tiny.en").endswith("pocket/whisper-tiny.en")
    assert resolve("base.en", "sesame") == "Systran/faster-whisper-base.en"
    assert resolve(str(tmp_path)) == str(tmp_path)
    assert resolve("someone/their-whisper") == "someone/their-whisper"
    for name in ("huge.en", "./not/there", "../nowhere", "/no/where"):
        with pytest.raises(CheckpointNotFoundError, match="no Whisper model"):
            resolve(name)
    with pytest.raises(InputError, match="pocket and sesame"):
        resolve("tiny.en", "shirt")


@pytest.mark.parametrize(
    "name", ["model.bin", "config.json", "tokenizer.json", "preprocessor_config.json", "vocabulary.json"]
)
def test_a_missing_file_is_named_at_once(short_model: Path, tmp_path: Path, name: str) -> None:
    partial = tmp_path / "partial"
    shutil.copytree(short_model, partial)
    (partial / name).unlink()
    with pytest.raises(CheckpointNotFoundError, match=name):
        WhisperTranscriber(partial)


def test_damaged_metadata_and_weights_are_told_apart(short_model: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(short_model, damaged)
    (damaged / "csmkit.json").write_text("[")
    with pytest.raises(CheckpointError, match=r"csmkit\.json"):
        WhisperTranscriber(damaged)
    (damaged / "csmkit.json").unlink()
    (damaged / "model.bin").write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="convert the model again"):
        WhisperTranscriber(damaged)


def test_a_device_or_type_that_is_not_there_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ctranslate2

    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 0)
    with pytest.raises(DeviceError, match="use device='cpu'"):
        WhisperTranscriber(model, device="cuda")
    with pytest.raises(InputError, match="cpu or cuda"):
        WhisperTranscriber(model, device="tpu")
    with pytest.raises(InputError, match="compute_type='int3'"):
        WhisperTranscriber(model, compute_type="int3")
    with pytest.raises(InputError, match="cpu_threads=0"):
        WhisperTranscriber(model, cpu_threads=0)


def test_without_faster_whisper_the_extra_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    monkeypatch.setitem(sys.modules, "faster_whisper.tokenizer", None)
    with pytest.raises(MissingDependencyError, match=r"faster-whisper.*csmkit\[asr\]"):
        WhisperTranscriber(model)


def test_the_worker_runs_on_a_directory(short_model: Path) -> None:
    whole = np.random.default_rng(0).normal(0, 0.1, 3 * 24_000).astype(np.float32)
    with StreamingWhisperASR(str(short_model), duty=1.0) as asr:
        asr.start_processing()
        for chunk in np.array_split(whole, 6):
            assert asr.put_audio_chunk(chunk)
        asr.finish()
        final = asr.get_final(timeout=20)
    assert final and set(final.split()) <= set(tiny_whisper.WORDS)
    assert final.words


def test_a_whisper_of_the_hub_is_fetched_and_one_that_is_not_there_says_what_to_do(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, list[str]]] = []

    def download(repository: str, *, allow_patterns: list[str]) -> str:
        asked.append((repository, allow_patterns))
        return str(model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert WhisperTranscriber("someone/their-whisper", compute_type="float32").window_s > 0
    assert asked == [("someone/their-whisper", ["*.json", "model.bin", "vocabulary.*"])]

    def refuse(repository: str, *, allow_patterns: list[str]) -> str:
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(CheckpointNotFoundError, match=r"cannot download 'someone/their-whisper' .* bundled Whisper"):
        WhisperTranscriber("someone/their-whisper")
