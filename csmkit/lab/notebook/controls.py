"""The fields of the studio, as ipywidgets, and the job that they describe."""

from __future__ import annotations

from typing import Any

import ipywidgets

from csmkit.asr.directory import NAMES
from csmkit.audio import FRAME_MS
from csmkit.errors import InputError
from csmkit.files.hub import DEFAULT_WHISPER
from csmkit.lab.notebook.session import Job
from csmkit.lab.trials.trial import TrialSettings
from csmkit.speech.settings import Request
from csmkit.stack import PRESETS, find_models

SCHEDULES: tuple[int | tuple[int, ...], ...] = (1, 2, 3, 4, 6, 8, 10, 12, (1, 2, 4, 6), (1, 3, 6, 12))
TEMPERATURES = tuple(step / 20 for step in range(31))
TOP_KS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 2048)
OWN, NONE = "own", "none"  # an ipywidgets selection takes None for "nothing selected"
_WIDE = {"layout": {"width": "330px", "max_width": "98%"}, "style": {"description_width": "92px"}}


class Controls:
    """The fields of a job.

    Attributes:
        fields: the widgets by name: ``text``, ``preset``, ``speaker``, ``chunk_frames``, ``temperature``, ``topk``,
            ``seed``, ``max_audio_length_ms``, ``whisper``. "own" is the default of the checkpoint.
    """

    def __init__(self, text: str = "good morning, how are you today?", preset: str | None = None) -> None:
        models = find_models(preset)
        chosen = next((name for name, known in PRESETS.items() if known is models), None)
        self.fields: dict[str, Any] = {
            "text": ipywidgets.Textarea(text, rows=2, layout={"width": "100%", "max_width": "680px"}),
            "preset": ipywidgets.Dropdown(options=list(PRESETS), value=chosen, description="preset", **_WIDE),
            "speaker": ipywidgets.BoundedIntText(0, min=0, max=99, description="speaker", **_WIDE),
            "chunk_frames": ipywidgets.SelectionSlider(
                options=[(_schedule(sizes), sizes) for sizes in SCHEDULES], value=6, description="chunk", **_WIDE
            ),
            "temperature": ipywidgets.SelectionSlider(
                options=[(OWN, OWN), *((f"{value:.2f}", value) for value in TEMPERATURES)],
                description="temperature",
                **_WIDE,
            ),
            "topk": ipywidgets.SelectionSlider(
                options=[(OWN, OWN), *((str(value), value) for value in TOP_KS)], description="top-k", **_WIDE
            ),
            "seed": ipywidgets.Text("1", placeholder="empty: a new one each time", description="seed", **_WIDE),
            "max_audio_length_ms": ipywidgets.IntSlider(
                Request.max_audio_length_ms, min=500, max=30_000, step=500, description="at most (ms)", **_WIDE
            ),
            "whisper": ipywidgets.Dropdown(
                options=[*NAMES, NONE], value=DEFAULT_WHISPER, description="Whisper", **_WIDE
            ),
        }
        for name, widget in self.fields.items():
            widget.add_class(f"csmkit-studio-{name.replace('_', '-')}")
        self.fields["text"].continuous_update = False

    @property
    def layout(self) -> ipywidgets.Widget:
        """All fields: the text, and below it the others in two columns, or one where there is less room."""
        fields = self.fields
        left = [fields[name] for name in ("preset", "speaker", "seed", "whisper")]
        right = [fields[name] for name in ("chunk_frames", "temperature", "topk", "max_audio_length_ms")]
        columns = [ipywidgets.VBox(left), ipywidgets.VBox(right)]
        return ipywidgets.VBox([fields["text"], ipywidgets.HBox(columns, layout={"flex_flow": "row wrap"})])

    def job(self) -> Job:
        """The job that the fields describe; InputError for a seed that is no number. Speaking checks the others."""
        value = {
            name: None if widget.value in (OWN, NONE) and name != "text" else widget.value
            for name, widget in self.fields.items()
        }
        text, whisper, preset = (value.pop(name) for name in ("text", "whisper", "preset"))
        settings = TrialSettings(**{**value, "seed": _seed(value["seed"])})
        return Job(text, settings, whisper, preset)


def _seed(written: str) -> int | None:
    try:
        return int(written) if written.strip() else None
    except ValueError as error:
        raise InputError(f"seed {written!r}: give a whole number, or nothing for a new one each time") from error


def _schedule(sizes: int | tuple[int, ...]) -> str:
    if isinstance(sizes, int):
        return f"{sizes} ({sizes * FRAME_MS} ms)"
    return ", ".join(str(size) for size in sizes) + ", …"
