"""The part of the player that lives in the browser, as a widget: messages there, a report back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

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
        report: what the browser tells: ``play``, ``phase``, ``underruns``, ``arrivals_s``, ``durations_s``,
            ``heard_s`` (the playback clock) and ``told_s`` (the browser's clock). While it plays it tells every second.
            Written by the browser alone, so that the two cannot contradict each other.
        silenced_play: the last play that Python has stopped; 0 for none.
        answered: set by the first message of a front end.
        messages_come_during_cells: whether the browser's messages are read while a cell runs, as they are by kernels
            that route them to a subshell (ipykernel 7.0 to 7.3 with JupyterLab 4.4); None until that is known.
        front_end_exists: whether any player of this kernel was answered.
    """

    messages_come_during_cells: ClassVar[bool | None] = None
    front_end_exists: ClassVar[bool] = False

    _esm = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("sound.js", "player.js"))
    _css = HERE / "player.css"
    lead_ms = traitlets.Int(30).tag(sync=True)
    report = traitlets.Dict()

    def __init__(self, on_stop: Callable[[int], None], on_answer: Callable[[], None], **traits: Any) -> None:
        self._reported = threading.Condition()
        self.silenced_play = 0
        super().__init__(**traits)
        self.answered = threading.Event()
        self._on_stop, self._on_answer = on_stop, on_answer
        self.on_msg(self._receive)

    @traitlets.validate("lead_ms")
    def _check_lead(self, proposal: traitlets.Bunch) -> int:
        if not 0 <= proposal.value <= MAX_LEAD_MS:
            raise InputError(f"lead_ms={proposal.value}: give milliseconds from 0 to {MAX_LEAD_MS}")
        return proposal.value

    def begin(self, play: int, at_once: bool = False) -> None:
        """Say that chunks of a new play follow; what this player played before is silenced.

        Where another player of the page sounds, this one follows it, or silences it if it is to begin ``at_once``.
        """
        self.send({"type": "begin", "play": play, "at_once": at_once})

    def chunk(self, play: int, samples: np.ndarray) -> None:
        """Send ``(samples,)`` float32 at 24 kHz, bit for bit."""
        self.send({"type": "chunk", "play": play}, buffers=[samples.astype("<f4").tobytes()])

    def end(self, play: int, error: str = "") -> None:
        """Say that nothing more follows, and why if it broke off."""
        self.send({"type": "end", "play": play, "error": error})

    def silence(self, play: int) -> None:
        """Stop the sound at once; chunks of this play that are still on their way are dropped."""
        self.send({"type": "stop", "play": play})
        with self._reported:
            self.silenced_play = play
            self._reported.notify_all()

    def wait_for_report(
        self, is_enough: Callable[[dict[str, Any]], bool], timeout: float | None, lost_s: float | None = None
    ) -> bool:
        """Block until the browser has reported something.

        Args:
            is_enough: takes a report.
            timeout: seconds at most; None for as long as it takes.
            lost_s: seconds without any report after which the browser is taken to be gone; None waits for it.

        Returns:
            False after the timeout; True once it was reported, or the browser is gone.
        """
        left_s = timeout
        with self._reported:
            while not is_enough(self.report):
                patience_s = min((s for s in (left_s, lost_s) if s is not None), default=None)
                started_s = monotonic()
                came = self._reported.wait(patience_s)
                if left_s is not None:
                    left_s -= monotonic() - started_s
                    if left_s <= 0:
                        return is_enough(self.report)
                if not came:
                    return True
        return True

    @traitlets.observe("report")
    def _note_report(self, _: traitlets.Bunch) -> None:
        with self._reported:
            self._reported.notify_all()

    def _receive(self, _: PlayerWidget, message: dict[str, Any], buffers: list[memoryview]) -> None:
        if threading.current_thread() is not threading.main_thread():
            PlayerWidget.messages_come_during_cells = True
        if not self.answered.is_set():
            PlayerWidget.front_end_exists = True
            self.answered.set()
            self._on_answer()
        # Messages from before the front end had a subshell come after later ones, when the cell is over.
        if message["type"] == "report" and message["report"]["told_s"] >= self.report.get("told_s", 0):
            self.report = message["report"]
        elif message["type"] == "stop":
            self._on_stop(message["play"])
