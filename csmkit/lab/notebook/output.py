"""The place in a notebook where a player is seen: its widget, or a plain audio control where no widget can be."""

from __future__ import annotations

import logging
from html import escape
from typing import Any, ClassVar

import numpy as np
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import Audio, DisplayHandle, display

from csmkit.audio import SAMPLE_RATE

log = logging.getLogger(__name__)

NO_ANSWER = "No front end answered the player: here is the whole sound, which would have played while it was made."


class Output:
    """A cell's output that can be exchanged later, also while another cell runs.

    Args:
        bundle: the widget by MIME type.
        embedded: somebody else shows the widget, so that nothing is put into any output.

    Attributes:
        shows_audio: whether the audio control is there in place of the widget.
    """

    _told: ClassVar[bool] = False  # why there is no widget, by any output: the same line in each cell would be noise

    def __init__(self, bundle: dict[str, Any], embedded: bool = False) -> None:
        self.shows_audio = False
        self._embedded = embedded
        self._bundle = bundle
        self._handle: DisplayHandle | None = None
        self._reason: str | None = None

    @property
    def shown(self) -> bool:
        """Whether there is such an output yet."""
        return self._handle is not None

    def show_widget(self) -> None:
        """Put the widget into the output of the cell that runs; outside IPython there is none."""
        self.shows_audio = False
        if InteractiveShell.initialized() and not self._embedded:
            self._handle = display(self._bundle, raw=True, display_id=True)

    def show_audio(self, audio: np.ndarray, error: BaseException | None) -> None:
        """Put an audio control of ``(samples,)`` float32 in the widget's place, again if need be, and say why once."""
        if not self.shows_audio and not self._embedded:
            self._reason = None if Output._told else NO_ANSWER
            Output._told = True
        if self._handle is not None:
            lines = [self._reason or "", "" if error is None else f"It broke off: {error}"]
            self._handle.update(_audio_bundle(audio, [line for line in lines if line]), raw=True)
        elif not self.shows_audio and self._reason:
            log.warning("a player is heard in a notebook only: here, take the sound from its attribute 'audio'")
        self.shows_audio = True

    def restore_widget(self) -> None:
        """Take the audio control away again: the front end did answer, only late."""
        if self.shows_audio and self._handle is not None:
            self._handle.update(self._bundle, raw=True)
            Output._told = False  # what was said is gone, and was wrong
        self.shows_audio = False


def audio_html(audio: np.ndarray) -> str:
    """An audio control of ``(samples,)`` float32 at 24 kHz, at least one, that leaves the loudness as it is."""
    return Audio(audio.clip(-1, 1), rate=SAMPLE_RATE, normalize=False)._repr_html_()


def _audio_bundle(audio: np.ndarray, lines: list[str]) -> dict[str, Any]:
    control = audio_html(audio) if len(audio) else ""
    plain = "\n".join([*lines, f"{len(audio) / SAMPLE_RATE:.2f} s of sound"])
    return {"text/plain": plain, "text/html": "".join(f"<div>{escape(line)}</div>" for line in lines) + control}
