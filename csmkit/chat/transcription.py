"""The recogniser in a turn: it transcribes the user's audio, and the answer while it is spoken."""

from __future__ import annotations

import logging

import numpy as np
from torch import Tensor

from csmkit.asr.streaming import StreamingWhisperASR, TranscriptionStream
from csmkit.asr.transcriber import Transcript
from csmkit.asr.utterance import Pass
from csmkit.errors import CsmkitError, StateError

log = logging.getLogger(__name__)


class TurnTranscription:
    """Transcribes one turn, in streams of its own: other turns may use the same recogniser at the same time.

    An error of the recogniser does not stop the answer: it is logged as a warning, and the rest is not transcribed.

    Args:
        asr: the recogniser, or None for no transcription.
        turn_id: names the turn in the log.

    Attributes:
        error: class and message of the first error; None without an error.
        final: text of the whole answer; None before `conclude`, and if that failed.
    """

    def __init__(self, asr: StreamingWhisperASR | None, turn_id: str) -> None:
        self.error: str | None = None
        self.final: Transcript | None = None
        self._asr = asr
        self._turn_id = turn_id
        self._cancelled = False
        self._partial = ""
        self._stream: TranscriptionStream | None = None

    def transcribe_user(self, audio: np.ndarray, timeout_s: float) -> str | None:
        """Transcribe the user's audio; blocks. Empty if there is no word in it, None after `cancel`.

        Args:
            audio: ``(samples,)`` at 24 kHz.
            timeout_s: largest number of seconds to wait.

        Raises:
            TranscriptionError: the recogniser failed, or took longer.
        """
        assert self._asr is not None
        try:
            return self._open(self._asr).transcribe_turn(audio, timeout_s)
        except StateError:
            if self._cancelled:
                return None
            raise
        finally:
            self._stream = None

    def start(self) -> None:
        """Open the stream for the answer; blocks while the model is loaded."""
        if self._asr is None:
            return
        try:
            self._open(self._asr)
        except CsmkitError as error:
            self._fail(error)

    def add(self, chunk: Tensor) -> None:
        """Transcribe a chunk of the answer, ``(samples,)`` at 24 kHz; returns at once."""
        if self._stream is None or self.error is not None:
            return
        try:
            self._stream.put_audio_chunk(chunk)
        except CsmkitError as error:
            self._fail(error)

    def changed_partial(self) -> str | None:
        """The partial text, if it differs from the one that was returned before; else None."""
        if self._stream is None or self.error is not None:
            return None
        try:
            partial = str(self._stream.get_latest_partial())
        except CsmkitError as error:
            self._fail(error)
            return None
        if partial == self._partial:
            return None
        self._partial = partial
        return partial

    def conclude(self, timeout_s: float) -> Transcript | None:
        """Wait at most ``timeout_s`` seconds for the final text; None after an error, that time, or `cancel`."""
        if self._stream is None or self.error is not None:
            return None
        try:
            self._stream.finish()
            self.final = self._stream.get_final(timeout_s)
        except (CsmkitError, TimeoutError) as error:
            if not self._cancelled:
                if isinstance(error, TimeoutError):
                    self._stream.abandon()
                self._fail(error)
            return None
        return self.final

    def cancel(self) -> None:
        """Stop transcribing, and end a waiting call of `conclude`; returns at once, from any thread."""
        self._cancelled = True
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def stats(self) -> dict[str, float]:
        """Counters of the stream, also after an error; empty if no stream was opened."""
        return {} if self._stream is None else self._stream.stats()

    def passes(self) -> list[Pass]:
        """The passes of the recogniser so far."""
        return [] if self._stream is None else self._stream.passes()

    def _open(self, asr: StreamingWhisperASR) -> TranscriptionStream:
        self._stream = stream = asr.stream()
        if self._cancelled:  # `cancel` may have been called before there was a stream
            stream.cancel()
        return stream

    def _fail(self, error: Exception) -> None:
        log.warning("turn %s continues without transcription: %s", self._turn_id, error)
        log.debug("the error of the recogniser", exc_info=error)
        self.error = f"{type(error).__name__}: {error}"
        if self._stream is not None:
            self._stream.cancel()
