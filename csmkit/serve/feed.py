"""A bounded queue from a thread that makes items to a coroutine that sends them."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from contextlib import closing, suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Feed(Generic[T]):
    """Runs a generator in a thread and hands its items to a coroutine. To be made in a running event loop.

    Args:
        source: yields the items, and may block; closed in its thread, however the feed ends.
        stop: lets the source end within a frame; never blocks, from any thread.
        threads: runs the source.
        n_ahead: items that may wait; the source is not asked for more until one is taken.
    """

    def __init__(
        self, source: Generator[T, Any, Any], stop: Callable[[], object], threads: Executor, n_ahead: int
    ) -> None:
        self._source, self._stop, self._n_ahead = source, stop, n_ahead
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = self._over = False
        self._error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._done = self._loop.run_in_executor(threads, self._run)

    async def next(self) -> T | None:
        """Wait for the next item; None after the last.

        Raises:
            BaseException: what the source raised, after the items before it.
        """
        while True:
            with self._changed:
                if self._items:
                    self._changed.notify()
                    return self._items.popleft()
                if self._over:
                    if self._error is not None:
                        raise self._error
                    return None
                self._ready.clear()
            await self._ready.wait()

    async def close(self) -> None:
        """Stop the source, and wait until it is closed: at most for the frame that is being made."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify()
        self._stop()
        await asyncio.shield(self._done)

    def _run(self) -> None:
        try:
            with closing(self._source):
                for item in self._source:
                    if not self._put(item):
                        break
        except BaseException as error:  # the thread's top frame: raised where the items are awaited
            self._error = error
        finally:
            with self._changed:
                self._over = True
            self._wake()

    def _put(self, item: T) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._n_ahead)
            if self._closed:
                return False
            self._items.append(item)
        self._wake()
        return True

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._ready.set)
