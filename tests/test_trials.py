"""One trial: what is spoken, decoded, heard and noted of it."""

from __future__ import annotations

import json
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.errors import DeviceError, InputError, PluginError, TranscriptionError
from csmkit.lab import plots
from csmkit.lab.analysis.rows import records
from csmkit.lab.metrics.codes import code_metrics, variety
from csmkit.lab.trials.decoding import codec_of
from csmkit.lab.trials.trial import TrialRun, TrialSettings, run_trial
from csmkit.speech.generator import FakeGenerator, Generator

TEXT = "one two three four five six"  # twelve frames of the fake generator
FAKE = TrialSettings(codec="fake", seed=1)


def fake_asr(**options: object) -> StreamingWhisperASR:
    return StreamingWhisperASR("fake", transcriber=FakeTranscriber(TEXT, word_s=0.16, **options))


@pytest.fixture(scope="module")
def voice(voice_directory: Path) -> Generator:
    return Generator.load(voice_directory, device="cpu")


def test_a_trial_sounds_as_the_generator_does_and_tells_when_each_chunk_came():
    settings = TrialSettings(codec="fake", seed=1, chunk_frames=(1, 2, 4))
    trial = run_trial(FakeGenerator(), TEXT, settings)
    np.testing.assert_array_equal(trial.audio, FakeGenerator().generate(TEXT, seed=1).numpy())
    assert trial.arrivals.durations_s == pytest.approx([0.08, 0.16, 0.32, 0.32, 0.08])
    assert trial.seams == [1920, 3 * 1920, 7 * 1920, 11 * 1920]
    assert [row["duration_ms"] for row in trial.chunk_rows()] == pytest.approx([80, 160, 320, 320, 80])
    assert trial.arrivals.times_s == sorted(trial.arrivals.times_s)
    assert trial.codes.shape == (8, 12)


def test_the_row_tells_the_settings_that_were_used_and_is_plain_data():
    trial = run_trial(FakeGenerator(), TEXT, TrialSettings(codec="fake", temperature=0.5))
    row = json.loads(json.dumps(trial.row))
    assert (row["temperature"], row["topk"], row["max_audio_length_ms"]) == (0.5, 50, 8000)
    again = run_trial(FakeGenerator(), TEXT, TrialSettings(codec="fake", seed=row["seed"]))
    np.testing.assert_array_equal(again.audio, trial.audio)
    assert (row["finish_reason"], row["n_frames"], row["n_chunks"], row["n_seams"]) == ("end_of_speech", 12, 2, 1)
    assert TrialSettings(chunk_frames=[1, 2]) == TrialSettings(chunk_frames=(1, 2))
    assert row["snr_db"] == 150 and row["wer"] is None and row["whisper"] is None


def test_a_recogniser_hears_the_chunks_and_its_errors_are_counted():
    with fake_asr() as asr:
        run = TrialRun(FakeGenerator(frame_s=0.02), TEXT + " seven", FAKE, asr)
        seen = [(len(run.arrivals), run.partials) for _ in run]
        trial = run.result()
    heard = [text for _, text in trial.partials]
    assert str(trial.transcript) == TEXT
    assert trial.row["wer"] == pytest.approx(1 / 7)
    assert [n for n, _ in seen] == [1, 2, 3] and seen[-1][1] == trial.partials
    assert all(first != second for first, second in pairwise(heard))
    assert trial.row["n_partials"] == len(heard)
    assert trial.row["asr_received_s"] == pytest.approx(14 * 0.08)
    assert 0 < trial.row["final_after_ms"] < 60_000


def test_a_row_tells_whose_recogniser_is_meant_and_figures_call_it_so():
    with StreamingWhisperASR("base.en", transcriber=FakeTranscriber(TEXT, word_s=0.16)) as asr:
        row = run_trial(FakeGenerator(), TEXT, FAKE, asr).row
    assert (row["preset"], row["whisper"]) == ("pocket", "base.en")
    assert [found["whisper"] for found in records([row, row | {"preset": "sesame"}])] == ["pocket base.en", "base.en"]
    (axes,) = plots.trade_off([row], "whisper", "wer").axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["pocket base.en"]


def test_a_row_of_an_utterance_without_sound_has_the_same_columns():
    sounding = run_trial(FakeGenerator(), TEXT, FAKE).row
    silent = run_trial(FakeGenerator(), "a", TrialSettings(codec="fake", seed=1, max_audio_length_ms=80)).row
    assert silent["audio_s"] == pytest.approx(0.08) and silent["n_seams"] == 0

    class Mute(FakeGenerator):
        def codes_of(self, request, seed):
            yield from ()

    mute = run_trial(Mute(), TEXT, FAKE).row
    assert set(mute) == set(silent) == set(sounding)
    assert (mute["audio_s"], mute["ttfa_ms"], mute["peak_dbfs"], mute["n_frames"]) == (0, None, None, 0)


