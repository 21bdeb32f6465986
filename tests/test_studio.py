"""The studio without a browser: what its fields order, what it shows, what its buttons do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from lab_server import need

from csmkit.errors import InputError
from csmkit.lab.notebook.recordings import ROWS, Take
from csmkit.lab.notebook.session import Order, Progress
from csmkit.lab.trials.trial import TrialSettings, run_trial
from csmkit.speech.generator import FakeGenerator
from csmkit.timing import Arrivals

need("anywidget", "ipywidgets")
from csmkit.lab.notebook import Studio
from csmkit.lab.notebook.chart import describe, latency_svg
from csmkit.lab.notebook.controls import Controls
from csmkit.lab.notebook.history import COLUMNS, figures
from csmkit.lab.notebook.output import NO_ANSWER

WAIT_S = 100.0
TEXT = "good morning."


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """One studio for the file: the bundled models are loaded once."""
    studio = Studio("pocket", text=TEXT, folder=tmp_path_factory.mktemp("studio") / "takes")
    yield studio
    studio.close()


@pytest.fixture
def studio(bench: Studio) -> Studio:
    fields = bench.controls.fields
    fields["text"].value, fields["seed"].value, fields["chunk_frames"].value = TEXT, "1", 6
    return bench


def speak(studio: Studio) -> None:
    studio._speak.click()
    assert studio.booth.wait(WAIT_S)


def buttons(studio: Studio, take: int) -> list[Callable[[], None]]:
    """Play and Keep of a take."""
    row = studio._history.widget.children[1 + len(studio.takes) - take]
    return [button.click for button in row.children[:2]]


def test_the_fields_make_the_order():
    controls = Controls("hello", "pocket")
    assert controls.order() == Order("hello", TrialSettings(seed=1, max_audio_length_ms=8000), "base.en", "pocket")
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
    assert controls.order() == Order("bye", wanted, None, "sesame")


def test_a_seed_that_is_no_number_and_a_preset_nobody_knows_are_refused():
    controls = Controls()
    controls.fields["seed"].value = "one"
    with pytest.raises(InputError, match="seed 'one': give a whole number"):
        controls.order()
    with pytest.raises(InputError, match="preset 'bucket': the presets are pocket, sesame"):
        Studio("bucket")


def test_speak_shows_what_was_heard_how_fast_and_a_row_for_the_take(studio: Studio):
    n_before = len(studio.takes)
    speak(studio)
    take = studio.takes[-1]
    assert len(studio.takes) == n_before + 1
    assert take.row["finish_reason"] == "end_of_speech" and take.row["transcript"]
    assert f"heard: “{take.row['transcript']}”" in studio._heard.value
    assert f"first audio {take.row['ttfa_ms']:.0f} ms" in studio._status.value
    assert studio._latency.value.count("<rect") == take.row["n_chunks"]
    assert len(studio._history.widget.children) == 1 + len(studio.takes)
    assert (studio._speak.disabled, studio._stop.disabled) == (False, True)


def test_without_a_front_end_of_the_player_the_take_comes_with_a_plain_control(studio: Studio):
    speak(studio)
    assert NO_ANSWER in studio._sound.value and "<audio" in studio._sound.value
    studio.player.widget.answered.set()
    try:
        speak(studio)
        assert not studio._sound.value
    finally:
        studio.player.widget.answered.clear()


def test_speak_returns_at_once_and_stop_ends_it(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    begun, go_on = threading.Event(), threading.Event()
    show = studio.booth._tell

    def slowly(progress: Progress) -> None:
        show(progress)
        if progress.phase == "speaking":
            begun.set()
            go_on.wait(WAIT_S)

    monkeypatch.setattr(studio.booth, "_tell", slowly)
    studio.controls.fields["text"].value = "this is a long sentence, and it goes on and on, " * 3
    studio._speak.click()
    assert begun.wait(WAIT_S)
    assert (studio._speak.disabled, studio._stop.disabled) == (True, False)
    studio._stop.click()
    go_on.set()
    assert studio.booth.wait(WAIT_S)
    assert "stopped" in studio._status.value
    assert (studio._speak.disabled, studio._stop.disabled) == (False, True)


@pytest.mark.parametrize(("field", "value", "line"), [("text", " ", "give a sentence"), ("seed", "x", "whole number")])
def test_an_error_is_one_line_and_the_next_speak_works(studio: Studio, field: str, value: str, line: str):
    studio.controls.fields[field].value = value
    n_before = len(studio.takes)
    speak(studio)
    assert 'role="alert"' in studio._status.value and line in studio._status.value
    assert len(studio.takes) == n_before and not studio._speak.disabled
    studio.controls.fields["text"].value, studio.controls.fields["seed"].value = TEXT, "1"
    speak(studio)
    assert len(studio.takes) == n_before + 1 and "alert" not in studio._status.value


def test_takes_are_heard_again_and_kept_by_their_buttons(studio: Studio):
    speak(studio)
    studio.controls.fields["seed"].value = "2"
    speak(studio)
    first, second = studio.takes[-2:]
    play, keep = buttons(studio, first.number)
    play()
    assert studio.player.wait(WAIT_S)
    np.testing.assert_array_equal(studio.player.audio, first.trial.audio)
    keep()
    assert "kept as" in studio._status.value
    row = json.loads((Path(studio._folder) / ROWS).read_text().splitlines()[-1])
    assert (row["take"], row["seed"]) == (first.number, 1) != (second.number, 2)
    assert (Path(studio._folder) / row["wav"]).is_file()


def test_every_figure_of_a_take_has_its_column_even_if_nothing_was_measured():
    trial = run_trial(FakeGenerator(), "hi", TrialSettings(codec="fake", seed=1, chunk_frames=(1, 2)))
    shown = dict(zip(COLUMNS, figures(Take(3, "pocket", trial)), strict=True))
    assert (shown["take"], shown["chunk"], shown["sound"]) == ("3", "1, 2", "0.16 s")
    assert (shown["Whisper"], shown["WER"], shown["heard"]) == ("–", "–", "–")


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
