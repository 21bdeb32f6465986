"""The recogniser in a turn: for the user's words, and beside the voice, where its failure must not stop the speech."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from csmkit.asr.streaming import StreamingWhisperASR, TranscriptionStream
from csmkit.asr.transcriber import Transcript
from csmkit.asr.utterance import Pass
from csmkit.errors import CsmkitError, StateError, TranscriptionError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

log = logging.getLogger(__name__)


class Listener:
    """Transcribes one turn, in streams of its own: others may use the same recogniser at the same time.

    After an error in the answer it transcribes nothing more, logs one warning, and keeps the text of the error.

    Args:
        asr: the recogniser, or None for a turn without one.
        turn_id: for the log.

    Attributes:
        error: the first error, or None.
        final: the whole text, once there is one.
    """

    def __init__(self, asr: StreamingWhisperASR | None, turn_id: str) -> None:
        self.error: str | None = None
        self.final: Transcript | None = None
        self._asr = asr
        self._turn_id = turn_id
        self._cancelled = False
        self._partial = ""
        self._stream: TranscriptionStream | None = None

    def hear_user(self, sound: np.ndarray, timeout_s: float) -> str | None:
        """Transcribe what the user says; empty without a word, None after `cancel`.

        Args:
            sound: ``(samples,)`` at 24 kHz.
            timeout_s: seconds that the recogniser may take.

        Raises:
            TranscriptionError: the recogniser failed or took too long.
        """
        assert self._asr is not None
        stream = self._open(self._asr)
        try:
            stream.put_audio_chunk(sound)
            stream.finish()
            return str(stream.get_final(timeout_s)).strip()
        except TimeoutError as error:
            stream.abandon()
            hint = "give a longer asr_timeout_s, or a smaller Whisper"
            raise TranscriptionError(f"hearing the user took longer than {timeout_s:g} s: {hint}") from error
        except StateError:
            if self._cancelled:
                return None
            raise
        finally:
            stream.cancel()
            self._stream = None

    def start(self) -> None:
        """Begin with the answer; waits for the model if it is not loaded yet."""
        if self._asr is None:
            return
        try:
            self._open(self._asr)
        except CsmkitError as error:
            self._fail(error)

    def hear(self, chunk: Tensor) -> None:
        """Take a chunk of the answer; never waits."""
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

    def conclude(self, timeout_s: float) -> str | None:
        """Wait for the final text; None if there is none, be it for an error, the time or `cancel`."""
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
        return str(self.final)

    def cancel(self) -> None:
        """Transcribe nothing more, and wake whoever waits for the final. From any thread, at once."""
        self._cancelled = True
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def stats(self) -> dict[str, float]:
        """Counters of the recogniser, also after an error; empty where it never began."""
        return {} if self._stream is None else self._stream.stats()

    def passes(self) -> list[Pass]:
        """Its decodes so far."""
        return [] if self._stream is None else self._stream.passes()

    def _open(self, asr: StreamingWhisperASR) -> TranscriptionStream:
        self._stream = stream = asr.stream()
        if self._cancelled:  # `cancel` may have come before there was a stream
            stream.cancel()
        return stream

    def _fail(self, error: Exception) -> None:
        log.warning("turn %s goes on without transcription: %s", self._turn_id, error)
        log.debug("where it failed", exc_info=error)
        self.error = f"{type(error).__name__}: {error}"
        if self._stream is not None:
            self._stream.cancel()
