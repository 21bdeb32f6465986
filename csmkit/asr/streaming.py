"""Speech recognition in a separate thread while sound arrives: the classes that a program uses."""

from __future__ import annotations

import logging
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from time import perf_counter

from csmkit.asr.transcriber import Transcriber, Transcript
from csmkit.asr.utterance import Pass, Utterance
from csmkit.asr.worker import Worker
from csmkit.audio import SAMPLE_RATE, Waveform, as_mono
from csmkit.checks import check_integer, check_number
from csmkit.closing import Closing
from csmkit.errors import InputError, StateError, TranscriptionError
from csmkit.files.hub import DEFAULT_WHISPER

log = logging.getLogger(__name__)

CLOSE_S = 10.0  # longer than a decode of a few seconds of sound takes


class OneUtterance(ABC):
    """The sound and the texts of one utterance. Any thread may call every method; two of them wait."""

    @abstractmethod
    def _present(self) -> tuple[Worker, Utterance]:
        """The utterance, and the worker that decodes it; raises StateError where none was started."""

    def put_audio_chunk(self, chunk: Waveform, sample_rate: int = SAMPLE_RATE) -> bool:
        """Add ``(samples,)`` at 24 kHz; they are copied, and the call never waits for a decode.

        Args:
            chunk: ``(samples,)`` as an array or a tensor, in any form that `csmkit.audio.as_mono` takes.
            sample_rate: rate of the chunk in Hz, which must be 24 000: chunks resampled one by one do not join without
                clicks.

        Returns:
            False if the chunk was rejected: after `finish` or `cancel`, past ``max_audio_s``, or after the recogniser
            failed.

        Raises:
            InputError: not a waveform, NaN or infinite samples, or another rate.
            StateError: nothing was started.
        """
        worker, utterance = self._present()
        samples = as_mono(chunk)
        if sample_rate != SAMPLE_RATE:
            cure = "resample the whole sound first, with csmkit.audio.resample"
            raise InputError(f"a chunk at {sample_rate!r} Hz: the recogniser takes {SAMPLE_RATE} Hz, {cure}")
        return worker.put(utterance, samples)

    def finish(self) -> None:
        """Mark the end of the sound. Returns at once; raises StateError where nothing was started."""
        worker, utterance = self._present()
        worker.finish(utterance)

    def get_latest_partial(self) -> Transcript:
        """The text so far; empty at first. Returns at once.

        Raises:
            TranscriptionError: the recogniser failed; the cause is its error.
            StateError: nothing was started.
        """
        worker, utterance = self._present()
        return worker.partial(utterance)

    def get_final(self, timeout: float | None = None) -> Transcript:
        """Wait for the text of the whole utterance.

        Args:
            timeout: seconds to wait at most; None waits as long as it takes.

        Raises:
            TimeoutError: not ready in time; ask again later.
            TranscriptionError: the recogniser failed; the cause is its error.
            StateError: nothing was started, `finish` was not called, or the utterance was cancelled.
        """
        worker, utterance = self._present()
        return worker.final(utterance, timeout)

    def wait_until_read(self, timeout: float | None = None) -> bool:
        """Block until the partial text includes all sound put so far; False after ``timeout`` seconds.

        Raises:
            StateError: nothing was started.
        """
        worker, utterance = self._present()
        return worker.wait_until_read(utterance, timeout)

    def stats(self) -> dict[str, float]:
        """Counters: seconds received, decoded, rejected, decodes, lag. Raises StateError where nothing was started."""
        worker, utterance = self._present()
        return worker.stats(utterance)

    def passes(self) -> list[Pass]:
        """The decodes so far, in order. Raises StateError where nothing was started."""
        worker, utterance = self._present()
        return worker.passes(utterance)


