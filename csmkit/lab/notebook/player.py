"""Player: hear an answer in the notebook while it is still being made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from csmkit.lab.notebook.output import Output
from csmkit.lab.notebook.playback import Playback, items_of
from csmkit.lab.notebook.widget import PlayerWidget
from csmkit.timing import Arrivals

if TYPE_CHECKING:
    from csmkit.audio import Waveform
    from csmkit.chat.events import Event
    from csmkit.lab.notebook.playback import Source

LOST_S = 15.0  # a browser that plays reports every second; one that does not any more is gone
ANSWER_S = 2.0  # a front end that has not answered by then is taken as absent, until it does


class Player:
    """Plays chunks without gaps as they come, with a button that stops them and whoever makes them.

    One player sounds at a time in a page: where another one sounds, this one follows it, and an ``embedded`` one, whose
    user has pressed a button, takes its place.

    It shows itself in the cell that plays first. Where no front end answers (papermill, a server without the widget's
    JavaScript) it says so once and shows a plain audio control when the sound is complete; in a notebook that runs
    without a browser call `wait`, so that this happens while a cell runs.

    Args:
        lead_ms: silence before the first chunk, 0 to 10 000; more lets a slow generator play without a gap. A chatbot
            holds back by itself, as long as needed and in step with its history: give it ``prebuffer_ms="auto"``.
        embedded: ``widget`` is shown in a layout of your own: nothing is displayed from here, and no audio control
            stands in for it.

    Attributes:
        widget: the widget itself.

    Raises:
        InputError: ``lead_ms`` out of range.
    """

    def __init__(self, lead_ms: int = 30, *, embedded: bool = False) -> None:
        self.widget = PlayerWidget(self._stop_from_browser, self._on_answer, lead_ms=lead_ms)
        self._at_once = embedded
        self._output = Output(self.widget._repr_mimebundle_()[0], embedded)
        self._created_s = monotonic()
        self._lock = threading.Lock()  # of the output: a late answer and the end of the sound may come together
        self._play = 0  # counts the plays, so that a late message of an earlier one is known as such
        self._playback: Playback | None = None
        self._pushing = False

    def play(
        self,
        source: Source,
        *,
        on_event: Callable[[Event], object] | None = None,
        on_stop: Callable[[], object] | None = None,
    ) -> None:
        """Play a source in a thread; returns at once. What was playing is stopped.

        Args:
            source: an iterable of ``(samples,)`` float chunks at 24 kHz, a chatbot's events, or one waveform. When
                stopped it is closed: a generator by the thread that reads it, anything else with ``close`` at once.
            on_event: takes each of the chatbot's events, in the thread.
            on_stop: called when stopped, such as ``chatbot.interrupt``, so that an event being made is cut short too.

        Raises:
            InputError: something that cannot be played; what is wrong with a later chunk `wait` raises.
        """
        items = items_of(source)
        playback = self._begin(on_stop)
        playback.start(items, on_event, partial(self._finish, self._play, playback))

    def send(self, chunk: Waveform) -> bool:
        """Play one more chunk, ``(samples,)`` at 24 kHz; the first one begins a play that lasts until `end`.

        Returns:
            False once it was stopped: leave the loop that makes the chunks, and call `end`.

        Raises:
            InputError: not a waveform.
        """
        if not self._pushing or self._playback is None:
            self._begin(None)
            self._pushing = True
        assert self._playback is not None
        return self._playback.send(chunk)

    def end(self) -> None:
        """Say that nothing more is sent; the sound plays to its end. After `play` it is not needed."""
        if self._pushing and self._playback is not None:
            self._pushing = False
            self._playback.end()
            finish = partial(self._finish, self._play, self._playback)
            threading.Thread(target=finish, name="csmkit-player-end", daemon=True).start()  # it may wait for an answer

    def stop(self) -> None:
        """Silence it at once and stop whoever makes the chunks; from any thread. Nothing to stop is fine."""
        self.widget.silence(self._play)
        if self._playback is not None:
            self._playback.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the sound was heard to its end, or was stopped. Ctrl-C stops it.

        The browser tells when that is, if the kernel reads its messages while a cell runs. Most kernels read them
        between cells only. There the sound is taken to play without a pause, once any player of this kernel was
        answered. As long as none was, as in a notebook that runs without a browser and in the first Run All of a
        kernel, nothing is waited for but the sending: the players of a page follow each other all the same. Sound that
        the browser holds back until the page is clicked is not waited for either.

        Args:
            timeout: seconds at most; None for as long as it takes.

        Returns:
            Whether it was.

        Raises:
            Exception: what the source raised.
        """
        deadline_s = None if timeout is None else monotonic() + timeout
        if not self.wait_sent(timeout):
            return False
        try:
            return self._wait_heard(None if deadline_s is None else max(0.0, deadline_s - monotonic()))
        except KeyboardInterrupt:
            self.stop()
            raise

    def wait_sent(self, timeout: float | None = None) -> bool:
        """Wait until the whole sound is made and sent; it may go on sounding. Otherwise as `wait`."""
        playback = self._playback
        if playback is None:
            return True
        try:
            done = playback.wait(timeout)
        except KeyboardInterrupt:
            self.stop()
            raise
        if playback.error is not None:
            self._show_audio_unless_answered(playback)
            raise playback.error
        return done

    def _wait_heard(self, timeout: float | None) -> bool:
        playback = self._playback
        if playback is None:
            return True
        if playback.stopped or not playback.chunks or not self._is_played(timeout):
            self._show_audio_unless_answered(playback)
            return True
        play = self._play

        def over(report: dict[str, Any]) -> bool:
            told = report.get("play") == play and report.get("phase") in ("ended", "stopped", "blocked")
            return told or self.widget.silenced_play == play

        if self.widget.messages_come_during_cells:
            return self.widget.wait_for_report(over, timeout, LOST_S)
        left_s = max(0.0, playback.sounds_s + self.widget.lead_ms / 1000 - playback.age_s)
        enough = timeout is None or timeout >= left_s
        return self.widget.wait_for_report(over, left_s if enough else timeout) or enough

    def _is_played(self, timeout: float | None) -> bool:
        """Whether a front end plays this; the first time in a kernel it gets the time to say so."""
        widget = self.widget
        if widget.answered.is_set() or not self._output.shown:
            return widget.answered.is_set()
        if widget.messages_come_during_cells is not True and widget.front_end_exists:
            return True
        if widget.messages_come_during_cells is False:
            return False
        rest_s = max(0.0, self._created_s + ANSWER_S - monotonic())
        if widget.answered.wait(rest_s if timeout is None else min(timeout, rest_s)):
            return True
        if PlayerWidget.messages_come_during_cells is None and (timeout is None or timeout >= rest_s):
            PlayerWidget.messages_come_during_cells = False
        return False

    @property
    def audio(self) -> np.ndarray:
        """The sound of this play so far, ``(samples,)`` float32 at 24 kHz."""
        return np.zeros(0, np.float32) if self._playback is None else self._playback.audio

    @property
    def sent(self) -> Arrivals:
        """When Python sent each chunk, in seconds since the play began."""
        return Arrivals() if self._playback is None else self._playback.sent

    @property
    def arrivals(self) -> Arrivals:
        """When each chunk reached the browser, by its clock, in seconds since the play began there."""
        report = self._report()
        return Arrivals(list(report.get("arrivals_s", [])), list(report.get("durations_s", [])))

    @property
    def underruns(self) -> int | None:
        """How often the sound ran dry before the next chunk came; None if no browser has told."""
        return self._report().get("underruns")

    @property
    def phase(self) -> str | None:
        """What the browser does: "waiting", "queued" behind another player, "playing", "ended", "stopped",
        "blocked"; None if none has told."""
        return self._report().get("phase")

    def _ipython_display_(self) -> None:
        self._output.show_widget()

    def _report(self) -> dict[str, Any]:
        report = self.widget.report
        return report if report.get("play") == self._play else {}

    def _begin(self, on_stop: Callable[[], object] | None) -> Playback:
        if self._playback is not None:
            self._playback.stop()
        self._pushing = False
        self._play += 1
        if not self._output.shown or self._output.shows_audio:
            self._output.show_widget()
        self.widget.begin(self._play, self._at_once)
        self._playback = Playback(partial(self.widget.chunk, self._play), on_stop)
        return self._playback

    def _finish(self, play: int, playback: Playback) -> None:
        """Tell the browser that this was all; if there is none after the time it has to answer, show the sound."""
        error = playback.error
        self.widget.end(play, "" if error is None else f"{type(error).__name__}: {error}")
        rest_s = self._created_s + ANSWER_S - monotonic()
        if not self.widget.answered.wait(max(0.0, rest_s)) and play == self._play:
            self._show_audio_unless_answered(playback)

    def _show_audio_unless_answered(self, playback: Playback) -> None:
        with self._lock:
            if not self.widget.answered.is_set():
                self._output.show_audio(playback.audio, playback.error)

    def _on_answer(self) -> None:
        with self._lock:
            self._output.restore_widget()

    def _stop_from_browser(self, play: int) -> None:
        if play == self._play and self._playback is not None:
            self._playback.stop()
