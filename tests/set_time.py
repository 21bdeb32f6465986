"""Time that passes only when a test says so, and a generator that lets it pass."""

from __future__ import annotations

from typing import Any

from csmkit.codec import Codec
from csmkit.speech.generator import FakeGenerator


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Timed(FakeGenerator):
    """Every frame takes so many seconds of a clock."""

    def __init__(self, clock: Clock, frame_s: float, codec: Codec | None = None) -> None:
        super().__init__(codec)
        self._clock, self._each_s = clock, frame_s

    def codes_of(self, request: Any, seed: int) -> Any:
        for frame in super().codes_of(request, seed):
            self._clock.now_s += self._each_s
            yield frame
