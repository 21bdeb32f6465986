"""Several utterances spoken at once: one pass of the model a frame, each row pulled as if it were alone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from torch import Tensor

from csmkit.errors import CsmkitError, StateError
from csmkit.speech.streams import Outcome, SpeechStream


class Frame(NamedTuple):
    """One frame of a row: its codes ``(n_codebooks,)`` int64, and ``(1920,)`` float32 where sound is made with it."""

    codes: Tensor
    sound: Tensor | None


Pass = list[tuple[int, Frame | str | CsmkitError]]
"""What one pass made: of each row its frame, and the reason or the error where the row ends with it."""


class Lanes:
    """Shares the passes of one batch among its rows: a row that wants a frame makes one for all of them.

    Args:
        steps: the passes. It reads ``live`` after each, and goes on with those rows alone.
        live: the rows still wanted; rows that are closed leave it.
        outcomes: of each row, told its reason when the row has handed out its last frame.
    """

    def __init__(self, steps: Generator[Pass, None, None], live: set[int], outcomes: Sequence[Outcome]) -> None:
        self._steps, self._live, self._outcomes = steps, live, outcomes
        self._waiting: dict[int, deque[Frame | str | CsmkitError]] = {row: deque() for row in live}
        self._lock = threading.RLock()  # rows may be closed from another thread than the one that pulls
        self._error: Exception | None = None  # that ended the passes

    def rows(self) -> list[Lane]:
        """The frames of each row."""
        return [Lane(self, row) for row in range(len(self._outcomes))]

    def take(self, row: int) -> Frame:
        """The next frame of a row; StopIteration after its last, or the error that ended it."""
        with self._lock:
            while (waiting := self._waiting.get(row)) is not None:
                if not waiting:
                    self._advance(row)
                    continue
                item = waiting.popleft()
                if isinstance(item, Frame):
                    return item
                if isinstance(item, str):
                    self._outcomes[row].finish_reason = item
                self.drop(row)
                if isinstance(item, CsmkitError):
                    raise item
            raise StopIteration

    def drop(self, row: int) -> None:
        """Make no more frames for a row; with the last row goes everything the batch holds."""
        with self._lock:
            self.forget(row)
            if not self._waiting:
                self._steps.close()

    def forget(self, row: int) -> None:
        """Make no more frames for a row that nobody can pull any more; never blocks, also within a pass."""
        self._waiting.pop(row, None)
        self._live.discard(row)

    def _advance(self, row: int) -> None:
        try:
            step = next(self._steps, None)
        except Exception as error:
            self._error = error if len(self._waiting) > 1 else None  # its traceback holds what the passes held
            raise
        if step is None:
            self.drop(row)
            if self._error is not None:  # raised where another row pulled, and it is this row's end as well
                raise self._error
        for other, item in step or ():
            if (waiting := self._waiting.get(other)) is not None:
                waiting.append(item)


class Lane(Iterator[Tensor]):
    """The frames of one row, ``(n_codebooks,)`` int64 on the CPU.

    It is their `CodecStream` too, where the passes make the sound of all rows at once.
    """

    def __init__(self, lanes: Lanes, row: int) -> None:
        self._lanes, self._row = lanes, row
        self._sound: Tensor | None = None

    def __next__(self) -> Tensor:
        codes, self._sound = self._lanes.take(self._row)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """The sound of the frame handed out last, ``(1920,)`` float32.

        Args:
            codes: that frame, ``(n_codebooks, 1)``.

        Raises:
            StateError: frames without sound were asked for.
        """
        if self._sound is None:
            raise StateError("these frames were made without their sound: decode them by a stream of the codec")
        return self._sound

    def close(self) -> None:
        """Stop making frames for this row, and free its state."""
        self._lanes.drop(self._row)

    def __del__(self) -> None:
        self._lanes.forget(self._row)  # left without being closed


class SpeechBatch(Iterator[tuple[int, Tensor]]):
    """The sound of several utterances as ``(row, chunk)``: chunks of the rows in turn, each row's own in order.

    Attributes:
        streams: of each row, with its seed, codes and finish reason; closing one ends that row alone.
    """

    def __init__(self, streams: Sequence[SpeechStream]) -> None:
        self.streams = list(streams)
        self._turns = deque(range(len(self.streams)))

    def __next__(self) -> tuple[int, Tensor]:
        while self._turns:
            row = self._turns.popleft()
            chunk = next(self.streams[row], None)
            if chunk is not None:
                self._turns.append(row)
                return row, chunk
        raise StopIteration

    def close(self) -> None:
        """Stop all rows and free what they hold; from any thread, more than once."""
        for stream in self.streams:
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
