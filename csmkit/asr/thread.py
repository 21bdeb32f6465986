"""The thread that owns a recogniser."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from time import perf_counter

from csmkit.asr.hypothesis import Transcriber
from csmkit.asr.utterance import Pass, Utterance

NICER = 10  # steps of the scheduler's 40; the voice beside it is heard, a partial text can wait


class Worker:
    """Decodes the newest state of one utterance after the other; knows nothing of the object that users hold.

    Args:
        load: gives the recogniser; called in the thread.
        duty: share of the time that partials may take.

    Attributes:
        changed: guards everything below, and the utterance.
        utterance: the one to listen to, or None.
        ready: whether the recogniser is loaded.
        error: what ended the thread.
    """

    def __init__(self, load: Callable[[], Transcriber], duty: float) -> None:
        self.changed = threading.Condition()
        self.utterance: Utterance | None = None
        self.ready = False
        self.error: BaseException | None = None
        self._load = load
        self._duty = duty
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="csmkit-asr", daemon=True)
        self._thread.start()

    @property
    def usable(self) -> bool:
        """Whether it takes work, now or once it is loaded."""
        return self.error is None and not self._stopping

    def stop(self, timeout: float | None = None) -> bool:
        """End the thread and wait for it, at most ``timeout`` seconds; whether it has ended."""
        with self.changed:
            self._stopping = True
            self.changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            _stand_back()
            transcriber = self._load()
            with self.changed:
                self.ready = True
                self.changed.notify_all()
            while (work := self._next()) is not None:
                self._decode(transcriber, *work)
        except BaseException as error:  # the thread's top frame: kept for the caller, who gets it as a cause
            with self.changed:
                self.error = error
                self.changed.notify_all()

    def _next(self) -> tuple[Utterance, bool, float | None] | None:
        """Wait for something to decode: the utterance, whether it is finished, when its newest chunk came."""
        with self.changed:
            while not self._stopping:
                utterance = self.utterance
                rest_s: float | None = None
                if utterance is not None and utterance.final is None:
                    if utterance.finished:
                        return utterance, True, utterance.take()
                    if utterance.n_pending:
                        rest_s = utterance.rest_until - perf_counter()
                        if rest_s <= 0:
                            return utterance, False, utterance.take()
                self.changed.wait(rest_s)
        return None

    def _decode(self, transcriber: Transcriber, utterance: Utterance, finished: bool, arrived: float | None) -> None:
        started = perf_counter()
        final = None
        if finished:
            final = utterance.conclude(transcriber)
        else:
            utterance.listen(transcriber)
        now = perf_counter()
        with self.changed:
            utterance.record(Pass(started, now, finished), arrived)
            utterance.rest_until = now + (now - started) * (1 / self._duty - 1)
            utterance.final = None if utterance.cancelled else final
            self.changed.notify_all()


def _stand_back() -> None:
    """Let the other threads of the program go first where cores are short; those it starts from here on, too.

    Linux alone has priorities of threads.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + NICER))
