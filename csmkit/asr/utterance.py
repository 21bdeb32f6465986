"""One utterance: the sound that waits for the recogniser, the texts so far, its state and its counters."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np
import soxr

from csmkit.asr.agreement import Agreement, match_prefix, normalise
from csmkit.asr.transcriber import RATE_HZ, SHORTEST_S, Transcriber, Transcript, Word
from csmkit.asr.windows import snap, transcribe_long
from csmkit.audio import SAMPLE_RATE


class Pass(NamedTuple):
    """One decode; its times are in seconds of the worker's clock."""

    started: float
    ended: float
    final: bool


class UtteranceState(Enum):
    OPEN = "open"  # takes sound
    FINISHED = "finished"  # has all its sound, but not the final text
    DONE = "done"  # has its final text
    CANCELLED = "cancelled"


class Job(NamedTuple):
    """The sound that one decode of an utterance reads.

    Attributes:
        samples: ``(samples,)`` float32 at 24 kHz, which were not decoded before.
        final: whether they are the last samples, so that the final text is decoded.
        arrived: times when the oldest and the newest sample arrived; None without samples.
    """

    samples: np.ndarray
    final: bool
    arrived: tuple[float, float] | None


class IncrementalTranscription:
    """Transcribes the sound of one utterance while it grows: partial texts of the newest window, then the final text.

    For one thread. Memory grows with the sound.
    """

    def __init__(self) -> None:
        self._resampler = soxr.ResampleStream(SAMPLE_RATE, RATE_HZ, 1, dtype="float32")
        self._sound = np.zeros(RATE_HZ, np.float32)  # at 16 kHz; grows, its first `_n_samples` are in use
        self._n_samples = self._window_start = 0
        self._agreement = Agreement()

    def partial(self, transcriber: Transcriber, samples: np.ndarray) -> Transcript | None:
        """Decode the newest window.

        Args:
            transcriber: recognises a window.
            samples: ``(samples,)`` float32 at 24 kHz, the sound since the last call.

        Returns:
            The text so far; None for too little sound.
        """
        self._append(samples, last=False)
        if self._n_samples - self._window_start > transcriber.window_s * RATE_HZ:
            self._move_window(transcriber.window_s)
        window = self._sound[self._window_start : self._n_samples]
        if len(window) < SHORTEST_S * RATE_HZ:
            return None
        offset_s, end_s = self._window_start / RATE_HZ, self._n_samples / RATE_HZ
        words = transcribe_long(transcriber, window, final=False).words
        self._agreement.update([word.later(offset_s) for word in words], end_s)
        committed, tentative = self._agreement.committed, self._agreement.tentative
        return Transcript(_join(committed), _join(tentative), (*committed, *tentative), end_s)

    def final(self, transcriber: Transcriber, samples: np.ndarray) -> Transcript:
        """Decode all the sound from its first sample with the best search; the last call.

        Args:
            transcriber: recognises a window.
            samples: ``(samples,)`` float32 at 24 kHz, the rest of the sound.
        """
        self._append(samples, last=True)
        best = transcribe_long(transcriber, self._sound[: self._n_samples], final=True)
        committed = [normalise(word.text) for word in self._agreement.committed]
        _, n_revised = match_prefix(committed, [normalise(word) for word in best.text.split()])
        return Transcript(best.text, "", best.words, self._n_samples / RATE_HZ, revised=n_revised)

    def _append(self, samples: np.ndarray, *, last: bool) -> None:
        fresh = self._resampler.resample_chunk(samples, last=last)
        end = self._n_samples + len(fresh)
        if end > len(self._sound):
            used = self._sound[: self._n_samples]
            self._sound = np.concatenate([used, np.zeros(end, np.float32)])  # at least doubles
        self._sound[self._n_samples : end] = fresh
        self._n_samples = end

    def _move_window(self, window_s: float) -> None:
        cut_s = self._agreement.cut()
        if cut_s is not None:
            cut = min(round(cut_s * RATE_HZ), self._n_samples)
            self._window_start = snap(self._sound[: self._n_samples], cut)
            return
        # No word was committed in a whole window: silence or noise. Partial texts continue with its newer half.
        self._agreement.skip()
        self._window_start = self._n_samples - round(window_s / 2 * RATE_HZ)


def _join(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words)