def test_closing_a_run_ends_it_early_and_its_sound_so_far_is_measured():
    generator = FakeGenerator(frame_s=0.01)
    with fake_asr() as asr:
        run = TrialRun(generator, "word " * 200, TrialSettings(codec="fake", chunk_frames=1, seed=1), asr)
        next(run), next(run)
        closing = threading.Thread(target=run.close)
        closing.start()
        closing.join()
        assert list(run) == []
        trial = run.result()
        assert trial.row["finish_reason"] == "interrupted" and trial.transcript is None
        assert trial.codes.shape[1] == 2 and len(trial.audio) == 2 * 1920
        assert run_trial(generator, TEXT, FAKE, asr).transcript is not None


def test_an_error_on_the_way_frees_the_recogniser_for_the_next_trial():
    with fake_asr() as asr:
        with pytest.raises(DeviceError, match="told to fail after 7 frames"):
            run_trial(FakeGenerator(fails_after=7), TEXT, FAKE, asr)
        assert run_trial(FakeGenerator(), TEXT, FAKE, asr).row["wer"] == 0


def test_a_recogniser_that_fails_is_told():
    with fake_asr(fail_at=1) as asr, pytest.raises(TranscriptionError, match="told to fail"):
        run_trial(FakeGenerator(), TEXT, FAKE, asr)


def test_settings_that_cannot_be_used_are_refused_before_anything_is_heard():
    with fake_asr() as asr:
        for settings, message in (
            (TrialSettings(codec="fake", chunk_frames=0), "chunk_frames=0"),
            (TrialSettings(codec="fake", temperature=-1), "temperature=-1"),
            (TrialSettings(codec="streaming"), "codec is a FakeCodec"),
        ):
            with pytest.raises(InputError, match=message):
                run_trial(FakeGenerator(), TEXT, settings, asr)
        with pytest.raises(PluginError, match="no codec plugin 'nonsense'"):
            run_trial(FakeGenerator(), TEXT, TrialSettings(codec="nonsense"), asr)
        assert run_trial(FakeGenerator(), TEXT, FAKE, asr).row["wer"] == 0


def test_another_codec_is_loaded_once_and_the_voice_s_own_is_used_as_it_is(voice: Generator):
    assert codec_of(voice, "streaming") is voice.codec
    assert codec_of(voice, "independent") is codec_of(voice, "independent")


def test_the_codec_does_not_change_what_is_said_and_only_chunks_alone_differ_from_the_whole(voice: Generator):
    base = {"seed": 1, "chunk_frames": 3, "max_audio_length_ms": 960}
    exact = run_trial(voice, "hello there", TrialSettings(**base))
    alone = run_trial(voice, "hello there", TrialSettings(codec="independent", **base))
    assert torch.equal(exact.codes, alone.codes) and exact.seams == alone.seams
    assert exact.row["snr_db"] > 100 > 60 > alone.row["snr_db"]
    np.testing.assert_allclose(alone.audio[: 3 * 1920], exact.audio[: 3 * 1920], atol=1e-4)


def test_repeated_frames_are_those_that_came_within_the_last_second():
    fresh = torch.arange(40).reshape(2, 20)
    assert code_metrics(fresh) == {"n_frames": 20, "repeated_frames_ratio": 0}
    stuck = fresh.clone()
    stuck[:, 10:] = fresh[:, 9:10]
    assert code_metrics(stuck)["repeated_frames_ratio"] == 0.5
    cycle = fresh[:, :4].repeat(1, 5)
    assert code_metrics(cycle)["repeated_frames_ratio"] == 0.8
    far = torch.cat([fresh, fresh[:, :1]], dim=1)
    assert code_metrics(far)["repeated_frames_ratio"] == 0
    assert code_metrics(torch.zeros(0, 0, dtype=torch.int64)) == {"n_frames": 0, "repeated_frames_ratio": None}


def test_variety_is_the_share_of_the_first_codebook_that_differs():
    said = torch.tensor([[1, 2, 3, 4], [9, 9, 9, 9]])
    other_sound = torch.tensor([[1, 2, 3, 4], [8, 8, 8, 8]])
    one_left_out = torch.tensor([[1, 2, 4], [9, 9, 9]])
    assert variety([said]) is None
    assert variety([said, other_sound]) == 0
    assert variety([said, one_left_out]) == 0.25
    assert variety([said, other_sound, one_left_out]) == pytest.approx((0 + 0.25 + 0.25) / 3)
    with pytest.raises(InputError, match="give \\(n_codebooks, n_frames\\) integers"):
        variety([said, torch.zeros(3)])
