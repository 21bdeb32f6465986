"""The events of a turn, and the clock that stamps them: plain dicts, each with ``type``, ``turn_id`` and ``t``.

``turn_id`` is the same in all events of a turn and differs from that of any other turn, so that rows can be joined on
it. ``t`` is in seconds since `process_streaming` was called.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

    from csmkit.asr.transcriber import Word

Metric = str | float | int | bool | None
LANES = ("language model", "clauses", "frames", "chunks", "playback", "recogniser")


class _Stamped(TypedDict):
    turn_id: str
    t: float


class Heard(_Stamped):
    """The transcription of the user's audio; empty if there was no word in it."""

    type: Literal["heard"]
    text: str


class LlmDelta(_Stamped):
    """A piece of the answer, as the language model writes it."""

    type: Literal["llm_delta"]
    text: str


class LlmResponse(_Stamped):
    """The whole answer, when the language model is done. Its first clauses may have been spoken before."""

    type: Literal["llm_response"]
    text: str


class ClauseStarted(_Stamped):
    """The generator begins a clause; ``spoken`` is its text in words alone, without numbers, signs and markup."""

    type: Literal["clause"]
    text: str
    spoken: str


class AudioChunk(_Stamped):
    """A chunk of sound, ``(samples,)`` float32 on the CPU at 24 kHz; ``chunk_num`` counts from 1."""

    type: Literal["audio_chunk"]
    data: Tensor
    chunk_num: int


class PartialText(_Stamped):
    """The transcription of the answer so far; sent when it has changed."""

    type: Literal["partial_text"]
    text: str


class FinalText(_Stamped):
    """The transcription of the whole answer; not sent if it failed or the turn was interrupted.

    ``words`` are its words, with times in seconds from the first sample of the answer's sound.
    """

    type: Literal["final_text"]
    text: str
    words: tuple[Word, ...]


class Span(TypedDict):
    """Work of one of the `LANES`, in milliseconds from the call; ``end_ms`` is None for a moment without duration."""

    lane: str
    label: str
    start_ms: float
    end_ms: float | None


class Complete(_Stamped):
    """The end of a turn; times in seconds, ``time_to_first_audio`` is None if nothing was spoken.

    ``metrics`` is one flat row with the same keys in every turn, see docs/metrics.md. ``notes`` are sentences for a
    person, for example that the turn was slower than real time. ``spans`` list when each part of the turn was busy.
    """

    type: Literal["complete"]
    total_time: float
    time_to_first_audio: float | None
    finish_reason: str
    metrics: dict[str, Metric]
    notes: list[str]
    spans: list[Span]


Event = Heard | LlmDelta | LlmResponse | ClauseStarted | AudioChunk | PartialText | FinalText | Complete


class TurnClock:
    """The clock of one turn, which starts when this object is created.

    Args:
        seconds: returns the present time in seconds and never decreases.

    Attributes:
        turn_id: 12 hexadecimal digits that differ from those of any other turn.
        started: time of the call, in seconds of that clock.
        away_s: seconds that the caller of the turn has spent between events so far.
    """

    def __init__(self, seconds: Callable[[], float] = perf_counter) -> None:
        self._seconds = seconds
        self.turn_id = uuid.uuid4().hex[:12]
        self.started = seconds()
        self.away_s = 0.0

    def __call__(self) -> float:
        """The present time in seconds, on the clock that was given."""
        return self._seconds()

    @property
    def since_call_s(self) -> float:
        """Seconds since the call."""
        return self() - self.started

    @property
    def own_s(self) -> float:
        """Seconds since the call without those that the caller spent between two events."""
        return self.since_call_s - self.away_s

    def ms(self, moment: float | None) -> float | None:
        """Milliseconds from the call to a time of the clock; None for None."""
        return None if moment is None else (moment - self.started) * 1000

    def event(self, kind: str, **content: Any) -> Any:
        """An event of the turn at the present time."""
        return {"type": kind, "turn_id": self.turn_id, "t": self.since_call_s, **content}
