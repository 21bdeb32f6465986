"""The studio without a browser: the job of its fields, what it shows, what its buttons do."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from lab_server import need

from csmkit.errors import InputError, StateError
from csmkit.lab.notebook.recordings import ROWS, Recording
from csmkit.lab.notebook.session import Job, Progress
from csmkit.lab.trials.trial import TrialSettings, run_trial
from csmkit.speech.generator import FakeGenerator
from csmkit.timing import Arrivals

need("anywidget", "ipywidgets")
from csmkit.lab.notebook import Studio
from csmkit.lab.notebook.controls import Controls
from csmkit.lab.notebook.output import NO_ANSWER, describe, latency_svg
from csmkit.lab.notebook.recordings import COLUMNS, HINT, BlindComparison, RecordingTable, figures

WAIT_S = 100.0
TEXT = "good morning."


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """One studio for the file: the bundled models are loaded once."""
    studio = Studio("pocket", text=TEXT, folder=tmp_path_factory.mktemp("studio") / "recordings")
    yield studio
    studio.close()


@pytest.fixture
def studio(bench: Studio) -> Studio:
    fields = bench.controls.fields
    fields["text"].value, fields["seed"].value, fields["chunk_frames"].value = TEXT, "1", 6
    return bench


def speak(studio: Studio) -> None:
    studio.speak_button.click()
    assert studio.wait(WAIT_S)


def buttons(studio: Studio, number: int) -> list[Callable[[], None]]:
    """Play and Keep of a recording."""
    row = studio.table.widget.children[1 + len(studio.recordings) - number]
    return [button.click for button in row.children[:2]]


def test_the_fields_make_the_job():
    controls = Controls("hello", "pocket")
    assert controls.job() == Job("hello", TrialSettings(seed=1, max_audio_length_ms=8000), "base.en", "pocket")
    changed = {
        "speaker": 1,
        "chunk_frames": (1, 2, 4, 6),
        "temperature": 0.9,
        "topk": 5,
        "seed": "",
        "max_audio_length_ms": 2400,
    }
    for name, value in {**changed, "text": "bye", "whisper": "none", "preset": "sesame"}.items():
        controls.fields[name].value = value
    wanted = TrialSettings(**{**changed, "seed": None})
    assert controls.job() == Job("bye", wanted, None, "sesame")


def test_a_seed_that_is_no_number_and_a_preset_nobody_knows_are_refused():
    controls = Controls()
    controls.fields["seed"].value = "one"
    with pytest.raises(InputError, match="seed 'one': give a whole number"):
        controls.job()
    with pytest.raises(InputError, match="preset 'bucket': the presets are pocket, sesame"):
        Studio("bucket")


def test_speak_shows_the_recognised_text_the_latency_and_a_row_for_the_recording(studio: Studio):
    n_before = len(studio.recordings)
    speak(studio)
    recording = studio.recordings[-1]
    assert len(studio.recordings) == n_before + 1
    assert recording.row["finish_reason"] == "end_of_speech" and recording.row["transcript"]
    assert f"recognised: “{recording.row['transcript']}”" in studio.recognised.value
    assert f"first audio {recording.row['ttfa_ms']:.0f} ms" in studio.status
    assert studio.latency.value.count("<rect") == recording.row["n_chunks"]
    assert len(studio.table.widget.children) == 1 + len(studio.recordings)
    assert (studio.speak_button.disabled, studio.stop_button.disabled) == (False, True)


def test_without_a_front_end_of_the_player_the_recording_comes_with_a_plain_control(studio: Studio):
    speak(studio)
    assert NO_ANSWER in studio.plain.value and "<audio" in studio.plain.value
    studio.player.widget.answered.set()
    try:
        speak(studio)
        assert not studio.plain.value
    finally:
        studio.player.widget.answered.clear()


class SlowStudio(Studio):
    """Waits while it shows the first progress of speaking."""

    def __init__(self, preset: str) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        super().__init__(preset)

    def show(self, progress: Progress) -> None:
        super().show(progress)
        if progress.phase == "speaking":
            self.begun.set()
            self.go_on.wait(WAIT_S)


def test_speak_returns_at_once_and_stop_ends_it():
    studio = SlowStudio("pocket")
    studio.controls.fields["text"].value = "this is a long sentence, and it goes on and on, " * 3
    studio.speak_button.click()
    assert studio.begun.wait(WAIT_S)
    assert (studio.speak_button.disabled, studio.stop_button.disabled) == (True, False)
    studio.stop_button.click()
    studio.go_on.set()
    assert studio.wait(WAIT_S)
    assert "stopped" in studio.status
    assert (studio.speak_button.disabled, studio.stop_button.disabled) == (False, True)


@pytest.mark.parametrize(("field", "value", "line"), [("text", " ", "give a sentence"), ("seed", "x", "whole number")])
def test_an_error_is_one_line_and_the_next_speak_works(studio: Studio, field: str, value: str, line: str):
    studio.controls.fields[field].value = value
    n_before = len(studio.recordings)
    speak(studio)
    assert studio.has_error and line in studio.status
    assert len(studio.recordings) == n_before and not studio.speak_button.disabled
    studio.controls.fields["text"].value, studio.controls.fields["seed"].value = TEXT, "1"
    speak(studio)
    assert len(studio.recordings) == n_before + 1 and not studio.has_error


def test_recordings_are_heard_again_and_kept_by_their_buttons(studio: Studio):
    speak(studio)
    studio.controls.fields["seed"].value = "2"
    speak(studio)
    first, second = studio.recordings[-2:]
    play, keep = buttons(studio, first.number)
    play()
    assert studio.player.wait(WAIT_S)
    np.testing.assert_array_equal(studio.player.audio, first.trial.audio)
    keep()
    assert "kept as" in studio.status
    row = json.loads((studio.folder / ROWS).read_text().splitlines()[-1])
    assert (row["recording"], row["seed"]) == (first.number, 1) != (second.number, 2)
    assert (studio.folder / row["wav"]).is_file()


def test_every_figure_of_a_recording_has_its_column_even_if_nothing_was_measured():
    trial = run_trial(FakeGenerator(), "hi", TrialSettings(codec="fake", seed=1, chunk_frames=(1, 2)))
    shown = dict(zip(COLUMNS, figures(Recording(3, "pocket", trial)), strict=True))
    assert (shown["no."], shown["chunk"], shown["sound"]) == ("3", "1-2", "0.16 s")
    assert (shown["speaker"], shown["text"]) == ("0", "hi")
    assert (shown["Whisper"], shown["WER"], shown["recognised"]) == ("–", "–", "–")


def recordings(*levels: float) -> list[Recording]:
    """Recordings of the same text, as loud as said."""
    trial = run_trial(FakeGenerator(), "hi", TrialSettings(codec="fake", seed=1))
    rms = np.sqrt(np.mean(np.square(trial.audio)))
    return [
        Recording(number, "pocket", replace(trial, audio=trial.audio / rms * np.float32(level)))
        for number, level in enumerate(levels, start=1)
    ]


def test_a_blind_comparison_plays_both_as_loud_and_tells_after_the_vote_which_was_which():
    played: list[np.ndarray] = []
    comparison = BlindComparison(played.append, random.Random(3))
    first, second = recordings(0.1, 0.2)
    comparison.choose([first, second])
    comparison.play(0)
    comparison.play(1)
    assert [np.sqrt(np.mean(np.square(audio))) for audio in played] == pytest.approx([0.1, 0.1])
    assert "recording 1" not in comparison.line
    comparison.vote(0)
    (vote,) = comparison.votes
    assert {vote["first"], vote["second"]} == {1, 2} and vote["preferred"] == vote["first"]
    assert f"You preferred recording {vote['first']}." in comparison.line
    comparison.vote(None)
    assert "no difference: 1" in comparison.line and comparison.votes[1]["preferred"] is None


def test_the_order_of_a_blind_comparison_is_drawn_for_each_vote():
    comparison = BlindComparison(lambda audio: None, random.Random(1))
    comparison.choose(recordings(0.1, 0.1))
    for _ in range(40):
        comparison.vote(None)
    assert 8 <= sum(vote["first"] == 1 for vote in comparison.votes) <= 32


def test_a_comparison_needs_two_ticked_recordings():
    comparison = BlindComparison(lambda audio: None)
    table = RecordingTable(lambda one: None, lambda one: None, comparison.choose)
    for recording in recordings(0.1, 0.1, 0.1):
        table.add(recording)
    assert comparison.line == HINT
    with pytest.raises(StateError, match="tick two of them"):
        comparison.vote(0)
    table.choose(1, 3)
    assert comparison.ready and [recording.number for recording in table.chosen] == [1, 3]
    table.choose(1)
    assert not comparison.ready


def test_the_picture_has_a_bar_a_chunk_and_late_ones_look_late():
    arrivals = Arrivals([0.1, 0.2, 0.9], [0.48, 0.08, 0.48])
    svg = ElementTree.fromstring(latency_svg(arrivals))
    bars = svg.findall("rect")
    heights = [float(bar.get("height")) for bar in bars]
    assert heights[1] == pytest.approx(heights[0], abs=0.2) and heights[2] == pytest.approx(7 * heights[0], rel=0.01)
    assert ["warn" in bar.get("fill") for bar in bars] == [False, False, True]
    assert svg.find("title").text == describe(arrivals)
    assert describe(arrivals) == "first audio 100 ms · gap 400 ms · 3 chunks, 1.04 s · RTF 0.87 · 1 late"


def test_without_chunks_the_picture_is_empty_axes():
    svg = ElementTree.fromstring(latency_svg(Arrivals()))
    assert not svg.findall("rect") and svg.findall("line")
    assert describe(Arrivals()) == ""
    assert describe(Arrivals([0.05], [0.48])) == "first audio 50 ms · 1 chunk, 0.48 s · RTF 0.10"
