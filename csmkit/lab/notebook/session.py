"""Speaks one order at a time in a thread of its own, so that whoever gives the orders never waits."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from csmkit.errors import CsmkitError, StateError
from csmkit.lab.notebook.recordings import Take
from csmkit.lab.trials.trial import TrialRun, TrialSettings
from csmkit.stack import Stack
from csmkit.timing import Arrivals

if TYPE_CHECKING:
    import numpy as np

LOOK_S = 0.05  # how often the progress is looked at: often enough for the eye, and no work for who makes the sound
LEAVE_S = 20.0  # at the end of the program a frame being made is waited for


@dataclass(frozen=True)
class Order:
    """What is to be spoken, and by whom it is heard.

    Attributes:
        text: that is spoken, as it is given.
        settings: how.
        whisper: model of the recogniser, such as ``base.en``; None for none.
        preset: whose models.
    """

    text: str
    settings: TrialSettings = field(default_factory=TrialSettings)
    whisper: str | None = "base.en"
    preset: str = "pocket"


@dataclass(frozen=True)
class Progress:
    """How far an order has come.

    Attributes:
        phase: "loading", "speaking", "measuring", and in the end "done", "stopped" or "failed".
        arrivals: of the chunks so far.
        heard: the recogniser's latest text.
        final: whether that is its last word.
        error: what went wrong, in one line.
        take: what came of it, at the end.
    """

    phase: str
    arrivals: Arrivals = field(default_factory=Arrivals)
    heard: str = ""
    final: bool = False
    error: str = ""
    take: Take | None = None

    @property
    def busy(self) -> bool:
        """Whether more will come."""
        return self.phase in ("loading", "speaking", "measuring")


class Loudspeaker(Protocol):
    """What plays, as `csmkit.lab.notebook.Player` does."""

    def play(self, source: TrialRun | np.ndarray) -> None:
        """Play in a thread; returns at once."""

    def wait_sent(self, timeout: float | None = None) -> bool:
        """Wait until all is made and sent; raises what the source raised."""
        ...

    def stop(self) -> None:
        """Fall silent, and close the source."""


class Booth:
    """Takes orders, has them played, and keeps what came of them.

    Args:
        player: plays the chunks as they are made.
        tell: is given each new progress, in the booth's thread; the last one of an order is not `busy`.
        open_stack: makes the models of a preset; each is opened once and kept.

    Attributes:
        takes: in the order they were spoken; those that were stopped too, if there was sound.
    """

    def __init__(
        self,
        player: Loudspeaker,
        tell: Callable[[Progress], object],
        open_stack: Callable[[str], Stack] = Stack,
    ) -> None:
        self.takes: list[Take] = []
        self._player, self._tell, self._open_stack = player, tell, open_stack
        self._stacks: dict[str, Stack] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._progress = Progress("done")

    @property
    def busy(self) -> bool:
        """Whether an order is being spoken."""
        return self._progress.busy

    def speak(self, order: Order) -> None:
        """Begin an order; returns at once. What is wrong with it the last progress says.

        Raises:
            StateError: another one is being spoken.
        """
        if self.busy:
            raise StateError("an order is being spoken: press Stop first, or wait for its end")
        self._stopping.clear()
        self._progress = Progress("loading")
        self._thread = threading.Thread(target=self._work, args=[order], name="csmkit-booth", daemon=True)
        self._thread.start()

    def play(self, take: Take) -> None:
        """Play a take again.

        Raises:
            StateError: an order is being spoken.
        """
        if self.busy:
            raise StateError("an order is being spoken: press Stop first, or wait for its end")
        self._player.play(take.trial.audio)

    def stop(self) -> None:
        """Fall silent at once; what is being spoken ends within a frame. Nothing to stop is fine."""
        self._stopping.set()
        self._player.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the present order, at most ``timeout`` seconds; whether it has ended."""
        if self._thread is not None:
            self._thread.join(timeout)
        return not self.busy

    def close(self) -> None:
        """Stop, and let the models go."""
        self.stop()
        self.wait()
        while self._stacks:
            self._stacks.popitem()[1].close()

    def _work(self, order: Order) -> None:
        atexit.register(self._leave)
        try:
            self._say("loading")
            self._speak(order)
        except Exception as error:  # the thread's top frame: told to the user, as nobody else waits for it
            self._say("failed", error=_one_line(error))
        finally:
            atexit.unregister(self._leave)

    def _speak(self, order: Order) -> None:
        if order.preset not in self._stacks:
            self._stacks[order.preset] = self._open_stack(order.preset)
        stack = self._stacks[order.preset]
        asr = None if order.whisper is None else stack.recogniser(order.whisper)
        voice = stack.voice
        if self._stopping.is_set():
            self._say("stopped")
            return
        with TrialRun(voice, order.text, order.settings, asr) as run:
            self._player.play(run)
            if self._stopping.is_set():  # between the look above and the play
                self._player.stop()
            self._follow(run)
            trial = run.result()
        take = Take(len(self.takes) + 1, order.preset, trial) if len(trial.audio) else None
        if take is not None:
            self.takes.append(take)
        final = trial.transcript is not None
        heard = str(trial.transcript) if final else self._progress.heard
        phase = "stopped" if self._stopping.is_set() or trial.row["finish_reason"] == "interrupted" else "done"
        self._say(phase, arrivals=trial.arrivals, heard=heard, final=final, take=take)

    def _follow(self, run: TrialRun) -> None:
        over = False
        while not over:
            over = self._player.wait_sent(LOOK_S)
            arrivals, partials = run.arrivals, run.partials
            heard = partials[-1][1] if partials else ""
            news = (len(arrivals), heard) != (len(self._progress.arrivals), self._progress.heard)
            if over or news or self._progress.phase != "speaking":
                self._say("measuring" if over else "speaking", arrivals=arrivals, heard=heard)

    def _say(self, phase: str, **changes: object) -> None:
        self._progress = replace(self._progress, phase=phase, **changes)  # type: ignore[arg-type]
        self._tell(self._progress)

    def _leave(self) -> None:
        self.stop()
        self.wait(LEAVE_S)


def _one_line(error: Exception) -> str:
    """What went wrong; an error that csmkit did not foresee with its type, as its text alone may say nothing."""
    said = " ".join(str(error).split())
    return said if isinstance(error, CsmkitError) else f"{type(error).__name__}: {said}"
