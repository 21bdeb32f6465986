"""The moments of a live turn, and the figures made of them; docs/metrics.md defines each."""

from __future__ import annotations

from dataclasses import dataclass

from csmkit.chat.events import Metric, Span

_AFTER_THE_END = ("prepared", "detected", "text", "first_word", "first_audio", "handed_out", "audible")


@dataclass
class TurnTimes:
    """Moments of a turn, in seconds of the conversation's clock; None for what did not happen.

    Attributes:
        began, ended: the user's speech.
        prepared: the answer was asked for, at a probable end.
        detected: the turn was found to be over.
        text: the final text was there.
        first_word: the language model wrote the first word of the answer.
        first_audio: the first chunk of the answer was made.
        handed_out: the first chunk was handed to the listener.
        audible: the first sound above the silence that an answer may begin with could be heard.
        broke_in, interrupted, silent: the user's speech over the voice began; it was noticed; the listener was silent.
    """

    began: float
    ended: float
    prepared: float | None = None
    detected: float | None = None
    text: float | None = None
    first_word: float | None = None
    first_audio: float | None = None
    handed_out: float | None = None
    audible: float | None = None
    broke_in: float | None = None
    interrupted: float | None = None
    silent: float | None = None

    def since_end_ms(self, moment: float | None) -> float | None:
        """A moment in milliseconds from the end of the user's speech."""
        return None if moment is None else (moment - self.ended) * 1000

    def row(self, silence_ms: float) -> dict[str, Metric]:
        """The figures of the turn; the keys are always the same.

        Args:
            silence_ms: silence that was asked for to end a turn.
        """
        audible_ms = self.since_end_ms(self.audible)
        stopped = self.interrupted if self.silent is None else self.silent
        to_silence_ms = None
        if self.broke_in is not None and stopped is not None:
            to_silence_ms = (stopped - self.broke_in) * 1000
        return {
            "user_speech_ms": (self.ended - self.began) * 1000,
            **{f"end_to_{name}_ms": self.since_end_ms(getattr(self, name)) for name in _AFTER_THE_END},
            "silence_ms": silence_ms,
            "own_ms": None if audible_ms is None else audible_ms - silence_ms,
            "barge_in_to_silence_ms": to_silence_ms,
        }

    def spans(self) -> list[Span]:
        """The user's side of the timeline, milliseconds from the end of the user's speech."""
        rows = [
            ("user", "speaks", self.began, self.ended),
            ("user", "silence until the turn is over", self.ended, self.detected),
            ("recogniser", "text of the user", self.prepared, self.text),
            ("user", "breaks in", self.broke_in, self.interrupted),
        ]
        return [
            {"lane": lane, "label": label, "start_ms": (start - self.ended) * 1000, "end_ms": (end - self.ended) * 1000}
            for lane, label, start, end in rows
            if start is not None and end is not None
        ]


def moved_spans(spans: list[Span], by_ms: float) -> list[Span]:
    """The same spans on a clock that began ``by_ms`` earlier."""

    def moved(ms: float | None) -> float | None:
        return None if ms is None else ms + by_ms

    return [{**span, "start_ms": span["start_ms"] + by_ms, "end_ms": moved(span["end_ms"])} for span in spans]
