"""A live conversation without a microphone: a user whose sound is known, on a clock that the sound drives.

The clock stands at the end of the newest frame. While the answer is being worked on, it runs on with the processor time
of this process, so that a shared machine, or one that is slower than real time, changes no figure: what is measured is
what two processors would need, one that hears and one that answers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from csmkit.audio import SAMPLE_RATE
from csmkit.live.conversation import LiveConversation
from csmkit.live.events import LiveEvent


class SoundClock:
    """Seconds of sound, plus the processor time of the work in progress.

    Args:
        measure: seconds of work, never decreasing.
    """

    def __init__(self, measure: Callable[[], float] = time.process_time) -> None:
        self._measure, self._at_s, self._working_since = measure, 0.0, None

    def __call__(self) -> float:
        return self._at_s if self._working_since is None else self._at_s + self._measure() - self._working_since

    def set(self, seconds: float) -> None:
        """The sound is heard up to here."""
        self._at_s = seconds

    @contextmanager
    def working(self, from_s: float) -> Iterator[None]:
        """Let the clock run from a moment on while the block does its work."""
        heard_s, self._at_s, self._working_since = self._at_s, from_s, self._measure()
        try:
            yield
        finally:
            self._at_s, self._working_since = heard_s, None


@dataclass
class Listener:
    """Plays the voice on a timeline, and stops when an event says so.

    Attributes:
        reacts_s: seconds from an event until the sound has followed it.
        sound: the voice's sound, ``(samples,)`` at 24 kHz from the beginning of the conversation.
    """

    reacts_s: float = 0.02
    sound: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    _n_free: int = 0  # sample at which the next chunk can begin
    _n_began: int | None = None  # sample at which this answer began
    _stopped_ms: float | None = None  # to be reported

    def take(self, events: list[LiveEvent]) -> None:
        """Play and stop as the events say."""
        for event in events:
            now = round((event["time_s"] + self.reacts_s) * SAMPLE_RATE)
            if event["type"] == "audio_chunk":
                self._play(event["data"].numpy(), now)
            elif event["type"] in ("interrupted", "answer_dropped", "turn_done"):
                if event["type"] != "turn_done":
                    self._silence(now)
                self._n_began = None

    def report(self, live: LiveConversation) -> None:
        """Tell that the sound has stopped, if it has since the last frame."""
        if self._stopped_ms is not None:
            live.stopped(self._stopped_ms)
            self._stopped_ms = None

    def is_playing(self, at_s: float) -> bool:
        """Whether the voice has sound for this moment or a later one."""
        return self._n_free > at_s * SAMPLE_RATE

    def between(self, start: int, end: int) -> np.ndarray:
        """What is played in these samples, ``(end - start,)``; samples before the first are silent."""
        part = self.sound[max(0, start) : max(0, end)]
        return np.pad(part, (max(0, -start), end - start - max(0, -start) - len(part)))

    def _play(self, chunk: np.ndarray, now: int) -> None:
        start = max(now, self._n_free)
        self._n_began = start if self._n_began is None else self._n_began
        self._n_free = start + len(chunk)
        self.sound = np.pad(self.sound, (0, max(0, self._n_free - len(self.sound))))
        self.sound[start : self._n_free] = chunk

    def _silence(self, now: int) -> None:
        self.sound[now:] = 0
        self._n_free = min(self._n_free, now)
        if self._n_began is not None:
            self._stopped_ms = max(0, now - self._n_began) / SAMPLE_RATE * 1000


class RecordedUser(Protocol):
    """The user's side of a conversation."""

    def speak(self, start: int, end: int, listener: Listener) -> np.ndarray | None:
        """The microphone's samples ``(end - start,)`` at 24 kHz, without the voice's echo; None ends it."""
        ...


class Recording:
    """A user whose sound does not depend on what they hear.

    Args:
        sound: ``(samples,)`` at 24 kHz.
        tail_s: silence after it, for the last answer.
    """

    def __init__(self, sound: np.ndarray, tail_s: float = 10.0) -> None:
        self._sound = np.concatenate([sound, np.zeros(round(tail_s * SAMPLE_RATE), np.float32)])

    def speak(self, start: int, end: int, listener: Listener) -> np.ndarray | None:
        """As `RecordedUser.speak`."""
        part = self._sound[start:end]
        return part if len(part) == end - start else None


@dataclass
class Conversation:
    """The record of a conversation with a recorded user.

    Attributes:
        events: all of them, in order.
        microphone: the sound of the microphone, ``(samples,)`` at 24 kHz, including the echo.
        voice: the sound of the loudspeaker, ``(samples,)`` at 24 kHz.
    """

    events: list[Any]
    microphone: np.ndarray
    voice: np.ndarray

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the turns that were answered."""
        return [event["metrics"] for event in self.events if event["type"] == "turn_done"]


def converse(
    live: LiveConversation,
    user: RecordedUser,
    clock: SoundClock,
    *,
    frame_ms: int = 20,
    echo: Callable[[np.ndarray], np.ndarray] | None = None,
    on_event: Callable[[LiveEvent], None] | None = None,
) -> Conversation:
    """Hold a conversation on the user's clock; blocks until the user's sound ends.

    Args:
        live: not started; made with ``clock``, as its chatbot is.
        user: makes the sound of the microphone.
        clock: is set by this function.
        frame_ms: length of the microphone's frames.
        echo: makes the echo of what was played in a frame, ``(samples,)`` to ``(samples,)``; None for headphones.
        on_event: is called with each event as soon as it comes.

    Raises:
        CsmkitError: as `LiveConversation.work`.
    """
    listener, events, recorded = Listener(), list[LiveEvent](), list[np.ndarray]()
    n_frame, start, work = frame_ms * SAMPLE_RATE // 1000, 0, _Work(live, clock)

    def gather() -> None:
        fresh = live.take_events()
        listener.take(fresh)
        for event in fresh:
            events.append(event)
            if on_event is not None:
                on_event(event)

    while (said := user.speak(start, start + n_frame, listener)) is not None:
        frame = said if echo is None else said + echo(listener.between(start, start + n_frame))
        recorded.append(frame.astype(np.float32))
        start += n_frame
        clock.set(start / SAMPLE_RATE)
        listener.report(live)
        live.put(recorded[-1])
        live.wait_for_partials()
        gather()
        work.run(start / SAMPLE_RATE, (start + n_frame) / SAMPLE_RATE)
        gather()
    live.close()
    work.run(start / SAMPLE_RATE, math.inf)
    gather()
    return Conversation(events, np.concatenate(recorded or [np.zeros(0, np.float32)]), listener.sound)


class _Work:
    """The simulated processor: does one piece of work after another, and hands each over when its time is up."""

    def __init__(self, live: LiveConversation, clock: SoundClock) -> None:
        self._live, self._clock = live, clock
        self._free_s = 0.0
        self._done: Callable[[], None] | None = None  # work that ends at `_free_s`

    def run(self, from_s: float, until_s: float) -> None:
        """Do what there is to do from one moment until another, when the next frame comes."""
        while self._hand_over(until_s):
            self._free_s = max(self._free_s, from_s)
            with self._clock.working(self._free_s):
                self._done = self._live.begin_work()
                ended_s = self._clock()
            if self._done is None:
                return
            self._free_s = ended_s

    def _hand_over(self, until_s: float) -> bool:
        """Whether the processor is free before a moment; what was done until then is handed over."""
        if self._free_s >= until_s:
            return False
        if self._done is not None:
            with self._clock.working(self._free_s):
                self._done()
            self._done = None
        return True
