"""The server: listens, loads the models, answers, and lets answers in progress end before it stops."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any, ClassVar, Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from csmkit.closing import Closing
from csmkit.errors import StateError
from csmkit.serve.app import build_app
from csmkit.serve.models import Load, ModelChoice, ServedModels
from csmkit.serve.service import Service
from csmkit.serve.settings import Limits, ServeOptions, url

log = logging.getLogger(__name__)

BACKLOG = 2048  # connections that the system holds until they are accepted
POLL_S = 0.05
FILES_A_CONNECTION = 2
SEND_BUFFER_BYTES = 128 * 1024  # for each connection; megabytes, as the system would allow, are minutes of sound
CHECKS = 4  # times that a connection is looked at within the shortest limit


class Server(Closing):
    """A server on a thread of its own, or on this one.

    Args:
        options: say where it listens and whom it answers.
        models: loaded ones, a choice, or a function that loads them; None is the preset's choice. They are loaded when
            the server starts, and requests are refused until they are there.

    Raises:
        StateError: the address is taken or not of this machine.
    """

    def __init__(self, options: ServeOptions | None = None, models: ServedModels | Load | None = None) -> None:
        self.options = options or ServeOptions()
        limits = self.options.limits
        usual = ModelChoice(max_streams=limits.max_streams, max_audio_s=limits.max_audio_s)
        self.service = Service(self.options, usual if models is None else models)
        self._socket = _listen(self.options)
        http, websocket = _protocols(limits)
        config = uvicorn.Config(
            build_app(self.service, on_failure=self._end),
            http=http,
            ws=websocket,
            ws_max_size=limits.max_json_bytes,
            ws_per_message_deflate=False,
            limit_concurrency=limits.max_connections,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=5,
            backlog=BACKLOG,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        self._uvicorn = _Draining(config, self.service)
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Where it listens, such as ``http://127.0.0.1:8000``."""
        return url(*self._socket.getsockname()[:2])

    @property
    def n_connections(self) -> int:
        """Number of open connections."""
        return len(self._uvicorn.server_state.connections)

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C; the first lets answers in progress end, a second one does not.

        Raises:
            CsmkitError: the models cannot be loaded; the leaf says why.
        """
        self._serve()
        if self.service.error is not None:
            raise self.service.error

    def start(self, wait: bool = True) -> Self:
        """Serve on a thread.

        Args:
            wait: until the models are warm.

        Raises:
            CsmkitError: the models cannot be loaded; the leaf says why.
        """
        self._thread = threading.Thread(target=self._serve, name="csmkit-server", daemon=True)
        self._thread.start()
        while wait and not self.service.ready:
            self._thread.join(POLL_S)
            if not self._thread.is_alive():
                raise self.service.error or StateError("the server ended before it was ready: its log says why")
        return self

    def stop(self) -> None:
        """Let answers in progress end, then the server."""
        self._uvicorn.drain()
        if self._thread is not None:
            self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        _allow_files(FILES_A_CONNECTION * self.options.limits.max_connections)
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has ended
            self._uvicorn.run(sockets=[self._socket])

    def _end(self) -> None:
        self._uvicorn.should_exit = True

    close = stop

    def __enter__(self) -> Self:
        return self.start()


class _Draining(uvicorn.Server):
    """uvicorn's server, except that a signal first lets answers in progress end."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._draining = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal; end at once at the second."""
        if self._draining:
            super().handle_exit(sig, frame)
            self.force_exit = True
            return
        self._captured_signals.append(sig)
        self.drain()

    def drain(self) -> None:
        """Refuse new work, and end once there is none in progress, or after ``drain_s``. From any thread."""
        self._draining = True

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if self._draining:
            admission = self._service.admission
            if not admission.draining:
                admission.draining = True
                log.info("draining")
                self._deadline = asyncio.get_running_loop().time() + self._service.limits.drain_s
            if admission.idle or asyncio.get_running_loop().time() > self._deadline:
                self.should_exit = True
        return await super().on_tick(counter)


class _Watched:
    """Looks at a connection from time to time, and aborts it when it waits too long for its client."""

    limits: ClassVar[Limits]
    loop: Any
    transport: Any

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        self._since: dict[str, float] = {}  # when the connection began to wait, by the names of the limits
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_look.cancel()
        super().connection_lost(exc)  # type: ignore[misc]

    def _waits(self) -> set[str]:
        """The names of the limits that run now."""
        return {"slow_reader_s"} if self.transport.is_closing() else set()

    def _look(self) -> None:
        now, limits = self.loop.time(), self.limits
        self._since = {name: self._since.get(name, now) for name in self._waits()}
        if any(now - since > getattr(limits, name) for name, since in self._since.items()):
            self.transport.abort()
        self._next_look = self.loop.call_later(min(limits.header_s, limits.slow_reader_s) / CHECKS, self._look)


class _WatchedHttp(_Watched, H11Protocol):
    """An HTTP connection with a time limit on the next header."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None:  # so that a slow reader is noticed after some seconds of sound
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._next_look.cancel()
        super().handle_websocket_upgrade(event)

    def _waits(self) -> set[str]:
        answering = self.cycle is not None and not self.cycle.response_complete
        between = self.timeout_keep_alive_task is not None  # uvicorn ends these itself
        return super()._waits() | (set() if answering or between else {"header_s"})


class _WatchedWebSocket(_Watched, WebSocketsSansIOProtocol):
    """A WebSocket that is closed in limited time, whether its client reads or not."""


def _protocols(limits: Limits) -> tuple[type[H11Protocol], type[WebSocketsSansIOProtocol]]:
    """Make the classes that handle connections in uvicorn, with these limits."""
    kinds = [type(kind.__name__, (kind,), {"limits": limits}) for kind in (_WatchedHttp, _WatchedWebSocket)]
    return kinds[0], kinds[1]


def _listen(options: ServeOptions) -> socket.socket:
    """Open a listening socket; raises StateError if the address is not available."""
    try:
        return socket.create_server(
            (options.host, options.port),
            family=socket.AF_INET6 if ":" in options.host else socket.AF_INET,
            backlog=BACKLOG,
        )
    except OSError as error:
        where = f"{options.host}:{options.port}"
        raise StateError(
            f"cannot listen on {where} ({error}): give another --port, or a --host of this machine"
        ) from error


def _allow_files(n_files: int) -> None:
    """Raise this process's limit of open files, as far as the system allows."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = max(soft, n_files + 256)
        wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
