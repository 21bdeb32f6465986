"""One utterance: its sound, its hypotheses so far, and what was counted on the way."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import NamedTuple

import numpy as np
import soxr

from csmkit.asr.agreement import Agreement, match_prefix, normalise
from csmkit.asr.hypothesis import RATE_HZ, SHORTEST_S, Transcriber, Word
from csmkit.asr.windows import snap, transcribe_long
from csmkit.audio import SAMPLE_RATE


class Transcript(str):
    """A recognised text: a plain string that also knows how it came about. Immutable.

    Attributes:
        committed: the part that will not change any more; all of it in a final.
        tentative: the rest.
        words: with their times, in seconds from the first sample.
        audio_s: seconds of sound the text is based on.
        complete: False if sound was rejected, so that the text misses some.
        revised: committed words that the final changed; 0 in a partial.
    """

    committed: str
    tentative: str
    words: tuple[Word, ...]
    audio_s: float
    complete: bool
    revised: int

    def __new__(
        cls,
        committed: str = "",
        tentative: str = "",
        words: tuple[Word, ...] = (),
        audio_s: float = 0.0,
        complete: bool = True,
        revised: int = 0,
    ) -> Transcript:
        self = super().__new__(cls, f"{committed} {tentative}".strip())
        vars(self).update(
            committed=committed, tentative=tentative, words=words, audio_s=audio_s, complete=complete, revised=revised
        )
        return self

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot set {name!r}: a transcript does not change")

    @property
    def text(self) -> str:
        """The text as an ordinary string."""
        return str.__str__(self)


class Pass(NamedTuple):
    """One decode, by the worker's clock (`time.perf_counter`)."""

    started: float
    ended: float
    final: bool


class State(Enum):
    """How far an utterance is."""

    OPEN = "open"  # takes sound
    FINISHED = "finished"  # all sound is there, the final text is not
    DONE = "done"
    CANCELLED = "cancelled"


class _Slot:
    """Sound that waits for the worker: the samples as bytes, and when the first and the last of them arrived."""

    __slots__ = ("arrived", "first_arrived", "samples")

    def __init__(self, samples: np.ndarray, arrived: float) -> None:
        self.samples, self.first_arrived, self.arrived = bytearray(samples.tobytes()), arrived, arrived

    def append(self, samples: np.ndarray, arrived: float) -> None:
        self.samples += samples.tobytes()  # amortised: a bytearray grows by a share of its size
        self.arrived = arrived


