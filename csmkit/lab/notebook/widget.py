"""The part of the player that runs in the browser, as a widget: messages to it, a report back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import anywidget
import numpy as np
import traitlets

from csmkit.asr.transcriber import Word
from csmkit.errors import InputError

MAX_LEAD_MS = 10_000


def joined(*names: str) -> str:
    """The text of several files of this folder, one after the other: a widget's module cannot import another file."""
    return "\n".join((Path(__file__).parent / name).read_text(encoding="utf-8") for name in names)


class PlayerWidget(anywidget.AnyWidget):
    """Plays the chunks that it is sent; see sound.js. Without a front end, sending does nothing.

    Attributes:
        lead_ms: silence before the first chunk, in ms; a slow generator needs it to play without a gap.
        report: the browser's latest message: ``play``, ``phase``, ``underruns``, ``arrivals_s``, ``durations_s``,
            ``heard_s`` (position of the listener) and ``reported_s`` (the browser's clock). While it plays there is one
            every second. Only the browser writes it, so that the two sides cannot disagree.
        silenced_play: the last play that Python has stopped; 0 for none.
        answered: set by the first message of a front end.
        messages_come_during_cells: whether the browser's messages are read while a cell runs, as kernels do that route
            them to a subshell (ipykernel 7.0 to 7.3 with JupyterLab 4.4); None until that is known.
        front_end_exists: whether a front end has answered any player of this kernel.
    """

    messages_come_during_cells: ClassVar[bool | None] = None
    front_end_exists: ClassVar[bool] = False

    _esm = joined("sound.js", "player.js", "widget.js")
    _css = joined("player.css")
    lead_ms = traitlets.Int(30).tag(sync=True)
    report = traitlets.Dict()

    def __init__(self, on_stop: Callable[[int], None], on_answer: Callable[[], None], **traits: Any) -> None:
        self._reported = threading.Condition()
        self.silenced_play = 0
        super().__init__(**traits)
        self.answered = threading.Event()
        self._on_stop, self._on_answer = on_stop, on_answer
        self.on_msg(lambda _, message, buffers: self.receive(message, buffers))

    @traitlets.validate("lead_ms")
    def _check_lead(self, proposal: traitlets.Bunch) -> int:
        if not 0 <= proposal.value <= MAX_LEAD_MS:
            raise InputError(f"lead_ms={proposal.value}: give milliseconds from 0 to {MAX_LEAD_MS}")
        return proposal.value

    def begin(self, play: int, at_once: bool = False) -> None:
        """Announce the chunks of a new play; the play before is silenced.

        Args:
            at_once: silence another player of the page instead of playing after it.
        """
        self.send({"type": "begin", "play": play, "at_once": at_once})

    def chunk(self, play: int, samples: np.ndarray) -> None:
        """Send ``(samples,)`` float32 at 24 kHz, bit for bit."""
        self.send({"type": "chunk", "play": play}, buffers=[samples.astype("<f4").tobytes()])

    def words(self, play: int, words: Iterable[Word]) -> None:
        """Show words with their times under the waveform."""
        timed = [{"text": word.text, "from": word.start_s, "to": word.end_s} for word in words]
        self.send({"type": "words", "play": play, "words": timed})

    def end(self, play: int, error: str = "") -> None:
        """Announce that no chunk follows, and the error that ended the play early, if there was one."""
        self.send({"type": "end", "play": play, "error": error})

    def silence(self, play: int) -> None:
        """Stop the sound at once; chunks of this play that arrive later are dropped."""
        self.send({"type": "stop", "play": play})
        with self._reported:
            self.silenced_play = play
            self._reported.notify_all()

    def wait_for_report(
        self, is_enough: Callable[[dict[str, Any]], bool], timeout: float | None, lost_s: float | None = None
    ) -> bool:
        """Block until the browser has sent a certain report.

        Args:
            timeout: seconds at most; None for as long as it takes.
            lost_s: seconds without any report after which the browser counts as closed; None never does.

        Returns:
            False after the timeout; True once the report came, or the browser is closed.
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

    def receive(self, message: dict[str, Any], buffers: list[memoryview]) -> None:
        """Take a message of the browser: "ready", "report" or "stop"; called by the kernel."""
        if threading.current_thread() is not threading.main_thread():
            PlayerWidget.messages_come_during_cells = True
        if not self.answered.is_set():
            PlayerWidget.front_end_exists = True
            self.answered.set()
            self._on_answer()
        # Messages sent before the front end had a subshell arrive after later ones, when the cell has ended.
        if message["type"] == "report" and message["report"]["reported_s"] >= self.report.get("reported_s", 0):
            self.report = message["report"]
        elif message["type"] == "stop":
            self._on_stop(message["play"])
