"""The figures of a turn: one row, the spans of its parts, and notes for the user.

docs/metrics.md defines each figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

import csmkit.plugins as plugins
from csmkit.asr.utterance import Utterance
from csmkit.chat.answer import AnswerText
from csmkit.chat.audio_output import AudioOutput
from csmkit.chat.events import Metric, Span, TurnClock
from csmkit.chat.speaking import SpokenClause
from csmkit.chat.transcription import TurnTranscription
from csmkit.errors import MissingDependencyError
from csmkit.machine import PACKAGES, installed
from csmkit.version import __version__


@dataclass(frozen=True)
class TurnRecord:
    """The parts of a turn that its row is computed from.

    Attributes:
        clock: clock of the turn.
        answer: the language model's text and its times.
        clauses: the clauses that were begun, in order.
        output: times of the chunks.
        transcription: the recogniser's text of the answer and its times.
        asr_model: name of the recogniser's model; None without a recogniser.
        device: device of the generator.
        user_span: start and end of the transcription of the user's audio; None without such audio.
        final_at: time of the final text; None without one.
    """

    clock: TurnClock
    answer: AnswerText
    clauses: Sequence[SpokenClause]
    output: AudioOutput
    transcription: TurnTranscription
    asr_model: str | None
    device: str
    user_span: tuple[float, float] | None = None
    final_at: float | None = None

    @property
    def silent_text(self) -> list[str]:
        """Written text of the clauses that are silent."""
        silent = [spoken.clause.written for spoken in self.clauses if spoken.is_silent]
        return [*self.answer.unspeakable, *silent]


def turn_metrics(record: TurnRecord) -> dict[str, Metric]:
    """The row of a turn without ``turn_id`` and ``finish_reason``; None for what did not happen.

    The keys are the same in every turn.
    """
    ms, output, reader, transcription = record.clock.ms, record.output, record.answer.reader, record.transcription
    final, first_s, onset_s = transcription.final, output.arrivals.first_s, output.onset_s
    frames_ms = [1000 * (end - start) for spoken in record.clauses for start, end in spoken.speech.frame_spans]
    stats = dict.fromkeys(_asr_figures()) | transcription.stats()
    return {
        "heard_ms": None if record.user_span is None else ms(record.user_span[1]),
        "llm_ttft_ms": None if reader is None else ms(reader.first_at),
        "llm_done_ms": None if reader is None else ms(reader.ended_at),
        "text_ttfs_ms": ms(record.answer.first_clause_at),
        **output.arrivals.row(),
        "ttfa_audible_ms": None if onset_s is None else onset_s * 1000,
        "held_ms": None if first_s is None else first_s * 1000 - (ms(output.first_made_at) or 0.0),
        "start_delay_ms": output.made.start_delay_s * 1000 if len(output.made) else None,
        "n_clauses": len(record.clauses),
        "n_frames": len(frames_ms),
        "frame_p50_ms": float(np.percentile(frames_ms, 50)) if frames_ms else None,
        "frame_p95_ms": float(np.percentile(frames_ms, 95)) if frames_ms else None,
        "final_text_ms": ms(record.final_at),
        "wer": word_errors(record.clauses, transcription),
        "total_ms": ms(record.clock()),
        "asr_model": record.asr_model,
        "asr_complete": None if final is None else final.complete,
        "asr_revised": None if final is None else final.revised,
        "asr_error": transcription.error,
        **{f"asr_{name}": value for name, value in stats.items()},
        "device": record.device,
        **versions(),
    }


def word_errors(clauses: Sequence[SpokenClause], transcription: TurnTranscription) -> float | None:
    """Word error rate of the final text against the text of the clauses; None without a complete one, or jiwer."""
    reference = " ".join(spoken.clause.spoken for spoken in clauses)
    if transcription.final is None or not transcription.final.complete or not reference:
        return None
    try:
        return float(plugins.load("metric", "wer")(reference, str(transcription.final)))
    except MissingDependencyError:
        return None


@cache
def versions() -> dict[str, str | None]:
    """The installed versions that figures depend on, as columns such as ``version_torch``."""
    others = {f"version_{package.replace('-', '_')}": installed(package) for package in PACKAGES}
    return {"version_csmkit": __version__, **others}


def turn_spans(record: TurnRecord) -> list[Span]:
    """When each part of the turn was busy; chunks and playback are in the events."""
    reader = record.answer.reader
    rows: list[tuple[str, str, float | None, float | None]] = []
    if record.user_span is not None:
        rows.append(("recogniser", "hears the user", *record.user_span))
    if reader is not None and reader.first_at is not None:
        rows += [("language model", "reads", reader.started_at, reader.first_at)]
        rows += [("language model", "writes", reader.first_at, reader.ended_at)]
    for spoken in record.clauses:
        rows.append(("clauses", spoken.clause.written, spoken.started_at, spoken.ended_at))
        rows += [("frames", "frame", *span) for span in spoken.speech.frame_spans]
    if record.answer.first_clause_at is not None:
        rows.append(("clauses", "first clause", record.answer.first_clause_at, None))
    for decode in record.transcription.passes():
        label = "final pass" if decode.final else "pass"
        rows.append(("recogniser", label, decode.started, decode.ended))
    return [_span(record.clock, *row) for row in rows]


def turn_notes(metrics: dict[str, Metric], silent_text: Sequence[str] = ()) -> list[str]:
    """Sentences for the user about problems of the turn.

    Args:
        metrics: the row of the turn.
        silent_text: written text of the clauses that are silent.
    """
    notes = []
    if silent_text:
        notes.append(f"nothing can be heard of {' '.join(silent_text)!r}: this voice cannot say it")
    rtf, delay_ms = metrics["rtf"], metrics["start_delay_ms"]
    if isinstance(rtf, float) and rtf > 1 and isinstance(delay_ms, float):
        cure = "the first chunk came late, but playback has no gap"
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


def _span(clock: TurnClock, part: str, label: str, start: float | None, end: float | None) -> Span:
    start_ms = clock.ms(start)
    assert start_ms is not None
    return {"lane": part, "label": label, "start_ms": start_ms, "end_ms": clock.ms(end)}
