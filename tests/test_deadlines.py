"""Who shares the next pass: simulated listeners of a simulated machine, on a clock that only passes move."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from csmkit.csm.config import Sampling
from csmkit.speech.deadlines import PassTimes, n_in_pass
from csmkit.speech.scheduler import Limits, ScheduledUtterance, Scheduler
from csmkit.speech.settings import Request, SpeechSettings
from csmkit.speech.streams import End, Frame

SCHEDULE = (1, 2, 4, 6)
FRAME_S = 0.08


@pytest.mark.parametrize("sizes", [(1, 2, 4, 8), (1, 1, 1, 16)])
def test_a_line_through_the_times_of_passes_tells_those_of_other_sizes(sizes: Sequence[int]):
    times = PassTimes()
    for n_rows in 20 * sizes:
        times.add(n_rows, 0.004 + 0.002 * n_rows)
    assert [times.expected_s(n) for n in (1, 5, 16)] == pytest.approx([0.006, 0.014, 0.036])


def test_before_any_pass_and_after_passes_of_one_size_there_is_an_estimate_too():
    times = PassTimes()
    assert times.expected_s(4) == 0
    times.add(1, 0.01)
    assert times.expected_s(1) == pytest.approx(0.01) and 0.01 < times.expected_s(4) < 0.04


def test_as_many_rows_share_a_pass_as_all_listeners_can_wait_for():
    times = PassTimes()
    for n_rows in (1, 9):
        times.add(n_rows, 0.01 * n_rows)
    assert n_in_pass([0.5, 0.6, 0.7], times, 0.01) == 3, "there is time for all"
    assert n_in_pass([0.01, 0.03, 0.5], times, 0.01) == 2, "a pass of three is over too late for the first"
    assert n_in_pass([0.0, 0.005, 0.018, 0.5], times, 0.01) == 3, "nothing fits: those who cannot wait for all four"


@dataclass
class Machine:
    """A frame maker whose passes take as long as it is told.

    Attributes:
        pass_s: seconds of a pass.
        row_s: seconds of each of its rows, on top of that.
        prompt_s: seconds to read a prompt.
        now_s: the clock.
    """

    pass_s: float
    row_s: float
    prompt_s: float
    now_s: float = 0.0

    def open(self, request: Request, seed: int) -> object:
        return object()

    def prepare(self, row: Any) -> bool:
        self.now_s += self.prompt_s
        return True

    def make(self, rows: Sequence[Any]) -> list[Frame | End]:
        self.now_s += self.pass_s + self.row_s * len(rows)
        return [Frame(torch.ones(1, dtype=torch.int64), None, (0.0, self.now_s)) for _ in rows]

    def close(self, rows: Any) -> None:
        pass


@dataclass
class Listener:
    """Takes each chunk when the one before it begins to play, as a player does.

    Attributes:
        utterance: what it hears.
        due_s: when it takes the next frame.
        began_s: when it asked.
        free_s: when the chunks it has will have been played; None before the first.
        n_chunks: number of chunks so far.
        n_late: chunks that came after the ones before had been played.
        chunk: frames of the chunk it waits for.
        is_over: whether the end has come.
    """

    utterance: ScheduledUtterance
    due_s: float
    began_s: float
    free_s: float | None = None
    first_s: float = 0.0
    n_chunks: int = 0
    n_late: int = 0
    chunk: list[Frame] = field(default_factory=list)
    is_over: bool = False

    def listen(self, machine: Machine) -> None:
        """Take what it would have taken up to now."""
        while not self.is_over and self.due_s <= machine.now_s:
            if not self._fill_chunk():
                return
            if self.chunk:
                self._play(max(self.due_s, self.chunk[-1].span[1]), machine)

    def _fill_chunk(self) -> bool:
        size = SCHEDULE[min(self.n_chunks, len(SCHEDULE) - 1)]
        while len(self.chunk) < size and not self.is_over:
            scheduler, place = self.utterance
            if place.made.empty():
                return False
            item = scheduler.take(place)
            self.is_over = isinstance(item, End)
            if isinstance(item, Frame):
                self.chunk.append(item)
        return True

    def _play(self, now_s: float, machine: Machine) -> None:
        if self.free_s is None:
            self.first_s, self.free_s = now_s - self.began_s, now_s
            actual_s, machine.now_s = machine.now_s, now_s
            self.utterance.scheduler.playing(self.utterance.place)
            machine.now_s = actual_s
        self.n_late += now_s > self.free_s + 1e-9
        self.due_s = max(self.free_s, now_s)
        self.free_s = self.due_s + FRAME_S * len(self.chunk)
        self.n_chunks, self.chunk = self.n_chunks + 1, []


def simulate(machine: Machine, n_listeners: int, seconds: float) -> list[Listener]:
    """As many listeners at any time, each of whom asks again as soon as the last answer ends."""
    scheduler = Scheduler(machine, Limits(n_listeners, 0, 2.0), lambda: machine.now_s)
    dice = random.Random(0)
    asking = [0.02 * index for index in range(n_listeners)]
    active: list[Listener] = []
    ended: list[Listener] = []
    while asking or active:
        while asking and asking[0] <= machine.now_s:
            asked_s = heapq.heappop(asking)
            settings = SpeechSettings(guards=None, max_audio_length_ms=80 * dice.randrange(20, 40))
            request = settings.as_request("hello.", (), Sampling())
            (utterance,) = scheduler.start([(request, 0)], [SCHEDULE], hears=False)
            active.append(Listener(utterance, asked_s, asked_s))
        for listener in active:
            listener.listen(machine)
        over = [listener for listener in active if listener.is_over]
        ended += over
        active = [listener for listener in active if not listener.is_over]
        for listener in over:
            if listener.due_s < seconds:
                heapq.heappush(asking, listener.due_s)
        if not scheduler.advance():
            machine.now_s += 0.005
    return ended


@pytest.mark.parametrize("n_listeners", [1, 8, 16])
def test_no_listener_runs_out_of_sound_on_a_machine_that_is_fast_enough_for_all(n_listeners: int):
    ended = simulate(Machine(pass_s=0.0037, row_s=0.0018, prompt_s=0.006), n_listeners, 4.0)
    assert len(ended) >= 2 * n_listeners
    assert sum(listener.n_late for listener in ended) == 0
    assert max(listener.first_s for listener in ended) < 0.15


def test_on_a_machine_that_is_too_slow_everybody_is_served():
    ended = simulate(Machine(pass_s=0.004, row_s=0.006, prompt_s=0.006), 16, 4.0)
    assert len(ended) >= 24 and all(listener.n_chunks >= 4 for listener in ended)
