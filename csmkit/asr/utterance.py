"""One utterance: its sound, its hypotheses so far, and what was counted on the way."""

from __future__ import annotations

from collections import deque
from time import perf_counter
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
    """One decode, by `time.perf_counter`."""

    started: float
    ended: float
    final: bool


class Utterance:
    """Sound goes in on the producer's side, readings come out on the worker's.

    `put` and `take` are called under the worker's lock and do next to nothing; `listen` and `conclude` decode, are
    called by the worker alone, and touch only sound that has been taken.

    Args:
        queue_size: slots for chunks not taken yet; more chunks share the last slot.
        max_audio_s: seconds of sound that are kept; what comes later is rejected.
    """

    def __init__(self, queue_size: int, max_audio_s: float) -> None:
        self.partial = Transcript()
        self.final: Transcript | None = None
        self.finished = False
        self.cancelled = False
        self.rest_until = 0.0  # by `time.perf_counter`; before it the worker leaves the processor to the generator
        self._queue_size = queue_size
        self._audio = np.empty(round(max_audio_s * SAMPLE_RATE), np.float32)
        self._arrivals: deque[float] = deque()  # one a slot: when its newest chunk came
        self._n_put = self._n_taken = 0  # samples at 24 kHz
        self._n_rejected = self._n_rejected_samples = self._n_coalesced = 0
        self.passes: list[Pass] = []
        self._lag_ms: list[float] = []
        self._resampler = soxr.ResampleStream(SAMPLE_RATE, RATE_HZ, 1, dtype="float32")
        self._n_resampled = 0  # of the input
        self._heard = np.empty(round(max_audio_s * RATE_HZ) + RATE_HZ, np.float32)
        self._n_heard = self._window_start = 0  # samples at 16 kHz
        self._agreement = Agreement()

    @property
    def n_pending(self) -> int:
        """Slots that the worker has not taken."""
        return len(self._arrivals)

    def put(self, chunk: np.ndarray) -> bool:
        """Copy a chunk; False if it is rejected. Once one is, all later ones are: the sound must have no holes."""
        end = self._n_put + len(chunk)
        if self.finished or self.cancelled or self._n_rejected or end > len(self._audio):
            return self.reject(chunk)
        self._audio[self._n_put : end] = chunk
        self._n_put = end
        if len(self._arrivals) == self._queue_size:
            self._arrivals.pop()
            self._n_coalesced += 1
        self._arrivals.append(perf_counter())
        return True

    def reject(self, chunk: np.ndarray) -> bool:
        """Count a chunk that nobody will hear; always False."""
        self._n_rejected += 1
        self._n_rejected_samples += len(chunk)
        return False

    def take(self) -> float | None:
        """Take everything pending; when the newest of it arrived, or None if there was nothing."""
        newest = self._arrivals[-1] if self._arrivals else None
        self._arrivals.clear()
        self._n_taken = self._n_put
        return newest

    def record(self, decode: Pass, arrived: float | None) -> None:
        """Note a decode, and how far behind the sound its result is."""
        self.passes.append(decode)
        if arrived is not None:
            self._lag_ms.append((decode.ended - arrived) * 1000)

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
        }

    def _resample(self, *, last: bool) -> None:
        fresh = self._resampler.resample_chunk(self._audio[self._n_resampled : self._n_taken], last=last)
        self._n_resampled = self._n_taken
        self._heard[self._n_heard : self._n_heard + len(fresh)] = fresh
        self._n_heard += len(fresh)

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
