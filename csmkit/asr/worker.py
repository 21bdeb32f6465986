"""The thread that owns a recogniser, and the only lock around its utterances."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from enum import Enum
from time import perf_counter

import numpy as np

from csmkit.asr.transcriber import Transcriber, Transcript
from csmkit.asr.utterance import Pass, Utterance, UtteranceState
from csmkit.errors import CsmkitError, StateError, TranscriptionError

NICER = 10  # of the scheduler's 40 steps: a late sample is audible, a late partial text is not


class State(Enum):
    """The state of the thread."""

    LOADING = "loading"  # utterances may be opened, nothing is decoded yet
    READY = "ready"
    RETIRED = "retired"  # takes no new utterance; ends after those that are open
    STOPPED = "stopped"
    FAILED = "failed"  # an error ended it


class Worker:
    """Decodes any number of open utterances, one at a time.

    A finished utterance is decoded first, otherwise the one whose last decode was longest ago. Every method may be
    called from any thread. Only these methods, which hold the lock, access an utterance.

    Args:
        load: returns the recogniser; called in the thread.
        name: names the recogniser in error messages.
        duty: largest share of the time, in (0, 1], that decodes of partial texts may take.
        clock: returns seconds and never decreases.
    """

    def __init__(
        self, load: Callable[[], Transcriber], name: str, duty: float, clock: Callable[[], float] = perf_counter
    ) -> None:
        # Reentrant: the garbage collector may cancel a dropped stream while this thread holds the lock.
        self._changed = threading.Condition(threading.RLock())
        self._state = State.LOADING
        self._error: BaseException | None = None  # of FAILED
        self._open: list[Utterance] = []
        self._decoding: Utterance | None = None
        self._rest_until = 0.0  # no partial text is decoded before: the speech generator has the processor
        self._load, self._name, self._duty, self._clock = load, name, duty, clock
        self._thread = threading.Thread(target=self._run, name="csmkit-asr", daemon=True)
        self._thread.start()

    @property
    def usable(self) -> bool:
        """Whether it takes new utterances, now or once the recogniser is loaded."""
        with self._changed:
            return self._state in (State.LOADING, State.READY)

    def wait_until_loaded(self) -> None:
        """Block until the recogniser is loaded, or the thread has ended.

        Raises:
            CsmkitError: loading failed for a known reason.
            TranscriptionError: loading failed for another reason; the cause is its error.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._state is not State.LOADING)
            error = self._error
        if isinstance(error, CsmkitError):
            raise error
        if error is not None:
            hint = "copy or convert the model again, or use another"
            message = f"the recogniser {self._name!r} could not be loaded ({error}): {hint}"
            raise TranscriptionError(message) from error

    def open(self, utterance: Utterance) -> None:
        """Add an utterance; a worker that is not usable cancels it at once."""
        with self._changed:
            if self.usable:
                self._open.append(utterance)
            else:
                utterance.cancel()

    def put(self, utterance: Utterance, samples: np.ndarray) -> bool:
        """Add ``(samples,)`` float32 at 24 kHz; False if they are rejected. Never waits for a decode."""
        with self._changed:
            if self._state is State.FAILED:
                return utterance.reject(samples)
            accepted = not len(samples) or utterance.put(samples, self._clock())
            self._changed.notify_all()
            return accepted

    def finish(self, utterance: Utterance) -> None:
        """Accept no more sound, and decode the final text."""
        with self._changed:
            utterance.finish()
            self._changed.notify_all()

    def cancel(self, utterance: Utterance) -> None:
        """Drop an utterance that has no final text yet; the result of a decode in progress is discarded."""
        with self._changed:
            utterance.cancel()
            if utterance in self._open:
                self._open.remove(utterance)
            self._changed.notify_all()

    def settled(self, utterance: Utterance) -> bool:
        """Whether an utterance has its final text, is cancelled, or the thread failed."""
        with self._changed:
            return utterance.settled or self._state is State.FAILED

    def partial(self, utterance: Utterance) -> Transcript:
        """As `csmkit.asr.streaming.OneUtterance.get_latest_partial`."""
        with self._changed:
            self._raise_error()
            return utterance.partial

    def final(self, utterance: Utterance, timeout: float | None) -> Transcript:
        """As `csmkit.asr.streaming.OneUtterance.get_final`."""
        with self._changed:
            if utterance.state is UtteranceState.OPEN and self._state is not State.FAILED:
                raise StateError("the utterance is not finished: call finish() before get_final()")
            if not self._changed.wait_for(lambda: self.settled(utterance), timeout):
                raise TimeoutError(f"no final transcription within {timeout} s: ask again, or give a longer timeout")
            if utterance.final is not None:
                return utterance.final
            self._raise_error()
            raise StateError("the utterance was cancelled: call start_processing() for the next one")

    def wait_until_read(self, utterance: Utterance, timeout: float | None) -> bool:
        """Block until a decode has read all sound put so far, or the utterance is over; False after ``timeout`` s."""

        def read() -> bool:
            return self.settled(utterance) or not (utterance.n_pending or self._decoding is utterance)

        with self._changed:
            return self._changed.wait_for(read, timeout)

    def stats(self, utterance: Utterance) -> dict[str, float]:
        """The counters of an utterance."""
        with self._changed:
            return utterance.stats()

    def passes(self, utterance: Utterance) -> list[Pass]:
        """The decodes of an utterance so far."""
        with self._changed:
            return list(utterance.passes)

    def retire(self) -> None:
        """Take no new utterance, and end after those that are open. Returns at once."""
        with self._changed:
            if self.usable:
                self._state = State.RETIRED
            self._changed.notify_all()

    def stop(self, timeout: float | None = None) -> bool:
        """Cancel all utterances, end the thread and wait for it, at most ``timeout`` seconds; whether it has ended."""
        with self._changed:
            for utterance in self._open:
                utterance.cancel()
            self._open.clear()
            if self._state is not State.FAILED:
                self._state = State.STOPPED
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise TranscriptionError(f"the recogniser {self._name!r} failed: {self._error}") from self._error

    def _run(self) -> None:
        try:
            _lower_priority()
            transcriber = self._load()
            with self._changed:
                if self._state is State.LOADING:
                    self._state = State.READY
                self._changed.notify_all()
            while (utterance := self._next()) is not None:
                self._decode(transcriber, utterance)
        except BaseException as error:  # the thread's top frame: raised in the caller as a cause
            with self._changed:
                self._state, self._error = State.FAILED, error
                self._changed.notify_all()

    def _next(self) -> Utterance | None:
        """Wait for an utterance to decode; None when the thread has to end."""
        with self._changed:
            while self._state is State.READY or (self._state is State.RETIRED and self._open):
                finished = [utterance for utterance in self._open if utterance.state is UtteranceState.FINISHED]
                if finished:
                    return finished[0]
                waiting = [utterance for utterance in self._open if utterance.n_pending]
                rest_s = self._rest_until - self._clock() if waiting else None
                if rest_s is not None and rest_s <= 0:
                    return min(waiting, key=lambda utterance: utterance.decoded_at)
                self._changed.wait(rest_s)
        return None

    def _decode(self, transcriber: Transcriber, utterance: Utterance) -> None:
        with self._changed:
            started, job = self._clock(), utterance.take()
            self._decoding = utterance
        decode = utterance.transcription.final if job.final else utterance.transcription.partial
        text = decode(transcriber, job.samples)
        with self._changed:
            ended = self._clock()
            self._decoding = None
            utterance.record(job, started, ended, text)
            if not job.final:
                self._rest_until = ended + (ended - started) * (1 / self._duty - 1)
            elif utterance in self._open:  # it may have been cancelled during the decode
                self._open.remove(utterance)
            self._changed.notify_all()


def _lower_priority() -> None:
    """Give this thread, and threads it starts, a lower priority than the other threads of the program.

    Only Linux has priorities of threads.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + NICER))
