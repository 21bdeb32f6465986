"""Answers that are sent while they are made: the first piece before the status, then as fast as the client reads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

from csmkit.serve.errors import as_request_error
from csmkit.serve.metrics import Metrics
from csmkit.serve.security import Receive, Scope, Send, refuse

log = logging.getLogger(__name__)


class BrokenOffError(Exception):
    """An answer that has begun cannot go on: the connection is closed without its end, so that the client notices."""


class StreamedAnswer:
    """An ASGI response of bytes that are made one by one.

    A client that leaves, that reads nothing for too long, or whose answer takes too long, ends the making: its
    iterator is closed.

    Args:
        pieces: the bytes; what fails before the first is answered with an error's status.
        media_type: media type of the bytes.
        route: name under which the answer is counted.
        metrics: counts the answer.
        slow_reader_s: seconds for which a client that reads nothing is waited for.
        turn_s: how long the whole answer may take.
        on_error: the last bytes of an answer that fails on its way, where its format can say so; None closes the
            connection without the end of the answer.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        media_type: str,
        route: str,
        metrics: Metrics,
        *,
        slow_reader_s: float,
        turn_s: float,
        on_error: Callable[[BaseException], bytes] | None = None,
    ) -> None:
        self._pieces, self._media_type, self._route, self._metrics = pieces, media_type, route, metrics
        self._slow_reader_s, self._turn_s, self._on_error = slow_reader_s, turn_s, on_error
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer() -> None:
            async with aclosing(self._pieces), asyncio.timeout(self._turn_s):
                async for piece in self._pieces:
                    await self._send(send, piece)
                await self._end(send)

        try:
            left = not await unless_left(answer(), receive)
        except Exception as error:
            await self._fail(scope, receive, send, error)
            return
        if left:
            self._count("left")

    async def _send(self, send: Send, piece: bytes) -> None:
        async with asyncio.timeout(self._slow_reader_s):
            if not self._begun:
                self._begun = True
                headers = [(b"content-type", self._media_type.encode()), (b"x-accel-buffering", b"no")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": piece, "more_body": True})

    async def _end(self, send: Send) -> None:
        async with asyncio.timeout(self._slow_reader_s):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        self._metrics.count("csmkit_requests_total", route=self._route, status="200")

    async def _fail(self, scope: Scope, receive: Receive, send: Send, error: Exception) -> None:
        answer = as_request_error(error)
        if not self._begun:
            self._metrics.count("csmkit_requests_total", route=self._route, status=str(answer.status))
            if answer.status in (429, 503):
                self._metrics.count("csmkit_refused_total", reason=answer.code)
            await refuse(scope, receive, send, answer)
            return
        self._metrics.count("csmkit_requests_total", route=self._route, status="broken")
        if self._on_error is not None and not isinstance(error, TimeoutError):
            with suppress(TimeoutError):
                await self._send(send, self._on_error(answer))
                await self._end(send)
                return
        raise BrokenOffError(f"{self._route}: {answer}") from None

    def _count(self, status: str) -> None:
        self._metrics.count("csmkit_requests_total", route=self._route, status=status)
        self._metrics.count("csmkit_clients_left_total", route=self._route)


async def unless_left(work: Awaitable[None], receive: Receive) -> bool:
    """Do some work as long as its client is there; False where the client left, and the work was cancelled.

    Raises:
        Exception: what the work raises.
    """
    doing = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
            return True
        return False
    finally:
        for task in (doing, gone):
            task.cancel()
        await asyncio.gather(doing, gone, return_exceptions=True)


async def _left(receive: Receive) -> None:
    message: dict[str, Any] = {}
    while message.get("type") != "http.disconnect":
        message = await receive()
