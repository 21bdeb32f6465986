"""Audio, timing, plugins, errors and metrics: what every other room stands on."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import largest_file

import csmkit
from csmkit import audio, errors, plugins
from csmkit.errors import AudioFileError, CsmkitError, InputError, MissingDependencyError, PluginError
from csmkit.lab import metrics
from csmkit.timing import Arrivals


def tone(seconds: float, rate: int = audio.SAMPLE_RATE, hz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_a_frame_is_eighty_milliseconds():
    assert audio.FRAME_SAMPLES == audio.SAMPLE_RATE / audio.FRAME_RATE == audio.SAMPLE_RATE * audio.FRAME_MS / 1000


def test_resampling_keeps_the_pitch_and_the_length():
    out = audio.resample(tone(1.0, 16_000), 16_000)
    assert len(out) == audio.SAMPLE_RATE
    peak = np.abs(np.fft.rfft(out)).argmax()
    assert peak == 440


def test_stereo_and_int16_and_tensors_become_mono_floats():
    samples = tone(0.1)
    assert np.allclose(audio.as_mono(np.stack([samples, samples])), samples)
    assert np.allclose(audio.as_mono((samples * 32768).astype(np.int16)), samples, atol=1e-4)
    assert np.allclose(audio.as_mono(torch.from_numpy(samples)), samples)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.array([0.0, np.nan], dtype=np.float32), "NaN"),
        (np.zeros((2, 3, 4), dtype=np.float32), "shape"),
        (np.zeros((9, 30), dtype=np.float32), "at most 8 channels"),
        (np.zeros(4, dtype=np.int64), "dtype int64"),
        (np.array([0.0, -20_000.0], dtype=np.float32), r"peak of 20000: floating-point samples lie in \[-1, 1\]"),
        (torch.zeros(4).to(torch.float8_e4m3fn), r"dtype torch\.float8_e4m3fn: give floating-point samples of 16 bits"),
    ],
)
def test_what_is_no_waveform_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        audio.as_mono(wrong)


def test_an_impossible_rate_is_refused():
    with pytest.raises(InputError, match="sample_rate=0"):
        audio.as_mono(tone(0.1), 0)


def test_what_is_written_is_read_back(tmp_path: Path):
    audio.write(tmp_path / "a.wav", tone(0.5))
    assert np.allclose(audio.read(tmp_path / "a.wav"), tone(0.5), atol=1e-4)


def test_a_file_is_valid_after_every_chunk(tmp_path: Path):
    writer = audio.WavWriter(tmp_path / "growing.wav")
    for n in (1, 2, 3):
        writer.write(tone(0.1))
        assert len(audio.read(tmp_path / "growing.wav")) == n * 2400
    writer.close()
    writer.close()


def test_a_path_that_cannot_be_written_or_read_is_named(tmp_path: Path):
    with pytest.raises(AudioFileError, match="existing folder"):
        audio.WavWriter(tmp_path / "absent" / "a.wav")
    with pytest.raises(AudioFileError, match=r"ends in \.wav"):
        audio.WavWriter(tmp_path / "a.mp3")
    with pytest.raises(AudioFileError, match="no sound file"):
        audio.read(tmp_path / "absent.wav")
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(AudioFileError, match="cannot read"):
        audio.read(tmp_path / "text.wav")


def test_a_disk_that_is_full_is_said_and_what_was_written_stays(tmp_path: Path):
    writer = audio.WavWriter(tmp_path / "growing.wav")
    writer.write(tone(0.1))
    with largest_file(20_000), pytest.raises(AudioFileError, match=r"cannot continue writing .*: free some space"):
        for _ in range(10):
            writer.write(tone(0.1))
    writer.close()
    assert np.allclose(audio.read(tmp_path / "growing.wav")[:2400], tone(0.1), atol=1e-4)


def test_arrivals_tell_gaps_underruns_and_real_time_factor():
    arrivals = Arrivals()
    for time_s in (0.5, 0.9, 1.6):  # half a second each: the third should have come at 1.5
        arrivals.add(time_s, 0.5)
    row = arrivals.row()
    assert row["ttfa_ms"] == 500
    assert row["gap_p50_ms"] == pytest.approx(550)
    assert row["max_underrun_ms"] == pytest.approx(100)
    assert row["n_underruns"] == 1
    assert row["rtf"] == pytest.approx(1.6 / 1.5)


def test_one_chunk_has_no_gaps_and_none_has_nothing():
    one = Arrivals([0.2], [0.5]).row()
    assert one["gap_p50_ms"] is None and one["max_underrun_ms"] is None and one["ttfa_ms"] == 200
    assert Arrivals().row()["ttfa_ms"] is None and Arrivals().row()["rtf"] is None


WHAT_IS_CALLED = {
    "llm": "stream",
    "speech": "generate_streaming",
    "codec": "stream",
    "asr": "transcribe",
    "tracker": "track",
}


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_kind_has_a_fake_that_offers_what_is_called(kind: str):
    assert "fake" in plugins.available(kind)
    fake = plugins.load(kind, "fake")
    if kind == "metric":
        assert fake(["a", "b"], ["a", "c"]) == 0.5
    else:
        assert callable(getattr(fake, WHAT_IS_CALLED[kind], None))


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_builtin_can_be_loaded(kind: str):
    for name in plugins.available(kind):
        if name != "moshi":  # an optional second step
            assert callable(plugins.load(kind, name))


def test_a_registered_plugin_is_found_by_name():
    @plugins.register("llm", "parrot-for-a-test")
    class Parrot:
        pass

    assert plugins.load("llm", "parrot-for-a-test") is Parrot
    assert "parrot-for-a-test" in plugins.available("llm")


def test_a_module_reference_is_a_plugin_too():
    assert plugins.load("metric", "csmkit.lab.metrics.words:word_error_rate") is metrics.word_error_rate


def test_an_installed_package_brings_plugins(monkeypatch: pytest.MonkeyPatch):
    point = types.SimpleNamespace(name="elsewhere", load=lambda: dict)
    monkeypatch.setattr(plugins, "entry_points", lambda **wanted: [point] if wanted["group"] == "csmkit.metric" else [])
    assert "elsewhere" in plugins.available("metric")
    assert plugins.load("metric", "elsewhere") is dict


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("llms", "echo", "the kinds are llm, speech"),
        ("llm", "nobody", "available are .*echo"),
        ("llm", "no.such.module:Thing", "cannot import plugin"),
        ("llm", "csmkit.audio:Thing", "has no 'Thing'"),
    ],
)
def test_a_plugin_that_is_not_there_is_answered_with_what_is(kind: str, name: str, message: str):
    with pytest.raises(PluginError, match=message):
        plugins.load(kind, name)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'csmkit\[eval\]'"):
        metrics.word_error_rate("one two", "one two")


def test_word_errors_ignore_case_and_punctuation():
    assert metrics.word_error_rate("Hello, my friend!", "hello my friend") == 0
    assert metrics.word_error_rate(["one two", "three four"], ["one", "three four"]) == pytest.approx(0.25)
    assert metrics.character_error_rate("abcd", "abce") == pytest.approx(0.25)
    assert metrics.fake_metric(["a", "b"], ["a", "c"]) == 0.5


def test_texts_that_cannot_be_compared_are_refused():
    with pytest.raises(InputError, match="2 texts were said and 1 heard"):
        metrics.word_error_rate(["a", "b"], ["a"])
    with pytest.raises(InputError, match="no words"):
        metrics.word_error_rate("...", "a")


def test_every_error_is_one_of_ours_and_a_builtin():
    drawn = dict(re.findall(r"(\w+Error) \((\w+)\)", str(errors.__doc__)))
    everyday = {Exception, BaseException, object}
    for name in {name for name in vars(errors) if not name.startswith("_")} - {"CsmkitError"}:
        error = getattr(errors, name)
        assert issubclass(error, CsmkitError)
        builtins = {base.__name__ for base in set(error.__mro__) - everyday if base.__module__ == "builtins"}
        assert builtins, f"{name} is caught by no other name"
        assert drawn.get(name) in (builtins | {None}), f"{name} is not what the docstring draws"


def test_public_names_are_those_of_the_contract():
    expected = {"Generator", "Segment", "StreamingWhisperASR", "StreamingConversationalChatbot"}
    assert expected <= set(csmkit.__all__)
    for name in csmkit.__all__:
        value = getattr(csmkit, name)
        assert getattr(value, "__name__", name) == name and name in dir(csmkit)
    with pytest.raises(AttributeError, match="no attribute 'Generaotr'; public are"):
        _ = csmkit.Generaotr


def test_importing_the_package_is_light():
    heavy = "torch transformers faster_whisper numpy"
    program = f"import sys, csmkit; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
