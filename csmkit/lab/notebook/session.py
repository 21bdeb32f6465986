"""Session: speaks one job at a time in a thread of its own, so that the caller never waits."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from csmkit.asr.transcriber import Word
from csmkit.errors import CsmkitError, StateError
from csmkit.files.hub import DEFAULT_WHISPER
from csmkit.lab.notebook.player import Player
from csmkit.lab.notebook.recordings import Recording
from csmkit.lab.trials.trial import TrialRun, TrialSettings
from csmkit.stack import Stack
from csmkit.timing import Arrivals

POLL_S = 0.05  # how often the progress is read: often enough for the eye, and little work beside the generator
EXIT_S = 20.0  # at the end of the program, time for the frame in progress
BUSY = "a recording is being made: press Stop first, or wait for its end"


@dataclass(frozen=True)
class Job:
    """One text to speak.

    Attributes:
        text: is spoken as it is given.
        whisper: model of the recogniser, such as ``base.en``; None for none.
    """

    text: str
    settings: TrialSettings = field(default_factory=TrialSettings)
    whisper: str | None = DEFAULT_WHISPER
    preset: str = "pocket"


@dataclass(frozen=True)
class Progress:
    """The state of a job.

    Attributes:
        phase: "loading", "speaking", "measuring", and in the end "done", "stopped" or "failed".
        text: the recogniser's latest text.
        final: whether ``text`` is the final one.
        error: why it failed, in one line.
        recording: the result, at the end.
    """

    phase: str
    arrivals: Arrivals = field(default_factory=Arrivals)
    text: str = ""
    final: bool = False
    words: tuple[Word, ...] = ()
    error: str = ""
    recording: Recording | None = None

    @property
    def busy(self) -> bool:
        """Whether more progress follows."""
        return self.phase in ("loading", "speaking", "measuring")


class Session:
    """Speaks jobs through a player, and keeps the recordings.

    Args:
        on_progress: called with each new progress, in the session's thread; the last one of a job is not `busy`.
        open_stack: makes the models of a preset; each preset is opened once and kept.

    Attributes:
        recordings: oldest first; stopped ones too, if there was sound.
    """

    def __init__(
        self, player: Player, on_progress: Callable[[Progress], object], open_stack: Callable[[str], Stack] = Stack
    ) -> None:
        self.recordings: list[Recording] = []
        self._player, self._on_progress, self._open_stack = player, on_progress, open_stack
        self._stacks: dict[str, Stack] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._progress = Progress("done")

    @property
    def busy(self) -> bool:
        """Whether a job is in progress."""
        return self._progress.busy

    def speak(self, job: Job) -> None:
        """Begin a job and return at once; its errors are in its last progress. StateError during another job."""
        if self.busy:
            raise StateError(BUSY)
        self._stopping.clear()
        self._progress = Progress("loading")
        self._thread = threading.Thread(target=self._work, args=[job], name="csmkit-session", daemon=True)
        self._thread.start()

    def play(self, audio: np.ndarray) -> None:
        """Play a waveform, ``(samples,)`` float32 at 24 kHz, such as a recording's; StateError during a job."""
        if self.busy:
            raise StateError(BUSY)
        self._player.play(audio)

    def stop(self) -> None:
        """Silence the sound at once; the job ends within a frame. Does nothing where nothing is in progress."""
        self._stopping.set()
        self._player.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds for the end of the job; returns whether it has ended."""
        if self._thread is not None:
            self._thread.join(timeout)
        return not self.busy

    def close(self) -> None:
        """Stop, and release the models."""
        self.stop()
        self.wait()
        while self._stacks:
            self._stacks.popitem()[1].close()

    def _work(self, job: Job) -> None:
        atexit.register(self._exit)
        try:
            self._report("loading")
            self._speak(job)
        except Exception as error:  # the thread's top frame: the user reads it, as no caller waits
            message = " ".join(str(error).split())
            if not isinstance(error, CsmkitError):  # its message alone may say too little
                message = f"speaking failed: {message} ({type(error).__name__})"
            self._report("failed", error=message)
        finally:
            atexit.unregister(self._exit)

    def _speak(self, job: Job) -> None:
        if job.preset not in self._stacks:
            self._stacks[job.preset] = self._open_stack(job.preset)
        stack = self._stacks[job.preset]
        asr = None if job.whisper is None else stack.recogniser(job.whisper)
        generator = stack.voice
        if self._stopping.is_set():
            self._report("stopped")
            return
        with TrialRun(generator, job.text, job.settings, asr) as run:
            self._player.play(run)
            if self._stopping.is_set():  # set after the check above and before the play
                self._player.stop()
            self._follow(run)
            trial = run.result()
        recording = Recording(len(self.recordings) + 1, job.preset, trial) if len(trial.audio) else None
        if recording is not None:
            self.recordings.append(recording)
        stopped = self._stopping.is_set() or trial.row["finish_reason"] == "interrupted"
        changes = {"arrivals": trial.arrivals, "recording": recording}
        if trial.transcript is not None:
            changes |= {"text": str(trial.transcript), "words": trial.transcript.words, "final": True}
        self._report("stopped" if stopped else "done", **changes)

    def _follow(self, run: TrialRun) -> None:
        over = False
        while not over:
            over = self._player.wait_sent(POLL_S)
            arrivals, partials = run.arrivals, run.partials
            text = partials[-1][1] if partials else ""
            changed = (len(arrivals), text) != (len(self._progress.arrivals), self._progress.text)
            if over or changed or self._progress.phase != "speaking":
                self._report("measuring" if over else "speaking", arrivals=arrivals, text=text)

    def _report(self, phase: str, **changes: object) -> None:
        self._progress = replace(self._progress, phase=phase, **changes)  # type: ignore[arg-type]
        self._on_progress(self._progress)

    def _exit(self) -> None:
        self.stop()
        self.wait(EXIT_S)