class Utterance:
    """One utterance, which only `csmkit.asr.worker.Worker` uses, under its lock.

    At most ``queue_size`` chunks wait for their decode: another one is joined to the newest, so that the caller does
    not wait and no sound is lost. Memory grows with the sound.

    Args:
        queue_size: number of chunks that may wait, at least 1.
        max_audio_s: largest number of seconds of sound; later sound is rejected.

    Attributes:
        state: state of the utterance.
        partial: the latest partial text; empty at first.
        final: the final text; None before.
        passes: decodes so far, in order.
        n_pending: number of chunks that wait for a decode.
        transcription: decodes the sound; used by the worker's thread alone, without the lock.
    """

    def __init__(self, queue_size: int, max_audio_s: float) -> None:
        self.state = UtteranceState.OPEN
        self.partial = Transcript()
        self.final: Transcript | None = None
        self.passes: list[Pass] = []
        self.transcription = IncrementalTranscription()
        self.n_pending = 0
        self._waiting: list[np.ndarray] = []
        self._arrived: tuple[float, float] | None = None  # when the oldest and the newest sound that waits arrived
        self._queue_size, self._n_most = queue_size, round(max_audio_s * SAMPLE_RATE)
        self._n_put = self._n_taken = 0  # samples at 24 kHz
        self._n_rejected = self._n_rejected_samples = self._n_coalesced = 0
        self._lag_ms: list[float] = []
        self._oldest_lag_ms: list[float] = []

    @property
    def settled(self) -> bool:
        """Whether nothing more will be decoded."""
        return self.state in (UtteranceState.DONE, UtteranceState.CANCELLED)

    @property
    def decoded_at(self) -> float:
        """Time when its last decode ended; 0 before the first."""
        return self.passes[-1].ended if self.passes else 0.0

    def put(self, chunk: np.ndarray, now: float) -> bool:
        """Copy a chunk; False if it is rejected. After one rejection all chunks are, so that the sound has no gap."""
        if self.state is not UtteranceState.OPEN or self._n_rejected or self._n_put + len(chunk) > self._n_most:
            return self.reject(chunk)
        self._n_put += len(chunk)
        if self.n_pending == self._queue_size:
            self._n_coalesced += 1
        else:
            self.n_pending += 1
        self._waiting.append(chunk.copy())
        self._arrived = (self._arrived[0] if self._arrived else now, now)
        return True

    def reject(self, chunk: np.ndarray) -> bool:
        """Count a chunk that is not transcribed; always False."""
        self._n_rejected += 1
        self._n_rejected_samples += len(chunk)
        return False

    def finish(self) -> None:
        """Accept no more sound."""
        if self.state is UtteranceState.OPEN:
            self.state = UtteranceState.FINISHED

    def cancel(self) -> None:
        """Drop the utterance, unless it has its final text."""
        if self.state is not UtteranceState.DONE:
            self.state = UtteranceState.CANCELLED
            self._waiting, self._arrived, self.n_pending = [], None, 0

    def take(self) -> Job:
        """Remove all waiting sound, for one decode."""
        samples = np.concatenate([np.zeros(0, np.float32), *self._waiting])
        job = Job(samples, self.state is UtteranceState.FINISHED, self._arrived)
        self._waiting, self._arrived, self.n_pending = [], None, 0
        self._n_taken = self._n_put
        return job

    def record(self, job: Job, started: float, ended: float, text: Transcript | None) -> None:
        """Keep the text of a decode, its times, and its lag behind the oldest and the newest sound of the job."""
        self.passes.append(Pass(started, ended, job.final))
        if job.arrived is not None:
            self._oldest_lag_ms.append((ended - job.arrived[0]) * 1000)
            self._lag_ms.append((ended - job.arrived[1]) * 1000)
        if text is None or self.settled:  # too little sound, or the utterance was cancelled during the decode
            return
        if job.final:
            audio_s = self._n_taken / SAMPLE_RATE
            self.final = Transcript(text.committed, "", text.words, audio_s, not self._n_rejected, text.revised)
            self.state = UtteranceState.DONE
        else:
            self.partial = text

    def stats(self) -> dict[str, float]:
        """Counters for a metrics row; units are in the keys, medians of nothing are 0."""
        accepted_s = self._n_put / SAMPLE_RATE
        rejected_s = self._n_rejected_samples / SAMPLE_RATE
        decode_ms = [1000 * (decode.ended - decode.started) for decode in self.passes]
        return {
            "received_s": accepted_s + rejected_s,
            "decoded_s": (self.partial if self.final is None else self.final).audio_s,
            "rejected_s": rejected_s,
            "n_rejected": self._n_rejected,
            "pending_s": (self._n_put - self._n_taken) / SAMPLE_RATE,
            "n_pending": self.n_pending,
            "n_coalesced": self._n_coalesced,
            "n_decodes": len(decode_ms),
            "decode_p50_ms": _percentile(decode_ms, 50),
            "decode_p95_ms": _percentile(decode_ms, 95),
            "lag_p50_ms": _percentile(self._lag_ms, 50),
            "lag_max_ms": _percentile(self._lag_ms, 100),
            "lag_oldest_p50_ms": _percentile(self._oldest_lag_ms, 50),
            "lag_oldest_max_ms": _percentile(self._oldest_lag_ms, 100),
        }


def _percentile(values: list[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else 0.0
