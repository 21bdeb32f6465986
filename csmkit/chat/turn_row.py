"""What a turn leaves behind: a row of numbers, the spans of its parts, and notes for a person.

Each figure is defined in docs/metrics.md. Moments are those of the turn's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from csmkit import __version__, plugins
from csmkit.asr.utterance import Utterance
from csmkit.audio import ONSET_MS, SAMPLE_RATE, audible_windows, first_audible
from csmkit.chat.events import Metric, Span
from csmkit.chat.listening import Listener
from csmkit.chat.spoken_clause import Delivery
from csmkit.errors import MissingDependencyError
from csmkit.llm.reader_thread import ReadAhead
from csmkit.machine import PACKAGES, installed
from csmkit.timing import Arrivals

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Measured:
    """What is noted while a turn runs.

    Attributes:
        started: when the call was made.
        clock: seconds; all moments are its.
        arrivals: chunks as they were handed out.
        made: chunks as they were made, on a clock that stands still while the listener has the turn.
        away_s: how long it had it so far.
        deliveries: the clauses that were spoken.
        unsaid: clauses without a word that can be spoken, as they were written.
    """

    started: float
    clock: Callable[[], float] = perf_counter
    arrivals: Arrivals = field(default_factory=Arrivals)
    made: Arrivals = field(default_factory=Arrivals)
    away_s: float = 0.0
    heard_span: tuple[float, float] | None = None
    first_clause_at: float | None = None
    first_made_at: float | None = None
    final_at: float | None = None
    deliveries: list[Delivery] = field(default_factory=list)
    unsaid: list[str] = field(default_factory=list)
    _audible: list[np.ndarray] = field(default_factory=list)
    _onset: int | None = None

    @property
    def own_s(self) -> float:
        """Seconds since the call that the turn had for itself."""
        return self.clock() - self.started - self.away_s

    def note_made(self, chunk: Tensor) -> None:
        """Note a chunk that was made."""
        self.first_made_at = self.first_made_at or self.clock()
        self.made.add(self.own_s, len(chunk) / SAMPLE_RATE)

    def note_heard(self, chunk: Tensor, moment_s: float) -> None:
        """Note a chunk that is handed out, so many seconds after the call."""
        self.arrivals.add(moment_s, len(chunk) / SAMPLE_RATE)
        if self._onset is None:
            self._audible.append(audible_windows(chunk.numpy()))
            self._onset = first_audible(np.concatenate(self._audible))

    @property
    def onset_s(self) -> float | None:
        """When a listener who plays at once hears the first sound; None if all was silent."""
        return None if self._onset is None else self.arrivals.heard_at_s(self._onset * ONSET_MS / 1000)


@dataclass(frozen=True)
class Sources:
    """The parts of a turn that are asked for their figures at its end."""

    measured: Measured
    ahead: ReadAhead | None
    listener: Listener
    asr_model: str | None
    device: str

    def since_call_ms(self, moment: float | None) -> float | None:
        """A moment in milliseconds from the call."""
        return None if moment is None else (moment - self.measured.started) * 1000


def turn_metrics(sources: Sources) -> dict[str, Metric]:
    """The row of a turn, but for its name and its end; None is "did not happen". The keys are always the same."""
    measured, ahead, listener = sources.measured, sources.ahead, sources.listener
    since, final, heard = sources.since_call_ms, listener.final, measured.heard_span
    first_s, onset_s = measured.arrivals.first_s, measured.onset_s
    frames_ms = [1000 * (end - start) for delivery in measured.deliveries for start, end in delivery.speech.frame_spans]
    stats = dict.fromkeys(_asr_figures()) | listener.stats()
    return {
        "heard_ms": None if heard is None else since(heard[1]),
        "llm_ttft_ms": None if ahead is None else since(ahead.first_at),
        "llm_done_ms": None if ahead is None else since(ahead.ended_at),
        "text_ttfs_ms": since(measured.first_clause_at),
        **measured.arrivals.row(),
        "ttfa_audible_ms": None if onset_s is None else onset_s * 1000,
        "held_ms": None if first_s is None else first_s * 1000 - (since(measured.first_made_at) or 0.0),
        "start_delay_ms": measured.made.start_delay_s * 1000 if len(measured.made) else None,
        "n_clauses": len(measured.deliveries),
        "n_frames": len(frames_ms),
        "frame_p50_ms": float(np.percentile(frames_ms, 50)) if frames_ms else None,
        "frame_p95_ms": float(np.percentile(frames_ms, 95)) if frames_ms else None,
        "final_text_ms": since(measured.final_at),
        "wer": word_errors(measured.deliveries, listener),
        "total_ms": since(measured.clock()),
        "asr_model": sources.asr_model,
        "asr_complete": None if final is None else final.complete,
        "asr_revised": None if final is None else final.revised,
        "asr_error": listener.error,
        **{f"asr_{name}": value for name, value in stats.items()},
        "device": sources.device,
        **versions(),
    }


def word_errors(deliveries: Sequence[Delivery], listener: Listener) -> float | None:
    """Word error rate of the final text against what the voice was given; None without a whole one, or jiwer."""
    said = " ".join(delivery.clause.spoken for delivery in deliveries)
    if listener.final is None or not listener.final.complete or not said:
        return None
    try:
        return float(plugins.load("metric", "wer")(said, str(listener.final)))
    except MissingDependencyError:
        return None


@cache
def versions() -> dict[str, str | None]:
    """The installed versions that figures depend on, as columns such as ``version_torch``."""
    others = {f"version_{package.replace('-', '_')}": installed(package) for package in PACKAGES}
    return {"version_csmkit": __version__, **others}


def turn_spans(sources: Sources) -> list[Span]:
    """Who was busy when, lane by lane; chunks and playback are in the events."""
    measured, ahead = sources.measured, sources.ahead
    rows: list[tuple[str, str, float | None, float | None]] = []
    if measured.heard_span is not None:
        rows.append(("recogniser", "hears the user", *measured.heard_span))
    if ahead is not None and ahead.first_at is not None:
        rows += [("language model", "reads", ahead.started_at, ahead.first_at)]
        rows += [("language model", "writes", ahead.first_at, ahead.ended_at)]
    for delivery in measured.deliveries:
        rows.append(("clauses", delivery.clause.written, delivery.started_at, delivery.ended_at))
        rows += [("frames", "frame", *span) for span in delivery.speech.frame_spans]
    if measured.first_clause_at is not None:
        rows.append(("clauses", "first clause", measured.first_clause_at, None))
    for decode in sources.listener.passes():
        label = "final pass" if decode.final else "pass"
        rows.append(("recogniser", label, decode.started, decode.ended))
    return [_span(sources, *row) for row in rows]


def turn_notes(metrics: dict[str, Metric], measured: Measured | None = None) -> list[str]:
    """What a person should know about a turn, a sentence each."""
    notes = []
    deliveries, unsaid = ([], []) if measured is None else (measured.deliveries, measured.unsaid)
    silent = unsaid + [delivery.clause.written for delivery in deliveries if delivery.is_silent]
    if silent:
        notes.append(f"nothing can be heard of {' '.join(silent)!r}: this voice cannot say it")
    rtf, delay_ms = metrics["rtf"], metrics["start_delay_ms"]
    if isinstance(rtf, float) and rtf > 1 and isinstance(delay_ms, float):
        cure = "it was slow to begin, and had no gap"
        if delay_ms > 0:
            cure = (
                f"a pre-buffer of {np.ceil(delay_ms):.0f} ms would have played it without a gap "
                "(prebuffer_ms, on the command line --prebuffer; auto finds it)"
            )
        notes.append(f"slower than real time: {rtf:.2f} s for a second of speech; {cure}")
    if metrics["asr_error"]:
        notes.append(f"no transcription: {metrics['asr_error']}")
    return notes


@cache
def _asr_figures() -> tuple[str, ...]:
    return tuple(Utterance(queue_size=1, max_audio_s=1.0).stats())


def _span(sources: Sources, lane: str, label: str, start: float | None, end: float | None) -> Span:
    start_ms = sources.since_call_ms(start)
    assert start_ms is not None
    return {"lane": lane, "label": label, "start_ms": start_ms, "end_ms": sources.since_call_ms(end)}