class TranscriptionStream(OneUtterance):
    """One utterance that a recogniser transcribes; made by `StreamingWhisperASR.stream`.

    A stream that is dropped is cancelled.

    Args:
        worker: decodes the utterance.
        utterance: a new utterance, which no worker has yet.
        owner: object that must live as long as this stream.
    """

    def __init__(self, worker: Worker, utterance: Utterance, owner: object = None) -> None:
        self._worker, self._utterance = worker, utterance
        self._owner = owner  # keeps the recogniser alive
        worker.open(utterance)
        weakref.finalize(self, worker.cancel, utterance).atexit = False

    def _present(self) -> tuple[Worker, Utterance]:
        return self._worker, self._utterance

    @property
    def settled(self) -> bool:
        """Whether it is over: it has its final text, was cancelled, or the recogniser failed."""
        return self._worker.settled(self._utterance)

    def transcribe(self, audio: Waveform, timeout: float | None = None) -> Transcript:
        """Put all the sound of the utterance, and wait for its text; afterwards it is over. Raises as `get_final`."""
        try:
            self.put_audio_chunk(audio)
            self.finish()
            return self.get_final(timeout)
        finally:
            self.cancel()

    def transcribe_turn(self, audio: Waveform, timeout_s: float) -> str:
        """The text of a user's turn, as `transcribe`; empty if there is no word in it.

        A recogniser that takes too long is abandoned: the next turn gets a new thread.

        Raises:
            TranscriptionError: the recogniser failed, or took longer than ``timeout_s`` seconds.
            StateError: another thread has cancelled it.
        """
        try:
            return str(self.transcribe(audio, timeout_s)).strip()
        except TimeoutError as error:
            self.abandon()
            hint = "give a longer asr_timeout_s, or a smaller Whisper"
            raise TranscriptionError(f"transcribing the user took longer than {timeout_s:g} s: {hint}") from error

    def cancel(self) -> None:
        """Drop the utterance; a waiting `get_final` raises StateError. Returns at once."""
        self._worker.cancel(self._utterance)

    def abandon(self) -> None:
        """Drop the utterance of a recogniser that is too slow: the next stream gets a new thread.

        The present thread may hang for ever. It continues with its other streams, and ends after them.
        """
        self._worker.retire()
        self.cancel()


