"""The seam metric on the bundled voice: chunks decoded alone are told apart from a stateful stream."""

from __future__ import annotations

import numpy as np
import pytest

from csmkit.lab.trials.trial import TrialSettings, run_trials
from csmkit.speech.generator import Generator

TEXTS = ("good morning, how are you today?", "the weather is nice and warm.")


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict]]:
    voice = Generator.load("pocket", device="cpu")
    settings = {
        codec: [
            TrialSettings(chunk_frames=size, seed=1, speaker=speaker, codec=codec)
            for size in (2, 6)
            for speaker in (0, 1)
        ]
        for codec in ("streaming", "independent")
    }
    return {codec: [trial.row for trial in run_trials(voice, TEXTS, some)] for codec, some in settings.items()}


def test_chunks_decoded_alone_click_at_their_borders_and_nowhere_else(rows: dict[str, list[dict]]) -> None:
    for row in rows["independent"]:
        assert row["seam_click_z"] > 10 * row["seam_click_control_z"], row
        assert row["seam_click_auc"] > 0.95
        assert row["snr_db"] < 60


def test_borders_of_a_stateful_stream_are_like_other_places(rows: dict[str, list[dict]]) -> None:
    click, control = (
        np.median([row[name] for row in rows["streaming"]]) for name in ("seam_click_z", "seam_click_control_z")
    )
    assert click < 2 * control < 15
    assert min(row["snr_db"] for row in rows["streaming"]) > 100


def test_the_control_is_the_same_for_both_so_only_borders_differ(rows: dict[str, list[dict]]) -> None:
    controls = [np.median([row["seam_click_control_z"] for row in group]) for group in rows.values()]
    assert max(controls) < 1.5 * min(controls)
