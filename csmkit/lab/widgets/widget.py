"""The part of the player that lives in the browser, as a widget: messages there, a report back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from csmkit.errors import InputError

HERE = Path(__file__).parent
MAX_LEAD_MS = 10_000


class PlayerWidget(anywidget.AnyWidget):
    """Plays what it is sent; see sound.js. Sending where no front end listens does nothing.

    Attributes:
        lead_ms: silence before the first chunk; what a slow generator needs to play without a gap.
        report: what the browser tells: ``play``, ``phase``, ``underruns``, ``arrivals_s``, ``durations_s``. Written by
            the browser alone, so that the two cannot contradict each other.
        answered: set once a front end has said that it is there.
    """

    _esm = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("sound.js", "player.js"))
    _css = HERE / "player.css"
    lead_ms = traitlets.Int(30).tag(sync=True)
    report = traitlets.Dict().tag(sync=True)

    def __init__(self, on_stop: Callable[[int], None], on_answer: Callable[[], None], **traits: Any) -> None:
        super().__init__(**traits)
        self.answered = threading.Event()
        self._on_stop, self._on_answer = on_stop, on_answer
        self.on_msg(self._receive)

    @traitlets.validate("lead_ms")
    def _check_lead(self, proposal: traitlets.Bunch) -> int:
        if not 0 <= proposal.value <= MAX_LEAD_MS:
            raise InputError(f"lead_ms={proposal.value}: give milliseconds from 0 to {MAX_LEAD_MS}")
        return proposal.value

    def begin(self, play: int) -> None:
        """Say that chunks of a new play follow; whatever sounds is silenced."""
        self.send({"type": "begin", "play": play})

    def chunk(self, play: int, samples: np.ndarray) -> None:
        """Send ``(samples,)`` float32 at 24 kHz, bit for bit."""
        self.send({"type": "chunk", "play": play}, buffers=[samples.astype("<f4").tobytes()])

    def end(self, play: int, error: str = "") -> None:
        """Say that nothing more follows, and why if it broke off."""
        self.send({"type": "end", "play": play, "error": error})

    def silence(self, play: int) -> None:
        """Stop the sound at once; chunks of this play that are still on their way are dropped."""
        self.send({"type": "stop", "play": play})

    def _receive(self, _: PlayerWidget, message: dict[str, Any], buffers: list[memoryview]) -> None:
        if message["type"] == "ready":
            self.answered.set()
            self._on_answer()
        elif message["type"] == "stop":
            self._on_stop(message["play"])