class StreamingWhisperASR(Closing, OneUtterance):
    """Transcribes speech chunk by chunk while it arrives, then once more as a whole.

    The methods of this class are for one utterance at a time, the one that `start_processing` began last: after its
    final text, or after `cancel`, the next one can start. `stream` opens further utterances at the same time, for
    several speakers or chatbots that share the model: they are decoded one at a time, finished ones first, and do not
    affect each other.

    Args:
        model_name: ``tiny.en``, ``base.en`` or ``small.en``, the preset's model of that class; a directory; a hub id.
        queue_size: largest number of chunks of an utterance that wait for the recogniser. While that many wait, a new
            chunk is appended to the newest one: the caller does not wait, and no sound is lost.
        transcriber: loaded recogniser to use instead of ``model_name``.
        max_audio_s: largest number of seconds of sound of an utterance; later chunks are rejected, and the final text
            is marked as not complete.
        duty: largest share of the time, in (0, 1], in which partial texts are decoded. The final text is not limited.
        device: ``cpu`` or ``cuda``, for ``model_name``.
        compute_type: CTranslate2's type of the weights, such as ``int8`` or ``float16``, for ``model_name``.
        preset: preset that says which model a name means, ``pocket`` or ``sesame``.
        clock: returns the present time in seconds and never decreases.

    Raises:
        InputError: a parameter out of its range.
    """

    def __init__(
        self,
        model_name: str = DEFAULT_WHISPER,
        queue_size: int = 50,
        *,
        transcriber: Transcriber | None = None,
        max_audio_s: float = 120.0,
        duty: float = 0.5,
        device: str = "cpu",
        compute_type: str = "int8",
        preset: str = "pocket",
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        check_integer("queue_size", queue_size)
        check_number("max_audio_s", max_audio_s, 1, 3600)
        if not 0 < duty <= 1:
            raise InputError(f"duty={duty!r}: give a share of the time above 0 and up to 1, such as 0.5")
        self.model_name, self.preset = model_name, preset
        self.max_audio_s = max_audio_s
        self._new_utterance = partial(Utterance, queue_size, max_audio_s)
        whisper = partial(_load_whisper, model_name, device, compute_type, preset)
        load = whisper if transcriber is None else lambda: transcriber
        self._new_worker = partial(Worker, load, model_name, duty, clock)
        self._preparing = threading.Lock()  # two chatbots that begin at once share one model
        self._worker: Worker | None = None
        self._stream: TranscriptionStream | None = None

    def prepare(self) -> None:
        """Load the model in the worker thread, unless it is loaded, and wait; `start_processing` does this, too.

        Raises:
            CsmkitError: the model cannot be loaded; the leaf says why.
            TranscriptionError: loading failed for an unknown reason; see the cause.
        """
        self._prepared()

    def stream(self) -> TranscriptionStream:
        """Begin an utterance that is independent of all others. The first call blocks until the model is loaded.

        Raises:
            CsmkitError, TranscriptionError: as in `prepare`.
        """
        return TranscriptionStream(self._prepared(), self._new_utterance(), self)

    def start_processing(self) -> None:
        """Begin an utterance. The first call blocks until the model is loaded.

        Raises:
            StateError: the previous utterance has no final text yet.
            CsmkitError, TranscriptionError: as in `prepare`.
        """
        if self._stream is not None and not self._stream.settled:
            raise StateError("an utterance is already open: call get_final() or cancel() before start_processing()")
        # Without a reference to this object: a cycle would need the garbage collector.
        self._stream = TranscriptionStream(self._prepared(), self._new_utterance())

    def transcribe(self, audio: Waveform, timeout: float | None = None) -> Transcript:
        """Transcribe a whole waveform and wait for its text; any thread may call it at any time.

        Args:
            audio: ``(samples,)`` at 24 kHz.
            timeout: seconds to wait at most; None waits as long as it takes.

        Raises:
            TimeoutError: not ready in time; the utterance is dropped.
            InputError: not a waveform, NaN or infinite samples, or longer than ``max_audio_s``.
            CsmkitError, TranscriptionError: as `prepare` and `get_final`.
        """
        samples = as_mono(audio)
        seconds = len(samples) / SAMPLE_RATE
        if seconds > self.max_audio_s:
            limit = f"this recogniser takes {self.max_audio_s:g} s at a time"
            raise InputError(f"{seconds:.1f} s of sound: {limit}, give a shorter recording or a larger max_audio_s")
        return self.stream().transcribe(samples, timeout)

    def cancel(self) -> None:
        """Drop the utterance, if there is one. Returns at once; the result of a decode in progress is discarded."""
        if self._stream is not None:
            self._stream.cancel()

    def close(self, timeout: float | None = CLOSE_S) -> None:
        """Cancel all utterances, end the thread, wait for it and release the model. May be called again.

        Args:
            timeout: seconds to wait for a decode in progress; after that the thread is left running, with a warning in
                the log. None waits as long as it takes.
        """
        if self._worker is not None and not self._worker.stop(timeout):
            log.warning("the recogniser %r did not end in time: its thread is left running", self.model_name)

    def _prepared(self) -> Worker:
        """The worker, its model loaded."""
        with self._preparing:
            if self._worker is None or not self._worker.usable:
                self._worker = self._new_worker()
                weakref.finalize(self, self._worker.stop, timeout=20)  # when the object is dropped, or the program ends
            worker = self._worker
        worker.wait_until_loaded()
        return worker

    def _present(self) -> tuple[Worker, Utterance]:
        if self._stream is None:
            raise StateError("nothing was started: call start_processing() first")
        return self._stream._present()


def _load_whisper(model_name: str, device: str, compute_type: str, preset: str) -> Transcriber:
    from csmkit.asr.whisper import WhisperTranscriber, resolve

    return WhisperTranscriber(resolve(model_name, preset), device=device, compute_type=compute_type)
