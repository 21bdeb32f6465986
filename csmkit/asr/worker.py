"""A speech recogniser that listens while the speech is still being made, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import weakref
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from csmkit.asr.hypothesis import Transcriber
from csmkit.asr.thread import Worker
from csmkit.asr.utterance import Pass, Transcript, Utterance
from csmkit.audio import SAMPLE_RATE, as_mono
from csmkit.errors import CsmkitError, InputError, StateError, TranscriptionError

if TYPE_CHECKING:
    from csmkit.audio import Waveform

log = logging.getLogger(__name__)

CLOSE_S = 10.0  # longer than any pass over a few seconds of sound


class StreamingWhisperASR:
    """Transcribes speech chunk by chunk while it arrives, then once more as a whole.

    Nothing the producer calls waits for a decode. One utterance at a time; after its final, or after `cancel`, the
    same object takes the next one.

    Args:
        model_name: ``tiny.en``, ``base.en`` or ``small.en``, the preset's model of that class; a directory; a hub id.
        queue_size: slots for chunks that wait; when they are full, chunks share a slot and nothing is lost.
        transcriber: a loaded recogniser to use instead of ``model_name``.
        max_audio_s: seconds of sound an utterance may have; later chunks are rejected and the final says so.
        duty: share of the time, in (0, 1], that partials may keep a processor busy. The final is not limited.
        device: ``cpu`` or ``cuda``, for ``model_name``.
        compute_type: of CTranslate2, for ``model_name``.
        preset: whose ``base.en`` is meant: ``pocket`` or ``sesame``.

    Raises:
        InputError: a parameter out of its range.
    """

    def __init__(
        self,
        model_name: str = "base.en",
        queue_size: int = 50,
        *,
        transcriber: Transcriber | None = None,
        max_audio_s: float = 120.0,
        duty: float = 0.5,
        device: str = "cpu",
        compute_type: str = "int8",
        preset: str = "pocket",
    ) -> None:
        if not isinstance(queue_size, int) or queue_size < 1:
            raise InputError(f"queue_size={queue_size!r}: give a whole number of chunks, at least 1")
        if not 1 <= max_audio_s <= 3600:
            raise InputError(f"max_audio_s={max_audio_s!r}: give seconds from 1 to 3600")
        if not 0 < duty <= 1:
            raise InputError(f"duty={duty!r}: give a share of the time above 0 and up to 1, such as 0.5")
        self.model_name = model_name
        self.max_audio_s = max_audio_s
        self._new_utterance = partial(Utterance, queue_size, max_audio_s)
        self._load = partial(_load_whisper, model_name, device, compute_type, preset)
        if transcriber is not None:
            self._load = partial(_given, transcriber)
        self._duty = duty
        self._worker: Worker | None = None
        self._utterance: Utterance | None = None

    def prepare(self) -> None:
        """Load the model in the worker thread, if it is not, and wait for it; `start_processing` does this too.

        Raises:
            CsmkitError: the model cannot be loaded; the leaf says why.
            TranscriptionError: loading failed in a way not foreseen; the cause says how.
        """
        worker = self._worker
        if worker is None or not worker.usable:
            worker = self._worker = Worker(self._load, self._duty)
            weakref.finalize(self, worker.stop, timeout=20)  # a dropped object, or the end of the program
        with worker.changed:
            worker.changed.wait_for(lambda: worker.ready or worker.error is not None)
        if isinstance(worker.error, CsmkitError):
            raise worker.error
        if worker.error is not None:
            hint = "copy or convert the model again, or take another"
            said = f"the recogniser {self.model_name!r} could not be loaded ({worker.error}): {hint}"
            raise TranscriptionError(said) from worker.error

    def start_processing(self) -> None:
        """Begin an utterance. Blocks until the model is loaded, the first time.

        Raises:
            StateError: the utterance before has no final yet.
            CsmkitError, TranscriptionError: as in `prepare`.
        """
        previous = self._utterance
        if self._alive() and previous is not None and previous.final is None and not previous.cancelled:
            raise StateError("an utterance is being heard already: call get_final() or cancel() before the next start")
        self.prepare()
        assert self._worker is not None
        with self._worker.changed:
            self._worker.utterance = self._utterance = self._new_utterance()

    def put_audio_chunk(self, chunk: Waveform, sample_rate: int = SAMPLE_RATE) -> bool:
        """Hand over ``(samples,)`` at 24 kHz; it is copied, and the call never waits for a decode.

        Args:
            chunk: the samples.
            sample_rate: of the chunk in Hz, only checked: chunks resampled one by one would not fit together.

        Returns:
            False if the chunk was rejected: after `finish` or `cancel`, past ``max_audio_s``, or with a dead worker.

        Raises:
            InputError: not a waveform, NaN in it, or another rate.
            StateError: nothing was started.
        """
        samples = as_mono(chunk)
        if sample_rate != SAMPLE_RATE:
            cure = "resample the whole sound first, with csmkit.audio.resample"
            raise InputError(f"a chunk at {sample_rate!r} Hz: the recogniser takes {SAMPLE_RATE} Hz, {cure}")
        worker, utterance = self._current()
        with worker.changed:
            if worker.error is not None:
                return utterance.reject(samples)
            accepted = not len(samples) or utterance.put(samples)
            worker.changed.notify_all()
        return accepted

    def finish(self) -> None:
        """Announce that no more sound follows. Returns at once; calling it again changes nothing."""
        worker, utterance = self._current()
        with worker.changed:
            utterance.finished = True
            worker.changed.notify_all()

    def get_latest_partial(self) -> Transcript:
        """What was understood so far; empty at first. Read without waiting.

        Raises:
            TranscriptionError: the recogniser failed; the cause is its error.
            StateError: nothing was started.
        """
        worker, utterance = self._current()
        self._raise_error(worker)
        return utterance.partial

    def get_final(self, timeout: float | None = None) -> Transcript:
        """Wait for the reading of the whole utterance.

        Args:
            timeout: in seconds; None waits as long as it takes.

        Raises:
            TimeoutError: not ready in time; ask again later.
            TranscriptionError: the recogniser failed; the cause is its error.
            StateError: nothing was started, `finish` was not called, or the utterance was cancelled.
        """
        worker, utterance = self._current()
        if not utterance.finished and not utterance.cancelled and worker.error is None:
            raise StateError("the utterance is not finished: call finish() before get_final()")

        def settled() -> bool:
            return utterance.final is not None or utterance.cancelled or worker.error is not None

        with worker.changed:
            if not worker.changed.wait_for(settled, timeout):
                raise TimeoutError(f"no final transcription within {timeout} s: ask again, or give a longer timeout")
        if utterance.final is not None:
            return utterance.final
        self._raise_error(worker)
        raise StateError("the utterance was cancelled: call start_processing() for the next one")

    def transcribe(
        self, audio: Waveform, timeout: float | None = None, stop: threading.Event | None = None
    ) -> Transcript:
        """Hear a whole waveform and wait for its text; an utterance like any other, without partials.

        Args:
            audio: ``(samples,)`` at 24 kHz.
            timeout: in seconds; None waits as long as it takes.
            stop: to break off from another thread: set it, then call `cancel`.

        Raises:
            TimeoutError: not ready in time; the utterance is dropped.
            InputError: not a waveform, NaN in it, or more of it than ``max_audio_s``.
            StateError: it was broken off, or another utterance is being heard.
            CsmkitError, TranscriptionError: as `prepare` and `get_final`.
        """
        samples = as_mono(audio)
        seconds = len(samples) / SAMPLE_RATE
        if seconds > self.max_audio_s:
            limit = f"this recogniser takes {self.max_audio_s:g} s at a time"
            raise InputError(f"{seconds:.1f} s of sound: {limit}, give a shorter recording or a larger max_audio_s")
        self.start_processing()
        try:
            if stop is not None and stop.is_set():  # `cancel` may have come before there was anything to cancel
                self.cancel()
            self.put_audio_chunk(samples)
            self.finish()
            return self.get_final(timeout)
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Drop the utterance. Returns at once; a decode in progress ends unheard. Fine without an utterance, too."""
        if self._worker is None or self._utterance is None:
            return
        with self._worker.changed:
            self._utterance.cancelled = self._utterance.final is None
            self._worker.utterance = None
            self._worker.changed.notify_all()

    def close(self, timeout: float | None = CLOSE_S) -> None:
        """Cancel, end the thread, wait for it and let the model go. May be called again.

        Args:
            timeout: seconds that a decode in progress may take; one that hangs is left behind, with a word in the log.
                None waits as long as it takes.
        """
        self.cancel()
        if self._worker is not None and not self._worker.stop(timeout):
            log.warning("the recogniser %r hangs in a decode and was left behind", self.model_name)

    def stats(self) -> dict[str, float]:
        """Counters of the present utterance, or the last: seconds received, decoded and rejected, decodes, lag.

        Raises:
            StateError: nothing was started.
        """
        worker, utterance = self._current()
        with worker.changed:
            return utterance.stats()

    def passes(self) -> list[Pass]:
        """The decodes of the present utterance, or the last, in order. Raises StateError where nothing was started."""
        worker, utterance = self._current()
        with worker.changed:
            return list(utterance.passes)

    def __enter__(self) -> StreamingWhisperASR:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _alive(self) -> bool:
        return self._worker is not None and self._worker.usable

    def _current(self) -> tuple[Worker, Utterance]:
        if self._worker is None or self._utterance is None:
            raise StateError("nothing was started: call start_processing() first")
        return self._worker, self._utterance

    def _raise_error(self, worker: Worker) -> None:
        if worker.error is not None:
            raise TranscriptionError(f"the recogniser {self.model_name!r} failed: {worker.error}") from worker.error


def _given(transcriber: Transcriber) -> Transcriber:
    return transcriber


def _load_whisper(model_name: str, device: str, compute_type: str, preset: str) -> Transcriber:
    from csmkit.asr.whisper import WhisperTranscriber, resolve

    return WhisperTranscriber(resolve(model_name, preset), device=device, compute_type=compute_type)
