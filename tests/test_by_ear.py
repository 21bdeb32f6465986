"""Trials compared by ear: sliders choose among what was run, and each side plays and shows its trial."""

from __future__ import annotations

import numpy as np
import pytest
from lab_server import need

from csmkit.errors import InputError
from csmkit.lab.trials.trial import Trial, TrialSettings, run_trial
from csmkit.speech.generator import FakeGenerator

need("anywidget", "ipywidgets")
from csmkit.lab.notebook import ByEar

WAIT_S = 60.0
TEXTS = ("one two three", "four five six seven")
SIZES = (1, 4, (1, 2))


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return [
        run_trial(FakeGenerator(), text, TrialSettings(codec="fake", chunk_frames=size, seed=seed))
        for text in TEXTS
        for size in SIZES
        for seed in (1, 2)
        if (text, size) != (TEXTS[1], 4)
    ]


def find(trials: list[Trial], text: str, size: object, seed: int) -> Trial:
    return next(t for t in trials if (t.row["text"], t.row["chunk_frames"], t.row["seed"]) == (text, size, seed))


def test_each_side_plays_the_trial_of_its_sliders_with_or_without_its_delays(trials: list[Trial]) -> None:
    by_ear = ByEar(trials, ("chunk_frames", "seed"))
    left, right = by_ear.sides
    for delays in (False, True):
        by_ear.text.value, by_ear.delays.value = TEXTS[0], delays
        for side, size, seed in ((left, 4, 2), (right, (1, 2), 1)):
            side.choose(chunk_frames=size, seed=seed)
            side.play()
            assert side.player.wait(WAIT_S)
            wanted = find(trials, TEXTS[0], size, seed)
            np.testing.assert_array_equal(side.player.audio, wanted.audio)
            n_chunks = len(wanted.arrivals) if delays else 1
            assert len(side.player.sent) == n_chunks


def test_the_sides_begin_with_the_first_and_the_last_settings(trials: list[Trial]) -> None:
    left, right = ByEar(trials, ("chunk_frames", "seed")).sides
    assert left.trial is find(trials, TEXTS[0], 1, 1) and right.trial is find(trials, TEXTS[0], (1, 2), 2)


def test_the_figures_follow_the_sliders_and_the_text(trials: list[Trial]) -> None:
    by_ear = ByEar(trials, ("chunk_frames", "seed"), ("n_chunks", "audio_s"))
    (left, _) = by_ear.sides
    assert f">{left.trial.row['n_chunks']}<" in left.table.value
    before = left.table.value
    by_ear.text.value = TEXTS[1]
    assert left.table.value != before and left.trial.row["text"] == TEXTS[1]


def test_a_combination_that_was_not_run_says_so_and_plays_nothing(trials: list[Trial]) -> None:
    by_ear = ByEar(trials, ("chunk_frames", "seed"))
    by_ear.text.value = TEXTS[1]
    (left, _) = by_ear.sides
    left.choose(chunk_frames=4)
    assert left.trial is None and left.table.value == "This combination was not run."
    left.play()
    assert not len(left.player.audio)


@pytest.mark.parametrize(
    ("n", "name", "line"), [(0, "seed", "there are no trials"), (2, "warmth", "warmth is not a col")]
)
def test_trials_without_the_parameter_are_refused(trials: list[Trial], n: int, name: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        ByEar(trials[:n], [name])
