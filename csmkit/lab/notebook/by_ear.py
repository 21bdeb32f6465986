"""ByEar: two players over trials that were already run, each with sliders for the settings that were varied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from time import perf_counter, sleep
from typing import Any

import ipywidgets
import numpy as np

from csmkit.audio import SAMPLE_RATE
from csmkit.errors import InputError
from csmkit.lab.analysis.columns import axis_label, in_words
from csmkit.lab.analysis.pairs import shown
from csmkit.lab.analysis.rows import hashable
from csmkit.lab.notebook.output import Shown, button, describe, latency_svg, unanswered_html
from csmkit.lab.notebook.player import Player
from csmkit.lab.trials.trial import Trial

FIGURES = ("ttfa_ms", "gap_p95_ms", "rtf", "n_underruns", "wer", "seam_click_z", "snr_db", "finish_reason")


class ByEar(Shown):
    """Compares trials by ear: one text, two sides, a slider for each setting that differs between the trials.

    Each side shows the figures of its trial, and the latency of each chunk as a picture. With "as it was made" the
    chunks come at the times at which they were made, so that the wait for the first one and the gaps are heard.

    Args:
        trials: trials with sound; all texts should have the same settings.
        parameters: columns of the rows that the sliders choose, such as ``chunk_frames``; one with a single value gets
            no slider.
        figures: columns that are shown where they were measured.

    Attributes:
        delays: whether chunks come at the times at which they were made.
        widget: all of it, for a layout of your own.

    Raises:
        InputError: no trials, or a row without one of the parameters.
    """

    def __init__(self, trials: Iterable[Trial], parameters: Sequence[str], figures: Sequence[str] = FIGURES) -> None:
        found = list(trials)
        missing = [name for name in parameters if any(name not in trial.row for trial in found)]
        if not found or missing:
            wrong = f"{', '.join(missing)} is not a column of the rows" if missing else "there are no trials"
            raise InputError(f"{wrong}: give trials, and parameters that were varied in them")
        texts = list(dict.fromkeys(trial.row["text"] for trial in found))
        self.text = ipywidgets.Dropdown(options=texts, description="text", layout={"width": "98%"})
        self.delays = ipywidgets.Checkbox(True, description="as it was made, with its delays", indent=False)
        self.sides = tuple(Side(found, parameters, figures, self.text, self.delays) for _ in range(2))
        self.sides[1].choose(**{name: slider.options[-1][1] for name, slider in self.sides[1].sliders.items()})
        self.text.observe(lambda _: [side.update() for side in self.sides], "value")
        pair = ipywidgets.HBox([side.widget for side in self.sides], layout={"flex_flow": "row wrap"})
        self.widget = ipywidgets.VBox([self.text, self.delays, pair])
        self.widget.add_class("csmkit-by-ear")


class Side:
    """One player with its sliders and figures; made by `ByEar`.

    Attributes:
        sliders: the sliders by the names of their parameters.
        table: the figures of the trial.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        parameters: Sequence[str],
        figures: Sequence[str],
        text: ipywidgets.Dropdown,
        delays: ipywidgets.Checkbox,
    ) -> None:
        self._text, self._delays, self._figures = text, delays, figures
        self._trials = {
            (trial.row["text"], *(hashable(trial.row[name]) for name in parameters)): trial for trial in trials
        }
        self.sliders: dict[str, Any] = {}
        for name in parameters:
            values = list(dict.fromkeys(hashable(trial.row[name]) for trial in trials))
            self.sliders[name] = ipywidgets.SelectionSlider(
                options=[(shown(value), value) for value in values],
                description=in_words(name),
                disabled=len(values) == 1,
                style={"description_width": "96px"},
                layout={"width": "98%"},
            )
            self.sliders[name].observe(lambda _: self.update(), "value")
        self.player = Player(embedded=True)
        self._play = button("Play", self.play, "90px", icon="play")
        self._play.add_class("csmkit-by-ear-play")
        self._latency, self.table, self._plain = (ipywidgets.HTML() for _ in range(3))
        parts = [*self.sliders.values(), self._play, self.player.widget, self._plain, self._latency, self.table]
        self.widget = ipywidgets.VBox(parts, layout={"flex": "1 1 320px", "max_width": "660px"})
        self.update()

    @property
    def trial(self) -> Trial | None:
        """The trial of the chosen text and settings; None where that combination was not run."""
        return self._trials.get((self._text.value, *(slider.value for slider in self.sliders.values())))

    def choose(self, **settings: Any) -> None:
        """Set sliders by the names of their parameters; a schedule of chunks as a tuple."""
        for name, value in settings.items():
            self.sliders[name].value = value

    def play(self) -> None:
        """Play the chosen trial, as the button does; the words that were recognised are shown under the waveform."""
        trial = self.trial
        if trial is None:
            return
        self.player.play(_as_made(trial) if self._delays.value else trial.audio)
        if trial.transcript is not None:
            self.player.show_words(trial.transcript.words)
        self._plain.value = "" if self.player.widget.answered.is_set() else unanswered_html(trial.audio)

    def update(self) -> None:
        """Show the figures of the chosen trial."""
        trial = self.trial
        self._play.disabled = trial is None
        if trial is None:
            self._latency.value, self.table.value = "", "This combination was not run."
            return
        self._latency.value = latency_svg(trial.arrivals)
        cells = "".join(
            f"<tr><td>{escape(axis_label(name))}</td>"
            f'<td style="text-align:right;padding-left:1em">{escape(_text(trial.row[name]))}</td></tr>'
            for name in self._figures
            if trial.row.get(name) is not None
        )
        self.table.value = f"<div>{escape(describe(trial.arrivals))}</div><table>{cells}</table>"


def _as_made(trial: Trial) -> Iterator[np.ndarray]:
    """The chunks of a trial at the times at which they were made."""
    began_s, start = perf_counter(), 0
    for time_s, duration_s in zip(trial.arrivals.times_s, trial.arrivals.durations_s, strict=True):
        sleep(max(0.0, began_s + time_s - perf_counter()))
        end = start + round(duration_s * SAMPLE_RATE)
        yield trial.audio[start:end]
        start = end


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("_", " ")
