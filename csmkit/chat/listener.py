"""The recogniser in a turn: beside the voice, where its failure must not stop the speech, and for the user's words."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from csmkit.asr.utterance import Pass, Transcript
from csmkit.asr.worker import StreamingWhisperASR
from csmkit.errors import CsmkitError, StateError, TranscriptionError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

log = logging.getLogger(__name__)


class Listener:
    """Hears one turn. After an error it hears nothing more, says so once in the log, and keeps the error's text.

    Args:
        asr: the recogniser, or None for a turn without one.
        turn_id: for the log.

    Attributes:
        error: what went wrong, or None.
        final: the whole text, once there is one.
    """

    def __init__(self, asr: StreamingWhisperASR | None, turn_id: str) -> None:
        self.error: str | None = None
        self.final: Transcript | None = None
        self._asr = asr
        self._turn_id = turn_id
        self._cancelled = False
        self._told = ""
        self._started: StreamingWhisperASR | None = None

    def start(self) -> None:
        """Begin; waits for the model if it is not loaded yet."""
        if self._asr is None:
            return
        try:
            self._asr.start_processing()
            self._started = self._asr
        except CsmkitError as error:
            self._fail(error)

    def hear(self, chunk: Tensor) -> None:
        """Take a chunk; never waits."""
        if self._asr is None:
            return
        try:
            self._asr.put_audio_chunk(chunk)
        except CsmkitError as error:
            self._fail(error)

    def news(self) -> str | None:
        """The partial text, if it is not the one told before."""
        if self._asr is None:
            return None
        try:
            partial = str(self._asr.get_latest_partial())
        except CsmkitError as error:
            self._fail(error)
            return None
        if partial == self._told:
            return None
        self._told = partial
        return partial

    def conclude(self, timeout_s: float) -> str | None:
        """Wait for the final text; None if there is none, be it for an error, the time or `cancel`."""
        if self._asr is None:
            return None
        try:
            self._asr.finish()
            self.final = self._asr.get_final(timeout=timeout_s)
        except (CsmkitError, TimeoutError) as error:
            if not self._cancelled:
                _leave_behind(self._asr, error)
                self._fail(error)
            return None
        return str(self.final)

    def cancel(self) -> None:
        """Hear nothing more, and wake whoever waits for the final. From any thread, at once."""
        self._cancelled = True
        if self._asr is not None:
            self._asr.cancel()

    def stats(self) -> dict[str, float]:
        """Counters of the recogniser, also after an error; empty where it never began."""
        return {} if self._started is None else self._started.stats()

    def passes(self) -> list[Pass]:
        """Its decodes so far."""
        return [] if self._started is None else self._started.passes()

    def _fail(self, error: Exception) -> None:
        log.warning("turn %s goes on without transcription: %s", self._turn_id, error)
        log.debug("where it failed", exc_info=error)
        self.error = f"{type(error).__name__}: {error}"
        if self._asr is not None:
            self._asr.cancel()
        self._asr = None


def hear_user(asr: StreamingWhisperASR, sound: np.ndarray, timeout_s: float, stop: threading.Event) -> str | None:
    """What the user said, empty without a word; None if it was stopped: set ``stop``, then cancel the recogniser.

    Args:
        sound: ``(samples,)`` at 24 kHz.

    Raises:
        TranscriptionError: the recogniser failed or took too long.
        InputError: more sound than it takes.
    """
    try:
        return str(asr.transcribe(sound, timeout_s, stop)).strip()
    except TimeoutError as error:
        _leave_behind(asr, error)
        hint = "give a longer asr_timeout_s, or a smaller Whisper"
        raise TranscriptionError(f"hearing the user took longer than {timeout_s:g} s: {hint}") from error
    except StateError:
        if stop.is_set():
            return None
        raise


def _leave_behind(asr: StreamingWhisperASR, error: Exception) -> None:
    """Where the recogniser is late, let the next turn begin with a new thread: this one may never come back."""
    if isinstance(error, TimeoutError):
        asr.close(timeout=0)