class Utterance:
    """Sound goes in on the producer's side, texts come out on the worker's.

    What has not been decoded waits in at most ``queue_size`` slots. A chunk that finds all of them taken is appended to
    the newest one, so that neither the producer waits nor sound is lost. Memory grows with the sound that came.

    `csmkit.asr.worker.Worker` calls every method, under its lock but for `listen` and `conclude`, which decode in its
    thread and touch only sound that has been taken.

    Args:
        queue_size: slots for chunks that were not taken yet.
        max_audio_s: seconds of sound that are accepted; what comes later is rejected.
    """

    def __init__(self, queue_size: int, max_audio_s: float) -> None:
        self.partial = Transcript()
        self.final: Transcript | None = None
        self.passes: list[Pass] = []
        self._state = State.OPEN
        self._waiting: deque[_Slot] = deque()
        self._queue_size, self._n_most = queue_size, round(max_audio_s * SAMPLE_RATE)
        self._n_put = self._n_taken = 0  # samples at 24 kHz
        self._n_rejected = self._n_rejected_samples = self._n_coalesced = 0
        self._lag_ms: list[float] = []
        self._oldest_lag_ms: list[float] = []
        self._taken = np.zeros(0, np.float32)  # at 24 kHz, not resampled yet
        self._resampler = soxr.ResampleStream(SAMPLE_RATE, RATE_HZ, 1, dtype="float32")
        self._heard = np.zeros(RATE_HZ, np.float32)  # at 16 kHz; grows
        self._n_heard = self._window_start = 0  # samples of it
        self._agreement = Agreement()

    @property
    def n_pending(self) -> int:
        """Slots that the worker has not taken."""
        return len(self._waiting)

    @property
    def finished(self) -> bool:
        """Whether all sound is there and the final text is not."""
        return self._state is State.FINISHED

    @property
    def cancelled(self) -> bool:
        """Whether it was dropped before its final text."""
        return self._state is State.CANCELLED

    @property
    def settled(self) -> bool:
        """Whether nothing more will be decoded."""
        return self._state in (State.DONE, State.CANCELLED)

    @property
    def open(self) -> bool:
        """Whether it takes sound."""
        return self._state is State.OPEN

    @property
    def decoded_at(self) -> float:
        """When its last decode ended; 0 before the first."""
        return self.passes[-1].ended if self.passes else 0.0

    def put(self, chunk: np.ndarray, now: float) -> bool:
        """Copy a chunk; False if it is rejected. After one rejection all are: the sound must have no holes."""
        if not self.open or self._n_rejected or self._n_put + len(chunk) > self._n_most:
            return self.reject(chunk)
        self._n_put += len(chunk)
        if len(self._waiting) == self._queue_size:
            self._waiting[-1].append(chunk, now)
            self._n_coalesced += 1
        else:
            self._waiting.append(_Slot(chunk, now))
        return True

    def reject(self, chunk: np.ndarray) -> bool:
        """Count a chunk that is not transcribed; always False."""
        self._n_rejected += 1
        self._n_rejected_samples += len(chunk)
        return False

    def finish(self) -> None:
        """Accept no more sound."""
        if self.open:
            self._state = State.FINISHED

    def settle(self, final: Transcript) -> None:
        """Keep the final text."""
        self.final, self._state = final, State.DONE

    def cancel(self) -> None:
        """Give up, unless the final text is there."""
        if self._state is not State.DONE:
            self._state = State.CANCELLED
            self._waiting.clear()

    def take(self) -> tuple[float, float] | None:
        """Take everything pending; when the oldest and the newest of it arrived, or None if there was nothing."""
        arrived = (self._waiting[0].first_arrived, self._waiting[-1].arrived) if self._waiting else None
        waited = [np.frombuffer(slot.samples, np.float32) for slot in self._waiting]
        self._taken = np.concatenate([self._taken, *waited])
        self._waiting.clear()
        self._n_taken = self._n_put
        return arrived

    def record(self, decode: Pass, arrived: tuple[float, float] | None) -> None:
        """Note a decode, and how far behind the oldest and the newest sound that it read first its result is."""
        self.passes.append(decode)
        if arrived is not None:
            self._oldest_lag_ms.append((decode.ended - arrived[0]) * 1000)
            self._lag_ms.append((decode.ended - arrived[1]) * 1000)

    def listen(self, transcriber: Transcriber) -> None:
        """Read the newest state once and publish a partial."""
        self._resample(last=False)
        if self._n_heard - self._window_start > transcriber.window_s * RATE_HZ:
            self._move_window(transcriber.window_s)
        sound = self._heard[self._window_start : self._n_heard]
        if len(sound) < SHORTEST_S * RATE_HZ:
            return
        offset_s = self._window_start / RATE_HZ
        heard_s = self._n_heard / RATE_HZ
        words = transcribe_long(transcriber, sound, final=False).words
        self._agreement.update([word.later(offset_s) for word in words], heard_s)
        committed, tentative = self._agreement.committed, self._agreement.tentative
        self.partial = Transcript(_join(committed), _join(tentative), (*committed, *tentative), heard_s)

    def conclude(self, transcriber: Transcriber) -> Transcript:
        """Read all the sound again from its first sample, as well as the model can."""
        self._resample(last=True)
        sound = self._heard[: self._n_heard]
        best = transcribe_long(transcriber, sound, final=True)
        committed = [normalise(word.text) for word in self._agreement.committed]
        _, revised = match_prefix(committed, [normalise(word) for word in best.text.split()])
        audio_s = self._n_taken / SAMPLE_RATE
        return Transcript(best.text, "", best.words, audio_s, not self._n_rejected, revised)

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

    def _resample(self, *, last: bool) -> None:
        fresh = self._resampler.resample_chunk(self._taken, last=last)
        self._taken = self._taken[:0]
        end = self._n_heard + len(fresh)
        if end > len(self._heard):
            self._heard = np.concatenate([self._heard[: self._n_heard], np.zeros(end, np.float32)])  # doubles at least
        self._heard[self._n_heard : end] = fresh
        self._n_heard = end

    def _move_window(self, window_s: float) -> None:
        cut_s = self._agreement.cut()
        if cut_s is not None:
            cut = min(round(cut_s * RATE_HZ), self._n_heard)
            self._window_start = snap(self._heard[: self._n_heard], cut)
            return
        # No word was agreed on in a whole window: silence or noise. Partials go on with its newer half.
        self._agreement.skip()
        self._window_start = self._n_heard - round(window_s / 2 * RATE_HZ)


def _join(words: list[Word] | tuple[Word, ...]) -> str:
    return " ".join(word.text for word in words)


def _percentile(values: list[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else 0.0
