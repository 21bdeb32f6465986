"""Checks on every request before its route: host, origin, token, encoding, size and time."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from csmkit.serve.errors import RequestError
from csmkit.serve.metrics import Metrics
from csmkit.serve.settings import LOOPBACK, ServeOptions

PUBLIC = ("/health", "/ready", "/ping")  # programs that restart or balance servers ask for these without a token
UPLOADS = ("/v1/audio/transcriptions",)  # routes with a sound file as their body
SUBPROTOCOL_TOKEN = "openai-insecure-api-key."  # how a page sends its token: browsers cannot set headers of WebSockets
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; media-src 'self' blob:; worker-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
}


class Guard:
    """ASGI middleware around the whole application.

    Args:
        app: what is guarded.
        options: say who may ask, and how much.
        metrics: counts the refusals.
        public: paths that need no token, such as those of the page.
    """

    def __init__(self, app: ASGIApp, options: ServeOptions, metrics: Metrics, public: Iterable[str] = ()) -> None:
        self._app, self._options, self._metrics = app, options, metrics
        self._public = {*PUBLIC, *public}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        guarded = _with_headers(send)
        try:
            self._check(scope, Headers(scope=scope))
        except RequestError as error:
            self._metrics.count("csmkit_refused_total", reason=error.code)
            await error.response()(scope, receive, guarded)
            return
        if scope["type"] == "http":
            receive = _limited(receive, self._most_bytes(scope["path"]), self._options.limits.body_s)
        await self._app(scope, receive, guarded)

    def _check(self, scope: Scope, headers: Headers) -> None:
        self._check_host(headers.get("host", ""))
        self._check_origin(headers.get("origin"), headers.get("host", ""))
        if scope["path"] not in self._public:
            self._check_token(headers)
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise RequestError(415, "compressed requests are not read: send the body as it is", "compressed")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._most_bytes(scope["path"]):
            raise _too_large(self._most_bytes(scope["path"]))

    def _most_bytes(self, path: str) -> int:
        limits = self._options.limits
        return limits.max_upload_bytes if path in UPLOADS else limits.max_json_bytes

    def _check_host(self, host: str) -> None:
        """A page of another site can reach this machine under a name of its own: only known names are answered."""
        options = self._options
        known = {options.host, *options.hosts}
        if "*" in known or not options.is_local:
            return
        name = urlsplit(f"//{host}").hostname if host else None
        if name not in {*LOOPBACK, *known}:
            raise RequestError(403, "this server is reached as 127.0.0.1 or localhost alone", "host_not_allowed")

    def _check_origin(self, origin: str | None, host: str) -> None:
        if origin is None or origin in self._options.origins:
            return
        if not host or urlsplit(origin).netloc != host:
            raise RequestError(403, "pages of another origin may not use this server", "origin_not_allowed")

    def _check_token(self, headers: Headers) -> None:
        token = self._options.token
        if token is None:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            offered = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
            keys = [name for name in offered if name.startswith(SUBPROTOCOL_TOKEN)]
            given = keys[0].removeprefix(SUBPROTOCOL_TOKEN) if keys else ""
        if not hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode()):
            raise RequestError(401, "give the server's token: Authorization: Bearer TOKEN", "invalid_api_key")


def _limited(receive: Receive, most_bytes: int, most_s: float) -> Receive:
    """Limit a request's body in size and time, by RequestError, 413 or 408; what comes after it may take any time."""
    deadline = asyncio.get_running_loop().time() + most_s
    n_bytes, complete = 0, False

    async def receive_some() -> Message:
        nonlocal n_bytes, complete
        if complete:
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise RequestError(408, "the body came too slowly: send it at once", "too_slow") from None
        n_bytes += len(message.get("body", b""))
        if n_bytes > most_bytes:
            raise _too_large(most_bytes)
        complete = not message.get("more_body", False)
        return message

    return receive_some


def _too_large(most_bytes: int) -> RequestError:
    return RequestError(413, f"the body is larger than {most_bytes} bytes: send less", "too_large")


def _with_headers(send: Send) -> Send:
    async def send_guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_guarded
