"""Pitch, pace and pauses on sound whose answer is known, and metrics by models that the user gives."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch

from csmkit import plugins
from csmkit.audio import SAMPLE_RATE, write
from csmkit.errors import CheckpointNotFoundError
from csmkit.lab.metrics.judges import dnsmos, judge_wer, speaker_similarity, utmos
from csmkit.lab.metrics.prosody import pitch, prosody


def buzz(f0_hz: float | np.ndarray, seconds: float = 1.0) -> np.ndarray:
    """A voice-like sum of ten harmonics, of one pitch or one for each sample."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(f0_hz, round(seconds * SAMPLE_RATE))) / SAMPLE_RATE
    return sum(np.sin(k * phase) / k for k in range(1, 11)).astype(np.float32) * 0.2


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


@pytest.mark.parametrize("f0_hz", [75.0, 110.0, 163.7, 220.0, 330.0])
def test_the_pitch_of_a_voice_like_tone_is_found_without_an_octave_error(f0_hz: float):
    row = prosody("a", buzz(f0_hz))
    assert row["f0_median_hz"] == pytest.approx(f0_hz, rel=0.01)
    assert row["f0_range_semitones"] < 0.3 and row["voiced_ratio"] > 0.9


def test_a_glide_of_an_octave_has_the_range_of_its_middle_ninety_percent():
    row = prosody("a", buzz(110 * 2 ** np.linspace(0, 1, 2 * SAMPLE_RATE), 2.0))
    assert row["f0_range_semitones"] == pytest.approx(0.9 * 12, abs=0.6)


def test_noise_has_no_pitch_and_silence_nothing_at_all():
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    assert np.isfinite(pitch(noise)).mean() < 0.2
    row = prosody("a", silence(1))
    assert set(row.values()) == {None}


def test_rates_and_pauses_are_those_of_the_construction():
    parts = [silence(0.3), buzz(120, 1.0), silence(0.5), buzz(120, 1.5), silence(0.08), buzz(120, 0.42), silence(0.2)]
    row = prosody("one two three four five six seven", np.concatenate(parts))
    assert row["n_pauses"] == 1 and row["longest_pause_ms"] == pytest.approx(500, abs=20)  # 80 ms are none
    assert row["words_per_s"] == pytest.approx(7 / 3.5, rel=0.02)
    assert row["articulation_words_per_s"] == pytest.approx(7 / 3.0, rel=0.02)
    assert row["pause_ratio"] == pytest.approx(0.5 / 3.5, rel=0.05)


class Loudness(torch.nn.Module):
    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        return 1 + 4 * sound.square().mean().sqrt()


class Halves(torch.nn.Module):
    """Energy below and above a step of the signal: tells low tones from high ones."""

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        step = sound[:, 1:] - sound[:, :-1]
        return torch.stack([sound.square().mean(), 4 * step.square().mean()])


def scripted(module: torch.nn.Module, path: Path) -> str:
    torch.jit.trace(module, torch.zeros(1, 1600) + 0.1).save(str(path))
    return str(path)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*Tracer.*")
def test_a_model_that_is_given_by_its_path_scores_the_sound_at_16_khz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CSMKIT_UTMOS", scripted(Loudness(), tmp_path / "utmos.pt"))
    tone = np.sin(2 * np.pi * 200 * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    assert utmos(tone) == pytest.approx(1 + 4 / np.sqrt(2), rel=0.01)
    assert plugins.load("metric", "utmos") is utmos


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*Tracer.*")
def test_a_speaker_is_most_similar_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CSMKIT_SPEAKER", scripted(Halves(), tmp_path / "speaker.pt"))
    write(tmp_path / "reference.wav", buzz(100))
    monkeypatch.setenv("CSMKIT_SPEAKER_REFERENCE", str(tmp_path / "reference.wav"))
    itself, other = speaker_similarity(buzz(100)), speaker_similarity(buzz(390))
    assert itself == pytest.approx(1.0, abs=1e-3) and other < itself - 0.001


def test_dnsmos_repeats_short_sound_and_maps_the_raw_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    node = onnx.helper.make_node("Constant", [], ["y"], value=onnx.numpy_helper.from_array(np.full((1, 3), 3, "f4")))
    length = onnx.helper.make_node("Shape", ["x"], ["n"])
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 144160])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node, length], "g", [x], [y]), opset_imports=[onnx.helper.make_opsetid("", 17)]
    )
    model.ir_version = 9
    onnx.save(model, str(tmp_path / "dnsmos.onnx"))
    monkeypatch.setenv("CSMKIT_DNSMOS", str(tmp_path / "dnsmos.onnx"))
    row = dnsmos(buzz(120, 0.5))
    assert row["dnsmos_sig"] == pytest.approx(-0.08397278 * 9 + 1.22083953 * 3 + 0.0052439)
    assert set(row) == {"dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl"}


def test_a_recogniser_as_judge_counts_words(monkeypatch: pytest.MonkeyPatch):
    import csmkit
    from csmkit.speech.generator import Generator

    directory = next(Path(csmkit.__file__).parent.glob("pocket/**/model.bin")).parent
    monkeypatch.setenv("CSMKIT_JUDGE", str(directory))
    sound = Generator.load("pocket").generate("how are you today?", 0, seed=0)
    assert 0 <= judge_wer("how are you today?", sound) <= 0.5 < judge_wer("nothing of the kind was spoken", sound)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*Tracer.*")
def test_a_model_of_a_hub_repository_is_fetched_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fetched = []

    def download(repository: str, allow_patterns: list[str]) -> str:
        fetched.append((repository, *allow_patterns))
        scripted(Loudness(), tmp_path / "score.pt")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setenv("CSMKIT_UTMOS", "someone/utmos/score.pt")
    assert utmos(buzz(120)) == pytest.approx(1 + 4 * np.sqrt(np.mean(buzz(120) ** 2)), rel=0.01)
    assert fetched == [("someone/utmos", "score.pt")]


@pytest.mark.parametrize(
    ("metric", "variable"), [(utmos, "CSMKIT_UTMOS"), (dnsmos, "CSMKIT_DNSMOS"), (speaker_similarity, "CSMKIT_SPEAKER")]
)
def test_without_a_model_nothing_is_downloaded_and_the_variable_is_named(metric, variable, monkeypatch):
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(CheckpointNotFoundError, match=f"{variable} is not set: give the path"):
        metric(buzz(100))
    monkeypatch.setenv(variable, "/nowhere/model")
    with pytest.raises(CheckpointNotFoundError, match="nothing at that path"):
        metric(buzz(100))
