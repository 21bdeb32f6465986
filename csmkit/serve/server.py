"""The server: listens, loads the models, answers, and lets answers in progress end before it stops."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self

import uvicorn

from csmkit.errors import StateError
from csmkit.serve.app import build_app
from csmkit.serve.connections import protocols
from csmkit.serve.models import Load, ModelChoice, ServedModels
from csmkit.serve.service import Service
from csmkit.serve.settings import ServeOptions

log = logging.getLogger(__name__)

BACKLOG = 2048  # connections that the system holds until they are accepted
POLL_S = 0.05
FILES_A_CONNECTION = 2


class Server:
    """A server on a thread of its own, or on this one.

    Args:
        options: say where it listens and whom it answers.
        models: loaded ones, a choice, or a function that loads them; None is the preset's choice. They are loaded when
            the server starts, and requests are refused until they are there.

    Raises:
        StateError: the address is taken or not of this machine.
    """

    def __init__(
        self, options: ServeOptions | None = None, models: ServedModels | ModelChoice | Load | None = None
    ) -> None:
        self.options = options or ServeOptions()
        if models is None:
            limits = self.options.limits
            models = ModelChoice(max_streams=limits.max_streams, max_audio_s=limits.max_audio_s)
        self.service = Service(self.options, models.load if isinstance(models, ModelChoice) else models)
        self._socket = _listen(self.options)
        http, websocket = protocols(self.options.limits)
        limits = self.options.limits
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
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

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

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


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
