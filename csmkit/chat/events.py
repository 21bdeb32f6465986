"""What a turn tells while it runs: plain dicts, each with its ``type``, its ``turn_id`` and ``t``.

``turn_id`` is the same in all events of a turn and unlike any other turn's, so that rows can be joined on it. ``t`` is
in seconds since `process_streaming` was called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

Metric = str | float | int | bool | None
LANES = ("language model", "clauses", "frames", "chunks", "playback", "recogniser")


class _Stamped(TypedDict):
    turn_id: str
    t: float


class Heard(_Stamped):
    """What the recogniser understood of the user's sound; empty where there was no word in it."""

    type: Literal["heard"]
    text: str


class LlmDelta(_Stamped):
    """A piece of the answer, as the language model writes it."""

    type: Literal["llm_delta"]
    text: str


class LlmResponse(_Stamped):
    """The whole answer, once the language model is done; with clause pipelining sound may come earlier."""

    type: Literal["llm_response"]
    text: str


class ClauseStarted(_Stamped):
    """The voice begins with a clause; ``spoken`` is its text in words alone, without numbers, signs and markup."""

    type: Literal["clause"]
    text: str
    spoken: str


class AudioChunk(_Stamped):
    """Sound: ``(samples,)`` float32 on the CPU at 24 kHz. Chunks are counted from 1."""

    type: Literal["audio_chunk"]
    data: Tensor
    chunk_num: int


class PartialText(_Stamped):
    """What the recogniser understood so far; only sent when it changed."""

    type: Literal["partial_text"]
    text: str


class FinalText(_Stamped):
    """What the recogniser understood of the whole answer. Missing if it failed or the turn was interrupted."""

    type: Literal["final_text"]
    text: str


class Span(TypedDict):
    """What one of the `LANES` was busy with; milliseconds from the call, ``end_ms`` None for a moment."""

    lane: str
    label: str
    start_ms: float
    end_ms: float | None


class Complete(_Stamped):
    """The end of a turn; times in seconds, ``time_to_first_audio`` None if nothing was spoken.

    ``metrics`` is one flat row, the same keys in every turn, defined in docs/metrics.md. ``notes`` are sentences for a
    person, such as that the turn was slower than real time. ``spans`` tell who was busy when.
    """

    type: Literal["complete"]
    total_time: float
    time_to_first_audio: float | None
    finish_reason: str
    metrics: dict[str, Metric]
    notes: list[str]
    spans: list[Span]


Event = Heard | LlmDelta | LlmResponse | ClauseStarted | AudioChunk | PartialText | FinalText | Complete
