"""Decides which utterances get the next frame. They join and leave between two passes of the model.

Every stream of speech is made here. The frames of one stream, or of a batch that begins together, are made in the
thread that asks for them. For many listeners (`csmkit.speech.shared`) the scheduler's own thread makes frames ahead.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from csmkit.errors import CapacityError, StateError
from csmkit.speech.deadlines import PassTimes, Place, n_in_pass
from csmkit.speech.frames import INTERRUPTED, End, Frame
from csmkit.speech.settings import Request

SILENT_SPARE_S = 0.02  # a stream without sound is as urgent as one whose listener needs its next frame so soon
READING_SHARE = 0.25  # share of the time of passes that reading prompts may take even if a listener runs out of sound


class FrameMaker(Protocol):
    """Makes frames, of any of its rows at a time. `csmkit.speech.batch.RunningBatch` does it with a model."""

    def open(self, request: Request, seed: int) -> Any:
        """Make a row for a request; nothing is computed yet."""

    def prepare(self, row: Any) -> bool:
        """Read the next piece of a row's prompt; returns whether all of it is read."""

    def make(self, rows: Sequence[Any]) -> list[Frame | End]:
        """Make the next frame of each of these rows. A row whose pass failed ends with the error."""

    def close(self, rows: Iterable[Any]) -> None:
        """Free what these rows hold."""


@dataclass(frozen=True)
class Limits:
    """How many streams share a model, and how far frames are made ahead.

    Attributes:
        n_streams: streams that speak at once.
        n_waiting: streams that wait until one of those has ended.
        ahead_s: seconds of sound that are made before the listener needs them.
    """

    n_streams: int
    n_waiting: int
    ahead_s: float


