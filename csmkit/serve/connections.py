"""uvicorn's protocols with two more limits: on the time of a header, and of a closed connection that is not read."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from csmkit.serve.settings import Limits

SEND_BUFFER_BYTES = 128 * 1024  # for each connection; megabytes, as the system would allow, are minutes of sound
CHECKS = 4  # times that a connection is looked at within its limit


class Watch:
    """Ends a connection that waits too long for its client. The protocol calls `look` from time to time."""

    def __init__(self, transport: asyncio.Transport, limit_s: float) -> None:
        self._transport, self._limit_s = transport, limit_s
        self._since: float | None = None

    def look(self, waiting: bool, now: float) -> None:
        """Note whether the connection waits for its client now; abort it when that has lasted too long."""
        if not waiting:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since > self._limit_s:
            self._transport.abort()


def keep_buffers_small(transport: asyncio.Transport) -> None:
    """Limit the system's buffer, so that a slow reader is noticed after some seconds of sound."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


def protocols(limits: Limits) -> tuple[type[H11Protocol], type[WebSocketsSansIOProtocol]]:
    """Make the classes that handle connections in uvicorn, with these limits."""

    class Http(H11Protocol):
        """An HTTP connection with a time limit on the next header."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            keep_buffers_small(transport)
            self._header = Watch(transport, limits.header_s)
            self._closing = Watch(transport, limits.slow_reader_s)
            self._look()

        def connection_lost(self, exc: Exception | None) -> None:
            self._next_look.cancel()
            super().connection_lost(exc)

        def handle_websocket_upgrade(self, event: Any) -> None:
            self._next_look.cancel()
            super().handle_websocket_upgrade(event)

        def _look(self) -> None:
            now = self.loop.time()
            answering = self.cycle is not None and not self.cycle.response_complete
            between = self.timeout_keep_alive_task is not None  # uvicorn ends these itself
            self._header.look(not answering and not between, now)
            self._closing.look(self.transport.is_closing(), now)
            self._next_look = self.loop.call_later(min(limits.header_s, limits.slow_reader_s) / CHECKS, self._look)

    class WebSocket(WebSocketsSansIOProtocol):
        """A WebSocket that is closed in limited time, whether its client reads or not."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._closing = Watch(transport, limits.slow_reader_s)
            self._look()

        def connection_lost(self, exc: Exception | None) -> None:
            self._next_look.cancel()
            super().connection_lost(exc)

        def _look(self) -> None:
            self._closing.look(self.transport.is_closing(), self.loop.time())
            self._next_look = self.loop.call_later(limits.slow_reader_s / CHECKS, self._look)

    return Http, WebSocket
