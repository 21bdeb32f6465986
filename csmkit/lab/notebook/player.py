"""Player: hear speech in the notebook while it is still being made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from csmkit.lab.notebook.output import Output
from csmkit.lab.notebook.playback import Playback, items_of
from csmkit.lab.notebook.widget import PlayerWidget
from csmkit.timing import Arrivals

if TYPE_CHECKING:
    from csmkit.asr.transcriber import Word
    from csmkit.chat.chatbot import StreamingConversationalChatbot
    from csmkit.chat.events import Event
    from csmkit.lab.notebook.playback import Source

LOST_S = 15.0  # a browser that plays reports every second; after this long without a report it counts as closed
ANSWER_S = 2.0  # a front end that has not answered by then counts as absent, until it does answer


class Player:
    """Plays chunks without gaps as they come. Its Stop button also stops the source of the chunks.

    A click on the waveform plays from there; so does a click on a word below it. Space plays and stops, the arrow keys
    move. Buttons show a spectrogram and download a WAV file.

    One player sounds at a time in a page: while another one sounds, this one waits for its end. An ``embedded`` one,
    whose user has pressed a button, takes its place instead.

    The player is shown in the cell that plays first. Where no front end answers (papermill, a server without the
    widget's JavaScript) it says so once and shows a plain audio control when the sound is complete; in a notebook that
    runs without a browser call `wait`, so that this happens while a cell runs.

    Args:
        lead_ms: silence before the first chunk, 0 to 10 000 ms; more lets a slow generator play without a gap. A
            chatbot delays its audio by itself, as long as needed and in step with its history: give it
            ``prebuffer_ms="auto"``.
        embedded: True shows nothing: put ``widget`` into a layout of your own. There is no audio control in its place.

    Attributes:
        widget: the widget itself.
    """

    def __init__(self, lead_ms: int = 30, *, embedded: bool = False) -> None:
        self.widget = PlayerWidget(self._stop_from_browser, self._on_answer, lead_ms=lead_ms)
        self._at_once = embedded
        self._output = Output(self.widget._repr_mimebundle_()[0], embedded)
        self._created_s = monotonic()
        self._lock = threading.Lock()  # of the output: a late answer and the end of the sound may come together
        self._play = 0  # number of the present play; a message of an earlier one is ignored
        self._playback: Playback | None = None

    def play(
        self,
        source: Source,
        *,
        on_event: Callable[[Event], object] | None = None,
        on_stop: Callable[[], object] | None = None,
    ) -> None:
        """Play a source in a thread; returns at once. A play in progress is stopped.

        Args:
            source: an iterable of ``(samples,)`` float chunks at 24 kHz, a chatbot's events, or one waveform. When
                stopped it is closed: a generator by the thread that reads it, anything else with ``close`` at once.
                The words that a chatbot's recogniser found are shown under the waveform.
            on_event: called with each of the chatbot's events, in the thread.
            on_stop: called when stopped, for example ``chatbot.interrupt``, so that the event in progress ends too.

        Raises:
            InputError: the source cannot be played; errors of later chunks are raised by `wait`.
        """
        items = items_of(source)
        if self._playback is not None:
            self._playback.stop()
        self._play += 1
        play = self._play
        if not self._output.shown or self._output.shows_audio:
            self._output.show_widget()
        self.widget.begin(play, self._at_once)

        def take(event: Event) -> None:
            if event.get("type") == "final_text":
                self.widget.words(play, event["words"])
            if on_event is not None:
                on_event(event)

        playback = self._playback = Playback(items, partial(self.widget.chunk, play), take, on_stop)
        playback.start(partial(self._finish, play, playback))

    def show_words(self, words: Iterable[Word]) -> None:
        """Show words under the waveform; a click on one plays from there, and the one that sounds is marked."""
        self.widget.words(self._play, words)

    def stop(self) -> None:
        """Silence the sound at once and stop its source; from any thread. Does nothing where nothing plays."""
        self.widget.silence(self._play)
        if self._playback is not None:
            self._playback.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the sound was heard to its end, or was stopped. Ctrl-C stops it.

        The browser reports the end, if the kernel reads its messages while a cell runs. Most kernels read them between
        cells only. There, the end is computed from the duration, once a front end has answered any player of this
        kernel. Before that, as in a notebook that runs without a browser and in the first Run All of a kernel, this
        waits until the sound was sent: the players of a page play one after the other all the same. Sound that the
        browser delays until the page is clicked is not waited for either.

        Args:
            timeout: seconds at most; None for as long as it takes.

        Returns:
            Whether the sound has ended.

        Raises:
            Exception: the source's error.
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

        def is_over(report: dict[str, Any]) -> bool:
            ended = report.get("play") == play and report.get("phase") in ("ended", "stopped", "blocked")
            return ended or self.widget.silenced_play == play

        if self.widget.messages_come_during_cells:
            return self.widget.wait_for_report(is_over, timeout, LOST_S)
        left_s = max(0.0, playback.sounds_s + self.widget.lead_ms / 1000 - playback.age_s)
        enough = timeout is None or timeout >= left_s
        return self.widget.wait_for_report(is_over, left_s if enough else timeout) or enough

    def _is_played(self, timeout: float | None) -> bool:
        """Whether a front end plays this; the first time in a kernel it gets some time to answer."""
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
        """How often the sound stopped because the next chunk was late; None without a report of the browser."""
        return self._report().get("underruns")

    @property
    def phase(self) -> str | None:
        """State in the browser: "waiting", "queued" behind another player, "playing", "ended", "stopped", "blocked";
        None without a report of the browser."""
        return self._report().get("phase")

    @property
    def shows_audio(self) -> bool:
        """Whether a plain audio control is shown, because no front end has answered."""
        return self._output.shows_audio

    def _ipython_display_(self) -> None:
        self._output.show_widget()

    def _report(self) -> dict[str, Any]:
        report = self.widget.report
        return report if report.get("play") == self._play else {}

    def _finish(self, play: int, playback: Playback) -> None:
        """Tell the browser that the sound is complete; if none answers in its time, show an audio control."""
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


def hear(source: Source, words: Iterable[Word] = ()) -> Player:
    """Play a source in a new player, and wait and raise as `Player.wait` does."""
    player = Player()
    player.play(source)
    player.wait_sent()
    player.show_words(words)
    player.wait()
    return player


def hear_turn(
    chatbot: StreamingConversationalChatbot, player: Player, text: str, interrupt_after: int | None = None
) -> list[Event]:
    """Begin a turn that plays while it is made; returns at once, wait with the player's ``wait``.

    Args:
        interrupt_after: interrupt the answer after this many chunks, as a listener who has heard enough does; None
            lets it end.

    Returns:
        A list that fills with the turn's events.

    Raises:
        InputError, StateError: as `StreamingConversationalChatbot.process_streaming`.
    """
    events: list[Event] = []

    def keep(event: Event) -> None:
        events.append(event)
        if event["type"] == "audio_chunk" and event["chunk_num"] == interrupt_after:
            chatbot.interrupt()

    player.play(chatbot.process_streaming(text), on_event=keep, on_stop=chatbot.interrupt)
    return events
