"""A step that tests look into: counts what it reads and makes, and calls somebody in the middle of a frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from csmkit import Generator
from csmkit.csm.execution.step import Made


class WatchedStep:
    """Another step, watched.

    Attributes:
        n_rows: of the prompts it has read.
        n_frames: that it has begun, since `set`.
    """

    def __init__(self, generator: Generator) -> None:
        self._step: Any = generator.step
        self.n_rows = 0
        self.set(0, lambda: None)
        generator.step = self  # type: ignore[assignment]

    def set(self, at: int, call: Callable[[], object]) -> None:
        """Count anew, and make a call within the frame ``at``, from 1; 0 for none."""
        self.n_frames, self._at, self._call = 0, at, call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._step, name)

    def read(self, state: Any, tokens: Tensor, mask: Tensor) -> None:
        self.n_rows += tokens.shape[1]
        self._step.read(state, tokens, mask)

    def first(self, state: Any, aloud: bool = False) -> Made:
        self._begin()
        return self._step.first(state, aloud)

    def next(self, state: Any) -> Made:
        self._begin()
        return self._step.next(state)

    def _begin(self) -> None:
        self.n_frames += 1
        if self.n_frames == self._at:
            self._call()
