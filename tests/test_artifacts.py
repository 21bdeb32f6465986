"""Metrics of sound, each shown damage that was planted and told from what does no harm."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import planted
import pytest
import torch
from tiny_mimi import random_codes, tiny_mimi

from csmkit import plugins
from csmkit.errors import InputError, MissingDependencyError
from csmkit.lab import distances, levels
from csmkit.lab.metrics.registry import artifact_row
from csmkit.lab.metrics.seams import control_positions, seam_metrics
from csmkit.lab.metrics.waveforms import seams_between
from csmkit.mimi.codecs import IndependentCodec, StreamingCodec

RATE = planted.RATE
HARMLESS = [np.copy, planted.noise, planted.there_and_back]
DAMAGING = [planted.click, planted.gap, planted.fade, planted.gain_step, planted.resampled_alone]


@cache
def speech() -> np.ndarray:
    return planted.speech_like()


@cache
def judged(damage: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """The row of damaged speech against the whole."""
    return artifact_row(damage(speech()), planted.borders(speech()), speech())


@pytest.fixture(scope="module")
def codec_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("mimi")
    tiny_mimi(seed=2).save_pretrained(directory)  # clicks clearly in transformers 4, which draws other weights, as in 5
    return directory


def tone(seconds: float = 1.0, amplitude: float = 0.5, hz: float = 440.0) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize("damage", [planted.click, planted.resampled_alone])
def test_a_click_at_the_borders_stands_far_above_its_control(damage):
    row = judged(damage)
    assert row["seam_click_z"] > 20 * row["seam_click_control_z"]
    assert row["seam_click_auc"] > 0.99


@pytest.mark.parametrize("damage", HARMLESS)
def test_borders_of_unharmed_sound_are_like_any_other_place(damage):
    row = judged(damage)
    assert row["seam_click_z"] < 1.5 * row["seam_click_control_z"]
    assert all(0.3 < row[f"seam_{figure}_auc"] < 0.7 for figure in ("click", "dip", "step"))


@pytest.mark.parametrize("damage", [planted.gap, planted.fade])
def test_gaps_and_fades_are_dips(damage):
    row = judged(damage)
    assert row["seam_dip_db"] < row["seam_dip_control_db"] - 10
    assert row["seam_dip_auc"] > 0.95


@pytest.mark.parametrize("damage", [planted.click, planted.gain_step, planted.resampled_alone])
def test_what_is_no_gap_is_no_dip(damage):
    row = judged(damage)
    assert abs(row["seam_dip_db"] - row["seam_dip_control_db"]) < 3


def test_a_fade_hides_its_click_so_that_only_the_dip_tells():
    row = judged(planted.fade)
    assert row["seam_click_z"] < row["seam_click_control_z"]
    assert row["seam_dip_auc"] > 0.95


def test_a_gap_is_as_deep_as_the_scale_goes_wherever_it_touches_the_border():
    before = np.roll(planted.gap(np.roll(speech(), 480)), -480)  # the gap ends at the border
    for damaged in (planted.gap(speech()), before):
        assert seam_metrics(damaged, planted.borders(damaged))["seam_dip_db"] == -60


def test_a_step_in_loudness_is_measured_in_decibels():
    row = judged(planted.gain_step)
    assert row["seam_step_db"] == pytest.approx(10, abs=2)
    assert row["seam_step_auc"] > 0.65
    steady = tone(2.0)
    assert seam_metrics(planted.gain_step(steady), planted.borders(steady))["seam_step_db"] == pytest.approx(
        10, abs=0.2
    )


def test_distances_cannot_tell_a_click_from_noise_and_borders_can():
    click, noise = judged(planted.click), judged(planted.noise)
    assert abs(click["snr_db"] - noise["snr_db"]) < 3
    assert noise["log_spectral_distance_db"] > click["log_spectral_distance_db"]
    assert noise["multi_resolution_distance"] > click["multi_resolution_distance"]
    assert click["seam_click_z"] > 50 * noise["seam_click_z"]


def test_distances_cannot_tell_chunks_resampled_alone_from_all_of_it_resampled():
    alone, whole = judged(planted.resampled_alone), judged(planted.there_and_back)
    assert alone["log_spectral_distance_db"] == pytest.approx(whole["log_spectral_distance_db"], rel=0.1)
    assert alone["seam_click_auc"] > 0.99 > 0.7 > whole["seam_click_auc"]


@pytest.mark.parametrize("damage", [*HARMLESS[1:], *DAMAGING])
def test_every_change_lowers_the_signal_to_noise_ratio(damage):
    assert judged(damage)["snr_db"] < 60
    assert judged(damage)["max_abs_error"] > 0
    assert judged(damage)["log_spectral_distance_db"] > 0.1


@pytest.mark.parametrize("chunk_frames", [1, 2, 5])
def test_a_streaming_codec_leaves_no_trace_at_its_borders_and_an_independent_one_does(codec_directory, chunk_frames):
    codes = random_codes(tiny_mimi().config, 50)
    streaming, independent = (kind.load(codec_directory) for kind in (StreamingCodec, IndependentCodec))
    whole = streaming.decode_whole(codes)
    rows = {}
    for name, codec in (("streaming", streaming), ("independent", independent)):
        stream = codec.stream()
        chunks = [stream.decode(part) for part in codes.split(chunk_frames, dim=1)]
        rows[name] = artifact_row(torch.cat(chunks), seams_between(chunks), whole)
    reference = seam_metrics(whole, seams_between(chunks))
    assert rows["streaming"]["snr_db"] > 100 and rows["streaming"]["max_abs_error"] < 1e-5
    assert rows["independent"]["snr_db"] < 20
    for figure in ("click_z", "dip_db", "step_db"):
        assert rows["streaming"][f"seam_{figure}"] == pytest.approx(reference[f"seam_{figure}"], rel=1e-2)
    assert rows["independent"]["seam_dip_db"] < reference["seam_dip_db"] - 3
    assert rows["independent"]["seam_dip_auc"] > 0.9 > rows["streaming"]["seam_dip_auc"]


def test_what_can_not_be_measured_is_none_and_never_zero():
    row = artifact_row(np.zeros(RATE, np.float32), [RATE // 2], np.zeros(RATE, np.float32))
    absent = {name for name, value in row.items() if value is None}
    assert {"seam_dip_db", "seam_step_auc", "snr_db", "peak_dbfs", "rms_dbfs", "onset_ms", "loudness_lufs"} <= absent
    one_chunk = artifact_row(tone(0.1))
    assert one_chunk["n_seams"] == 0
    assert all(value is None for name, value in one_chunk.items() if name.startswith("seam_"))
    assert one_chunk["snr_db"] is None and one_chunk["loudness_lufs"] is None


def test_rows_have_the_same_keys_whatever_there_was_to_measure():
    assert list(artifact_row(tone(0.1))) == list(judged(planted.noise)) == list(judged(planted.gap))
    assert all(value is None or isinstance(value, float | int) for value in judged(planted.gap).values())


def test_controls_are_edges_of_frames_away_from_borders_and_ends():
    assert control_positions([3840, 7680], 10_000) == [1920, 5760]
    assert control_positions([3840, 5761], 9600) == [1920, 7680], "5760 is too near to a border"
    assert control_positions([1920, 3840], 5760) == []


def test_where_each_edge_of_a_frame_is_a_border_the_whole_decode_is_the_control():
    every = list(range(1920, len(speech()) - 960, 1920))
    alone = seam_metrics(planted.click(speech()), every)
    assert alone["seam_click_control_z"] is None and alone["seam_click_auc"] is None
    judged_by = seam_metrics(planted.click(speech()), every, speech())
    assert 0.7 < judged_by["seam_click_auc"] < 0.8, "a click at every other border: half of them surely worse"
    assert seam_metrics(speech(), every, speech())["seam_click_auc"] == 0.5


def test_edges_of_frames_that_all_click_are_no_fault_of_the_chunks():
    beat = speech().copy()
    beat[1920::1920] += 0.05  # as a codec does whose sound follows its frames
    row = seam_metrics(beat, planted.borders(beat))
    assert row["seam_click_z"] > 20 and 0.3 < row["seam_click_auc"] < 0.7


@pytest.mark.parametrize("level_db", [16.0, 30.0])
def test_how_loud_a_click_is_beside_the_sound_is_measured_in_decibels(level_db: float):
    sound = planted.noise(np.zeros(4 * RATE, np.float32), -40)
    for border in planted.borders(sound):
        sound[border] += 0.01 * 10 ** (level_db / 20)
    row = seam_metrics(sound, planted.borders(sound))
    assert row["seam_click_level_db"] == pytest.approx(level_db, abs=1.5)
    assert row["seam_click_level_control_db"] < 11, "the largest of 48 samples of noise"


def test_a_click_far_under_the_speech_is_detected_and_said_to_be_quiet():
    quiet = speech().copy()
    for border in planted.borders(quiet):
        quiet[border] += 0.001
    row = seam_metrics(quiet, planted.borders(quiet))
    loud = judged(planted.click)
    assert loud["seam_click_level_db"] - loud["seam_click_level_control_db"] > 20
    assert row["seam_click_level_db"] < loud["seam_click_level_db"] - 20


def test_borders_lie_where_chunks_meet():
    chunks = [np.zeros(1920), torch.zeros(3840), 960]
    assert seams_between(chunks) == [1920, 5760]
    assert seams_between(chunks[:1]) == seams_between([]) == []


def test_equal_sound_is_as_near_as_the_scale_goes():
    same = distances.distances(speech(), speech())
    expected = {"max_abs_error": 0, "log_spectral_distance_db": 0, "multi_resolution_distance": 0}
    assert same == {"snr_db": distances.MOST_SNR_DB, **expected}


def test_the_signal_to_noise_ratio_and_spectral_distance_of_half_the_amplitude_are_six_decibels():
    loud = planted.noise(np.zeros(RATE, np.float32), -20)
    assert distances.signal_to_noise_db(loud / 2, loud) == pytest.approx(6.02, abs=0.01)
    assert distances.log_spectral_distance_db(loud / 2, loud) == pytest.approx(6.02, abs=0.01)
    # half the energy norm is gone, and ln 2 is the distance of all bins
    assert distances.multi_resolution_distance(loud / 2, loud) == pytest.approx(0.5 + np.log(2), abs=0.01)


def test_levels_of_a_sine_are_the_known_ones():
    row = levels.levels(tone(1.0, 0.5) + 0.01)
    assert row["peak_dbfs"] == pytest.approx(20 * np.log10(0.51), abs=0.01)
    assert row["rms_dbfs"] == pytest.approx(-9.03, abs=0.01)
    assert row["dc_offset"] == pytest.approx(0.01, abs=1e-6)
    assert row["clipped_ratio"] == row["silence_ratio"] == row["longest_silence_ms"] == row["onset_ms"] == 0


def test_clipped_samples_are_counted():
    clipped = np.clip(tone(1.0, np.sqrt(2)), -1, 1)  # beyond full scale for half of each period
    assert levels.levels(clipped)["clipped_ratio"] == pytest.approx(0.5, abs=0.01)
    assert levels.levels(tone(1.0, 0.99))["clipped_ratio"] == 0


def test_silence_and_onset_are_where_they_were_put():
    silence = np.zeros(RATE // 5, np.float32)  # 200 ms
    row = levels.levels(np.concatenate([silence, tone(0.3), silence, silence, tone(0.1)]))
    assert row["silence_ratio"] == pytest.approx(0.6)
    assert row["longest_silence_ms"] == pytest.approx(400)
    assert row["onset_ms"] == pytest.approx(200)


def test_a_short_noise_and_a_whisper_below_the_threshold_are_no_onset():
    sound = np.zeros(RATE, np.float32)
    sound[:960] = tone(0.04)  # 40 ms: not held long enough
    sound[12_000:] += tone(0.5, 0.01)  # -43 dBFS
    assert levels.audible_onset_ms(sound) is None
    assert levels.audible_onset_ms(sound * 2) == pytest.approx(500)
    assert levels.audible_onset_ms(sound[:720]) is None


def test_loudness_follows_the_standard():
    assert levels.loudness_lufs(tone(2.0, 1.0, 997.0)) == pytest.approx(-3.01, abs=0.1)
    assert levels.loudness_lufs(tone(2.0, 0.1, 997.0)) == pytest.approx(-23.01, abs=0.1)


def test_a_missing_loudness_package_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyloudnorm", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'csmkit\[eval\]'"):
        artifact_row(tone(1.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: levels.levels(np.zeros((2, 4800))), r"shape \(2, 4800\): metrics judge one channel"),
        (lambda: levels.levels(np.full(4800, np.nan)), "NaN"),
        (lambda: levels.levels(np.zeros(4800, np.int64)), "dtype int64"),
        (lambda: levels.levels(np.zeros(0)), "audio of 0 ms: at least 10 ms"),
        (lambda: levels.loudness_lufs(np.zeros(4800)), "audio of 200 ms: at least 400 ms"),
        (lambda: seam_metrics(np.zeros(240), []), "at least 20 ms"),
        (lambda: seam_metrics(tone(), [1.5]), "seams of dtype float64"),
        (lambda: seam_metrics(tone(), [[1920]]), "give a list of sample indices"),
        (lambda: seam_metrics(tone(), [3840, 1920]), "rising order"),
        (lambda: seam_metrics(tone(), [1920, 1920]), "each border once"),
        (lambda: seam_metrics(tone(), [0]), "give indices from 240 to 23760"),
        (lambda: seam_metrics(tone(), [24_000]), "leave it out"),
        (lambda: distances.max_abs_error(tone(), tone(0.5)), "24000 samples and reference of 12000"),
        (lambda: distances.max_abs_error(tone(), tone()[None]), "reference of shape"),
        (lambda: distances.log_spectral_distance_db(tone(0.02), tone(0.02)), "audio of 20 ms: at least 50 ms"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_what_can(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_metrics_are_found_as_plugins():
    assert plugins.load("metric", "artifacts") is artifact_row
    assert plugins.load("metric", "seams") is seam_metrics
    assert plugins.load("metric", "loudness") is levels.loudness
