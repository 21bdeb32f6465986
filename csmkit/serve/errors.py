"""Errors as answers to clients."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from starlette.responses import JSONResponse

from csmkit.errors import (
    AudioFileError,
    CapacityError,
    ContextOverflowError,
    CsmkitError,
    DeviceMemoryError,
    InputError,
)

log = logging.getLogger(__name__)


class RequestError(CsmkitError):
    """A request that is refused.

    Args:
        status: status code of HTTP.
        message: what was given, what is allowed, what to do.
        code: a name for programs.
        param: the field that is meant, or None.
        retry_after_s: when to ask again, or None.
    """

    def __init__(
        self, status: int, message: str, code: str, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after_s = status, code, param, retry_after_s

    def body(self) -> dict[str, Any]:
        """The body of the answer, in the form that OpenAI's clients read."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The answer, also to the request to open a WebSocket; ends connections whose body may not have been read."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        if self.status in (408, 413, 415):
            headers["Connection"] = "close"
        return JSONResponse(self.body(), self.status, headers)


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> RequestError:
    """Make the error of a field that cannot be used, status 422."""
    return RequestError(422, message, code, param)


def check_names(given: Iterable[object], known: Sequence[str]) -> None:
    """Raise RequestError for a field that has no effect."""
    for name in (str(name)[:40] for name in given if name not in known):
        raise invalid(f"{name!r} has no effect here: the fields are {', '.join(known)}", name, "unknown_field")


def check_choice(given: Mapping[str, Any], name: str, allowed: Sequence[str]) -> None:
    """Raise RequestError for a field that is there and has another value than the allowed ones."""
    if name in given and given[name] not in allowed:
        raise invalid(f"{name} is none of {', '.join(allowed)}: give one of them", name)


def as_request_error(error: BaseException) -> RequestError:
    """Make the answer to an error; the error's text is sent only if it is about the client's own request."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, ContextOverflowError):
        return invalid(str(error), "input", "too_long")
    if isinstance(error, InputError):
        return invalid(str(error))
    if isinstance(error, AudioFileError):
        return RequestError(422, "the upload is no sound file: send WAV, FLAC, OGG, MP3, M4A, AAC or WebM", "bad_audio")
    if isinstance(error, CapacityError):
        return RequestError(429, "all streams are taken: ask again later", "busy", None, 2)
    if isinstance(error, DeviceMemoryError):
        log.error("out of memory while answering: %s", error)
        return RequestError(503, "the server is out of memory: ask again later", "out_of_memory", None, 10)
    if isinstance(error, TimeoutError):
        return RequestError(504, "the answer took too long: send a shorter request", "timeout")
    log.error("a request failed", exc_info=error)
    return RequestError(500, "the server failed to answer; its log says why", "internal_error")
