"""One answer and its playback: prepared at a probable end of a turn, handed out once the turn is over, or dropped."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from csmkit.audio import SAMPLE_RATE, audible_windows, first_audible, level_dbfs
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.chat.events import Event
from csmkit.live.turn_times import TurnTimes
from csmkit.live.user_turn import UserTurn

_ONSET_SAMPLES = SAMPLE_RATE // 100  # 10 ms, the window of `first_audible`
_LEAD_WINDOWS = 2  # windows of silence that are kept before the first sound
_LEVEL_STEP_S = 0.032  # how often the level of what is played is looked at


class State(Enum):
    PREPARED = "prepared"  # its events are held back, as the user may go on
    GIVEN = "given"  # its events are handed out
    INTERRUPTED = "interrupted"
    DROPPED = "dropped"


class Playback:
    """The sound of one answer on its way through a loudspeaker.

    Without reports the listener is taken to play each chunk as soon as it is there and the ones before it have ended.
    A report sets the position; from there on the clock goes on.
    """

    def __init__(self) -> None:
        self._sound = np.zeros(0, np.float32)
        self._from_s = 0.0  # the clock when `_from_sample` was played
        self._from_sample = 0
        self._stopped = False

    @property
    def sound_ms(self) -> float:
        """Milliseconds of sound that were handed out."""
        return len(self._sound) / SAMPLE_RATE * 1000

    def add(self, chunk: np.ndarray, now_s: float) -> None:
        """Hand out ``(samples,)`` at 24 kHz."""
        if self._played(now_s) >= len(self._sound):  # the listener waits for it
            self._from_sample, self._from_s = len(self._sound), max(now_s, self._from_s)
        self._sound = np.concatenate([self._sound, chunk])

    def report(self, played_ms: float, now_s: float) -> None:
        """Set the position that the listener reports."""
        if not self._stopped:
            self._from_sample = self._sample_at(played_ms)
            self._from_s = now_s

    def stop(self, played_ms: float) -> None:
        """End the playback at a position."""
        self._from_sample = self._sample_at(played_ms)
        self._stopped = True

    def played_ms(self, now_s: float) -> float:
        """Milliseconds of the answer that were played."""
        return self._played(now_s) / SAMPLE_RATE * 1000

    def level_dbfs(self, now_s: float) -> float:
        """The level of what was played in the last 32 ms; -120 for silence."""
        last = self._played(now_s)
        first = max(0, last - round(_LEVEL_STEP_S * SAMPLE_RATE))
        return -120.0 if self._stopped else level_dbfs(self._sound[first:last])

    def _played(self, now_s: float) -> int:
        if self._stopped:
            return self._from_sample
        return min(len(self._sound), self._from_sample + max(0, round((now_s - self._from_s) * SAMPLE_RATE)))

    def _sample_at(self, played_ms: float) -> int:
        return min(len(self._sound), max(0, round(played_ms / 1000 * SAMPLE_RATE)))


@dataclass
class Answer:
    """The answer to one turn.

    Attributes:
        turn: the user's turn.
        sound: the sound of that turn, ``(samples,)`` at 24 kHz, up to the end that was found.
        times: moments of the turn and of this answer.
        state: the state of the answer.
        text: what the user said; None before it is recognised, empty without a word.
        events: the chatbot's events; None before it is asked.
        held: events that are not handed out yet.
        over: nothing more will come from the chatbot.
        complete: the chatbot's last event.
        called_s: when the chatbot was asked, by the clock.
        reported: whether the row of the turn was handed out.
        kept: the words that the history keeps of an interrupted answer; None for an answer that was not interrupted.
        playback: how much of the answer the listener has played.
    """

    turn: UserTurn
    sound: np.ndarray
    times: TurnTimes
    state: State = State.PREPARED
    text: str | None = None
    events: Generator[Event, None, None] | None = None
    held: list[Any] = field(default_factory=list)
    over: bool = False
    complete: Any = None
    called_s: float = 0.0
    reported: bool = False
    kept: str | None = None
    playback: Playback = field(default_factory=Playback)
    _n_left_out: int = 0  # samples of silence before the first sound

    def step(
        self, chatbot: StreamingConversationalChatbot, clock: Callable[[], float]
    ) -> list[tuple[str, dict[str, Any]]]:
        """Do one piece of work; blocks for a clause's prompt at most, or for the recogniser. One thread only.

        Returns:
            What is to be handed out, as type and content.

        Raises:
            CsmkitError: a model failed.
        """
        if self.state is State.DROPPED:
            self.over = True
            if self.events is not None:
                chatbot.truncate(0)
                self.events.close()
            return []
        if self.state is State.INTERRUPTED:
            self.silence(chatbot)
            if self.events is None:
                self.over = True
                return []
        if self.text is None:
            self.text = self.turn.asr.stream().transcribe_turn(self.sound, chatbot.options.asr_timeout_s)
            self.times.text = clock()
            self.over = not self.text
            return [("user_text", {"text": self.text})] if self.text else [("nothing_heard", {})]
        if self.events is None:
            self.called_s = clock()
            self.events = chatbot.process_streaming(self.text, user_audio=self.sound)
        return self._next_event(self.events, clock)

    def _next_event(
        self, events: Generator[Event, None, None], clock: Callable[[], float]
    ) -> list[tuple[str, dict[str, Any]]]:
        event = next(events, None)
        if event is None:
            self.over = True
            return []
        now, content = clock(), dict(event)
        kind = content.pop("type")
        if kind == "llm_delta" and content["text"].strip():
            self.times.first_word = self.times.first_word or now
        elif kind == "audio_chunk":
            self.times.first_audio = self.times.first_audio or now
        elif kind == "complete":
            self.complete = content
        return [(kind, content)]

    def hand_out(self, content: dict[str, Any], now: float) -> bool:
        """Note a chunk of sound that reaches the listener now; False if it is left out.

        The silence at the beginning of the voice is left out, except for 20 ms: it would only add to the delay.
        """
        samples = content["data"]
        if self.times.handed_out is None:
            n_silent = _silent_samples(samples.numpy())
            self._n_left_out += n_silent
            samples = content["data"] = samples[n_silent:]
            if not len(samples):
                return False
            self.times.handed_out = now
            onset = first_audible(audible_windows(samples.numpy())) or 0
            self.times.audible = now + onset * _ONSET_SAMPLES / SAMPLE_RATE
        self.playback.add(samples.numpy(), now)
        return True

    @property
    def made_ms(self) -> float:
        """How much of the chatbot's sound was played, in milliseconds, with the silence that was left out."""
        played_ms = self.playback.played_ms(0.0)
        return played_ms + self._n_left_out / SAMPLE_RATE * 1000 if played_ms else 0.0

    def silence(self, chatbot: StreamingConversationalChatbot) -> str:
        """Stop the chatbot and keep only the part that was played; returns its text, which is also in `kept`."""
        if self.events is not None and not self.over:
            chatbot.interrupt()
        self.kept = "" if self.events is None else chatbot.truncate(self.made_ms)
        return self.kept

    def erase(self, chatbot: StreamingConversationalChatbot) -> None:
        """Remove a dropped answer from the history if the chatbot has already ended it."""
        if self.over and self.events is not None:
            chatbot.truncate(0)


def _silent_samples(samples: np.ndarray) -> int:
    """Number of samples before the first sound that can be left out; all if there is no sound."""
    onset = first_audible(audible_windows(samples))
    return len(samples) if onset is None else max(0, onset - _LEAD_WINDOWS) * _ONSET_SAMPLES
