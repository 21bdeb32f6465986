"""Studio: type a text, choose settings, hear, compare and keep, without writing code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from os import PathLike
from pathlib import Path

import ipywidgets
import numpy as np

from csmkit.errors import CsmkitError
from csmkit.lab.notebook.controls import Controls
from csmkit.lab.notebook.output import Shown, button, describe, latency_svg, unanswered_html
from csmkit.lab.notebook.player import Player
from csmkit.lab.notebook.recordings import BlindComparison, Recording, RecordingTable, keep
from csmkit.lab.notebook.session import Progress, Session
from csmkit.timing import Arrivals

PHASES = {
    "loading": "loading the models, some seconds the first time …",
    "speaking": "",
    "measuring": "measuring …",
    "stopped": "stopped",
}


class Studio(Shown):
    """A form with Speak and Stop, a player, live text and latency, the recordings so far, and a blind comparison.

    Speaking runs in a thread: the kernel stays free, and cells may use ``recordings`` meanwhile. An error is shown as
    text below the buttons. Where the player's front end is missing, each recording comes with a plain audio control.

    Args:
        preset: selected at first; an unknown one raises InputError, and None asks CSMKIT_PRESET and means pocket.
            Models are loaded at the first Speak.
        folder: where recordings are kept.

    Attributes:
        recordings: all recordings so far, oldest first.
        recognised: the recogniser's text; empty before there is any.
        latency: the picture of the latency.
        plain: the audio control shown where the player has no front end; empty otherwise.
        table: the recordings, with their buttons.
        widget: all of it, for a layout of your own.
    """

    def __init__(
        self,
        preset: str | None = None,
        *,
        text: str = "good morning, how are you today?",
        folder: str | PathLike[str] = "recordings",
    ) -> None:
        self.controls = Controls(text, preset)
        self.player = Player(embedded=True)
        self.session = Session(self.player, self.show)
        self.recordings = self.session.recordings
        self.table = RecordingTable(self.play, self.keep, lambda chosen: self.comparison.choose(chosen))
        self.comparison = BlindComparison(self._play_audio)
        self.folder = Path(folder)
        self.status, self.has_error = "", False
        self._make_widget()

    def _make_widget(self) -> None:
        self.speak_button = button("Speak", self.speak, "90px", icon="play", button_style="primary")
        self.stop_button = button("Stop", self.session.stop, "90px", icon="stop", disabled=True)
        self._status, self.recognised, self.latency, self.plain = (ipywidgets.HTML() for _ in range(4))
        named = {"speak": self.speak_button, "stop": self.stop_button, "status": self._status}
        for name, part in {**named, "text-recognised": self.recognised, "latency": self.latency}.items():
            part.add_class(f"csmkit-studio-{name}")
        self._status.layout = {"max_width": "760px"}
        self.latency.value = latency_svg(Arrivals())
        buttons = ipywidgets.HBox([self.speak_button, self.stop_button], layout={"flex": "0 0 auto"})
        above = [self.controls.layout, buttons, self._status, self.player.widget]
        below = [self.plain, self.recognised, self.latency, self.table.widget, self.comparison.widget]
        self.widget = ipywidgets.VBox([*above, *below])
        self.widget.add_class("csmkit-studio")

    def speak(self) -> None:
        """Speak the text with the present settings, as the button does; returns at once."""
        self.plain.value = ""
        with self._errors_shown():
            job = self.controls.job()
            self._set_busy(True)
            self.session.speak(job)

    def stop(self) -> None:
        """Stop speaking, as the button does."""
        self.session.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds for the end of the recording in progress; returns whether it has ended."""
        return self.session.wait(timeout)

    def play(self, recording: Recording) -> None:
        """Play a recording again, as its button does."""
        self._play_audio(recording.trial.audio)
        if recording.trial.transcript is not None:
            self.player.show_words(recording.trial.transcript.words)

    def keep(self, recording: Recording) -> Path | None:
        """Write a recording to the folder, as its button does; returns its file, or None after an error."""
        with self._errors_shown():
            path = keep(recording, self.folder)
            self._say(f"kept as {path}")
            return path
        return None

    def close(self) -> None:
        """Stop, remove the widget and release the models."""
        self.session.close()
        self.widget.close()

    def show(self, progress: Progress) -> None:
        """Show the progress of a job; the session calls it in its thread."""
        if progress.error:
            self._say(progress.error, error=True)
        else:
            self._say(" · ".join(filter(None, [describe(progress.arrivals), PHASES.get(progress.phase, "")])))
        if progress.busy or progress.recording is not None:
            self.latency.value = latency_svg(progress.arrivals)
            self.recognised.value = _recognised(progress.text, progress.final)
        if progress.recording is not None:
            self.table.add(progress.recording)
            self.player.show_words(progress.words)
            self._show_plain_control(progress.recording.trial.audio)
        self._set_busy(progress.busy)

    def _play_audio(self, audio: np.ndarray) -> None:
        with self._errors_shown():
            self.session.play(audio)
            self._show_plain_control(audio)

    @contextmanager
    def _errors_shown(self) -> Iterator[None]:
        """Show errors of csmkit as text: a click has no caller who could catch them."""
        try:
            yield
        except CsmkitError as error:
            self._say(" ".join(str(error).split()), error=True)

    def _show_plain_control(self, audio: np.ndarray) -> None:
        self.plain.value = "" if self.player.widget.answered.is_set() else unanswered_html(audio)

    def _say(self, line: str, *, error: bool = False) -> None:
        self.status, self.has_error = line, error
        colour = "var(--jp-error-color1, #c62828)" if error else "var(--jp-ui-font-color2, #616161)"
        role = "alert" if error else "status"
        style = f"color:{colour};line-height:1.4;overflow-wrap:anywhere;white-space:normal"
        self._status.value = f'<div style="{style}" role="{role}">{escape(line)}</div>' if line else ""

    def _set_busy(self, busy: bool) -> None:
        self.speak_button.disabled, self.stop_button.disabled = busy, not busy


def _recognised(text: str, final: bool) -> str:
    """The recogniser's text; in italics while it may still change."""
    if not text:
        return ""
    tag = "span" if final else "em"
    label = "recognised" if final else "recognising"
    return f"<{tag}>{label}: “{escape(text)}”</{tag}>"
