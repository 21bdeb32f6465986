"""Answers that are sent while they are made: the first piece before the status, then as fast as the client reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from csmkit.serve.errors import RequestError, as_request_error
from csmkit.serve.service import Service

T = TypeVar("T")


class BrokenOffError(Exception):
    """An answer that has begun cannot go on: the connection is closed without its end, so that the client notices."""


class StreamedAnswer:
    """An ASGI response of bytes that are made one by one.

    A client that leaves, that reads nothing for too long, or whose answer takes too long, ends the making: its
    iterator is closed.

    Args:
        service: counts the answer; its limits say how long a client is waited for, and how long the answer may take.
        route: name under which the answer is counted.
        pieces: the bytes; what fails before the first is answered with an error's status.
        media_type: media type of the bytes.
        on_error: the last bytes of an answer that fails on its way, where its format can say so; None closes the
            connection without the end of the answer.
    """

    def __init__(
        self,
        service: Service,
        route: str,
        pieces: AsyncGenerator[bytes, None],
        media_type: str,
        on_error: Callable[[RequestError], bytes] | None = None,
    ) -> None:
        self._service, self._route, self._pieces = service, route, pieces
        self._media_type, self._on_error = media_type, on_error
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer() -> None:
            async with aclosing(self._pieces), asyncio.timeout(self._service.limits.turn_s):
                async for piece in self._pieces:
                    await self._send(send, piece)
                await self._end(send)

        try:
            await while_connected(answer(), receive)
        except ClientDisconnect:
            self._service.count_request(self._route, "left")
            self._service.metrics.count("csmkit_clients_left_total", route=self._route)
        except Exception as error:
            await self._fail(scope, receive, send, error)

    async def _send(self, send: Send, piece: bytes, more: bool = True) -> None:
        async with asyncio.timeout(self._service.limits.slow_reader_s):
            if not self._begun:
                self._begun = True
                headers = [(b"content-type", self._media_type.encode()), (b"x-accel-buffering", b"no")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": piece, "more_body": more})

    async def _end(self, send: Send) -> None:
        await self._send(send, b"", more=False)
        self._service.count_request(self._route, 200)

    async def _fail(self, scope: Scope, receive: Receive, send: Send, error: Exception) -> None:
        answer = as_request_error(error)
        if not self._begun:
            self._service.count_request(self._route, answer.status, answer.code)
            await answer.response()(scope, receive, send)
            return
        self._service.count_request(self._route, "broken")
        if self._on_error is not None and not isinstance(error, TimeoutError):
            with suppress(TimeoutError):
                await self._send(send, self._on_error(answer))
                await self._end(send)
                return
        raise BrokenOffError(f"{self._route}: {answer}") from None


async def while_connected(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """Do some work as long as its client is there; returns its result.

    Raises:
        ClientDisconnect: the client left, and the work was cancelled.
        Exception: what the work raises.
    """
    doing = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        for task in (doing, gone):
            task.cancel()
        await asyncio.gather(doing, gone, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