class Scheduler:
    """Shares the passes of a frame maker among utterances.

    Args:
        maker: makes the frames.
        limits: None where frames are made when they are asked for, in the thread that asks.
        clock: returns the present time in seconds.
    """

    def __init__(
        self, maker: FrameMaker, limits: Limits | None = None, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._maker, self._limits, self.clock = maker, limits, clock
        self._places: list[Place] = []  # in order of arrival: the first `Limits.n_streams` speak
        self._adding = threading.RLock()
        self._pass = threading.RLock()
        self._in_pass = self._is_closed = False
        self._reading_s = 0.0  # what reading may take, by `READING_SHARE`
        self._times = PassTimes()
        self._piece_s = 0.0  # how long reading one takes, a running mean
        self._wake: SimpleQueue[None] = SimpleQueue()

    def start_thread(self) -> None:
        """Start the thread that makes frames before they are asked for; it ends with the scheduler."""
        reference = weakref.ref(self)
        thread = threading.Thread(target=_make_frames, args=(reference, self._wake), name="csmkit-speech", daemon=True)
        weakref.finalize(self, self._wake.put, None).atexit = False
        thread.start()

    @property
    def n_streams(self) -> int:
        """Streams that speak or wait."""
        return sum(1 for place in list(self._places) if place.is_wanted and not place.is_ended)

    def start(
        self, requests: Sequence[tuple[Request, int]], schedules: Sequence[Sequence[int]], hears: bool
    ) -> list[ScheduledUtterance]:
        """Let utterances join at the next pass; never blocks.

        Args:
            requests: the requests, each with its seed.
            schedules: a schedule for each request: the number of frames of each chunk.
            hears: whether frames have sound, so that guards can tell a silence.

        Raises:
            CapacityError: no place is free, not even to wait.
            StateError: the scheduler is closed.
        """
        with self._adding:
            self._check_room(len(requests))
            places = [
                Place(request, seed, self._maker.open(request, seed), schedule, hears)
                for (request, seed), schedule in zip(requests, schedules, strict=True)
            ]
            self._places = [*self._places, *places]
        self._wake.put(None)
        return [ScheduledUtterance(self, place) for place in places]

    def _check_room(self, n_new: int) -> None:
        if self._is_closed:
            raise StateError("this shared generator is closed: make a new one")
        limits, n_now = self._limits, self.n_streams
        if limits is not None and n_now + n_new > limits.n_streams + limits.n_waiting:
            raise CapacityError(
                f"{n_new} more beside {n_now} streams: {limits.n_streams} may speak at once and {limits.n_waiting} "
                "wait; try again when one has ended, or share the generator with larger n_streams or n_waiting"
            )

    def take(self, place: Place) -> Frame | End:
        """The next frame of a place: one made before, or made now; with limits, waited for."""
        result: Frame | End | None = None
        while place.is_wanted and result is None:
            try:
                result = place.made.get(block=self._limits is not None)
            except Empty:
                with self._pass:
                    if place.is_wanted and place.made.empty() and not place.is_ended:
                        self.advance()
        if place.is_parked:
            self._wake.put(None)
        if place.is_wanted and result is not None:
            return result
        self.close(place)  # stopped, perhaps during this frame
        return result if isinstance(result, End) else place.last_end(result)

    def playing(self, place: Place) -> None:
        """Note that the first sound was handed out: from now on its listener needs more in time."""
        if place.playing_s is None:
            place.playing_s = self.clock()

    def stop_soon(self, place: Place) -> None:
        """Make nothing more for a place; never blocks. What it holds is freed at the next pass."""
        if place.is_wanted:
            place.is_wanted = False
            place.made.put(End(INTERRUPTED))  # for a reader that waits
            self._wake.put(None)

    def close(self, place: Place) -> None:
        """Make nothing more for a place, and free what it holds: now, or with limits at the next pass."""
        self.stop_soon(place)
        if self._limits is None:
            with self._pass:
                if not self._in_pass:
                    self._drop_ended()

    def close_all(self) -> None:
        """End all streams and the thread; later streams are refused."""
        with self._adding:
            self._is_closed = True
        for place in self._places:
            self.stop_soon(place)
        self._wake.put(None)

    def advance(self) -> bool:
        """Read prompts, and make a frame of the utterances that `_choose` selects; returns whether there was work."""
        self._drop_ended()
        places = self._places if self._limits is None else self._places[: self._limits.n_streams]
        self._in_pass = True
        try:
            self._read([place for place in places if not place.is_ready], self._least_spare_s(places))
            chosen = self._choose([place for place in places if place.is_ready and not place.is_ended])
            self._make(chosen)
        except BaseException as error:  # such as Ctrl-C: what was computed is unknown
            for place in places:
                place.end(End(INTERRUPTED, error if isinstance(error, Exception) else None))
            raise
        finally:
            self._in_pass = False
            self._drop_ended()
        return bool(chosen) or any(not place.is_ready for place in places)

    @property
    def is_finished(self) -> bool:
        """Whether it was closed and holds nothing any more."""
        return self._is_closed and not self._places

    def _make(self, places: Sequence[Place]) -> None:
        if not places:
            return
        began_s = self.clock()
        for place, result in zip(places, self._maker.make([place.row for place in places]), strict=True):
            place.deliver(result)
        took_s = self.clock() - began_s
        self._times.add(len(places), took_s)
        self._reading_s = min(self._reading_s + READING_SHARE * took_s, took_s)

    def _read(self, places: Sequence[Place], spare_s: float) -> None:
        """Read prompts, first come first served: as much as there is time for before a listener needs a frame."""
        began_s = self.clock()
        n_read = 0
        for place in places:
            while not place.is_ready and not place.is_ended:
                left_s = spare_s - (self.clock() - began_s) - self._piece_s
                if left_s < 0 and self._reading_s < self._piece_s:
                    return
                self._read_piece(place)
                n_read += 1
            if self._limits is not None and n_read:
                return  # its first frame comes before the next prompt

    def _read_piece(self, place: Place) -> None:
        began_s = self.clock()
        try:
            place.is_ready = self._maker.prepare(place.row)
        except Exception as error:
            place.end(End(INTERRUPTED, error))
        took_s = self.clock() - began_s
        self._piece_s, self._reading_s = _mean(self._piece_s, took_s), max(0.0, self._reading_s - took_s)

    def _least_spare_s(self, places: Sequence[Place]) -> float:
        if self._limits is None:
            return float("inf")
        now_s, pass_s = self.clock(), self._urgent_pass_s(places)
        playing = [place for place in places if place.playing_s is not None and not place.is_ended]
        return min((place.spare_s(now_s, pass_s) for place in playing), default=float("inf"))

    def _urgent_pass_s(self, places: Sequence[Place]) -> float:
        """How long a pass of those who need sound soonest takes, a quarter of all."""
        return self._times.expected_s(max(1, len(places) // 4))

    def _choose(self, places: Sequence[Place]) -> Sequence[Place]:
        """Select the utterances that get a frame in this pass: those that can wait least, as many as fit.

        Streams whose listener has enough sound are left out. See `csmkit.speech.deadlines`.
        """
        if self._limits is None:
            return places
        now_s, ahead_s, pass_s = self.clock(), self._limits.ahead_s, self._urgent_pass_s(places)
        spare_s = {place: place.spare_s(now_s, pass_s) for place in places}
        for place in places:
            limit_s = ahead_s / 2 if place.is_parked else ahead_s
            place.is_parked = place.unread_s >= limit_s or (place.playing_s is not None and spare_s[place] >= limit_s)
        needy = [place for place in places if not place.is_parked]
        if not needy:  # all can wait: continue for listeners that read faster than they play
            return [place for place in places if place.unread_s < ahead_s / 2]
        spare_s |= {place: SILENT_SPARE_S for place in needy if place.playing_s is None}
        needy.sort(key=spare_s.__getitem__)
        return needy[: n_in_pass([spare_s[place] for place in needy], self._times, pass_s)]

    def _drop_ended(self) -> None:
        """Free the places that are not wanted any more or have ended."""
        gone = [place for place in self._places if place.is_ended or not place.is_wanted]
        if gone:
            with self._adding:
                self._places = [place for place in self._places if place not in gone]
            self._maker.close([place.row for place in gone])


def _make_frames(reference: weakref.ref[Scheduler], wake: SimpleQueue[None]) -> None:
    """The thread of a scheduler with limits: passes for as long as there is something to do, until it is closed."""
    while True:
        scheduler = reference()
        if scheduler is None or scheduler.is_finished:
            return
        try:
            idle = not scheduler.advance()
        except Exception:  # every stream has it as its end
            idle = False
        if idle:
            scheduler = None
            wake.get()


def _mean(mean_s: float, new_s: float) -> float:
    """A running mean over some ten values."""
    return 0.9 * mean_s + 0.1 * new_s if mean_s else new_s


class ScheduledUtterance(NamedTuple):
    """An utterance being spoken: the scheduler that makes its frames, and its place there."""

    scheduler: Scheduler
    place: Place
