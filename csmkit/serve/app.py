"""The routes of the server, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import IO, Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

import csmkit.serve.page as page
import csmkit.serve.speech as speech
import csmkit.serve.transcriptions as transcriptions
from csmkit.serve.errors import RequestError, as_request_error, invalid
from csmkit.serve.metrics import process_gauges
from csmkit.serve.realtime import route as realtime
from csmkit.serve.security import App, Guard
from csmkit.serve.service import Service
from csmkit.serve.sound_files import read_sound
from csmkit.serve.sound_formats import MEDIA_TYPES
from csmkit.serve.streaming import StreamedAnswer, unless_left
from csmkit.version import __version__

log = logging.getLogger(__name__)

EXAMPLE = 'an object such as {"input": "Hello."}'
MOST_FIELDS = 12  # in a form
MOST_FIELD_BYTES = 8_192
Handler = Callable[[Request, Service], Awaitable[Any]]


def build_app(service: Service, on_failure: Callable[[], None] = lambda: None) -> App:
    """Make the application of a service.

    Args:
        service: what the routes share.
        on_failure: called when the models cannot be loaded.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(service, on_failure))
        yield
        with suppress(asyncio.CancelledError):
            await loading  # a thread cannot be cancelled, and the models it loads must be closed
        await service.stop()

    routes = [
        _get("/health", health, service),
        _get("/ready", ready, service),
        _get("/ping", ready, service),
        _get("/metrics", metrics, service),
        _get("/v1/models", models, service),
        _get("/v1/audio/voices", voices, service),
        _post("/v1/audio/speech", speak, service),
        _post("/invocations", speak, service),
        _post("/v1/audio/transcriptions", transcribe, service),
        WebSocketRoute("/v1/realtime", realtime.endpoint(service)),
        *(Route(path, endpoint) for path, endpoint in page.routes().items()),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: _no_route, 405: _no_route})
    return Guard(app, service.options, service.metrics, public=page.routes())


async def _load(service: Service, on_failure: Callable[[], None]) -> None:
    try:
        await service.start()
        log.info("ready")
    except Exception as error:  # the task's top frame: the server ends and its caller raises this
        log.error("the models cannot be loaded: %s", error)
        on_failure()


def _get(path: str, handler: Handler, service: Service) -> Route:
    return Route(path, _answering(path, handler, service), methods=["GET"])


def _post(path: str, handler: Handler, service: Service) -> Route:
    return Route(path, _answering(path, handler, service), methods=["POST"])


def _answering(path: str, handler: Handler, service: Service) -> Callable[[Request], Awaitable[Any]]:
    """Make an endpoint that counts its answers and turns errors into answers."""

    async def answer(request: Request) -> Any:
        try:
            response = await handler(request, service)
        except ClientDisconnect:
            service.metrics.count("csmkit_clients_left_total", route=path)
            return Response(status_code=400)
        except Exception as error:  # the request's top frame
            response = error_response(error)
            if response.status_code in (429, 503):
                service.metrics.count("csmkit_refused_total", reason=as_request_error(error).code)
        if isinstance(response, Response):
            service.metrics.count("csmkit_requests_total", route=path, status=str(response.status_code))
        return response

    return answer


def error_response(error: BaseException) -> JSONResponse:
    """Make the answer to an error, without its traceback."""
    refused = as_request_error(error)
    headers = refused.headers | ({"Connection": "close"} if refused.status in (408, 413) else {})
    return JSONResponse(refused.body(), refused.status, headers)


async def _no_route(request: Request, error: Exception) -> JSONResponse:
    status = getattr(error, "status_code", 404)
    refused = RequestError(status, "no such route: see docs/serve.md for those there are", "not_found")
    return JSONResponse(refused.body(), status, getattr(error, "headers", None))


async def health(_: Request, service: Service) -> Response:
    """Answer 200 as long as the process runs."""
    return JSONResponse({"status": "ok", "csmkit": __version__})


async def ready(_: Request, service: Service) -> Response:
    """Answer 200 once the models are warm; 503 before that and while the server drains."""
    _ = service.models
    return JSONResponse({"status": "ready"})


async def metrics(_: Request, service: Service) -> Response:
    """Answer with the counters, in Prometheus' text format."""
    text = service.metrics.text(service.gauges() | process_gauges())
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


async def models(_: Request, service: Service) -> Response:
    """List the names that may be given as ``model``, each with its tasks."""
    tasks: dict[str, list[str]] = {}
    for task, names in service.models.names().items():
        for name in names:
            tasks.setdefault(name, []).append(task)
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "csmkit", "tasks": found}
        for name, found in tasks.items()
    ]
    return JSONResponse({"object": "list", "data": data})


async def voices(_: Request, service: Service) -> Response:
    """List the names that may be given as ``voice``."""
    speakers = service.models.speakers.values()
    data = [{"id": speaker.name, "name": speaker.name, "recorded": bool(speaker.prompt)} for speaker in speakers]
    return JSONResponse({"object": "list", "voices": [speaker["id"] for speaker in data], "data": data})


async def speak(request: Request, service: Service) -> Any:
    """See `csmkit.serve.speech`."""
    models = service.models
    asked = await asyncio.to_thread(speech.parse, await _json(request), models, service.limits.max_input_chars)
    sound = speech.chunks(service, asked.utterance, request.url.path)
    limits = service.limits
    return StreamedAnswer(
        speech.as_events(sound, asked) if asked.sse else speech.as_file(sound, asked.response_format),
        "text/event-stream" if asked.sse else MEDIA_TYPES[asked.response_format],
        request.url.path,
        service.metrics,
        slow_reader_s=limits.slow_reader_s,
        turn_s=limits.turn_s,
        on_error=speech.error_event if asked.sse else None,
    )


async def transcribe(request: Request, service: Service) -> Any:
    """See `csmkit.serve.transcriptions`."""
    _ = service.models
    async with _form(request) as fields:
        service.models.check_name("transcription", fields.get("model", "whisper"))
        transcriptions.check_fields(fields)
        file = fields.get("file")
        if not isinstance(file, UploadFile):
            raise invalid("no sound: send a file in the form's field 'file'", "file")
        sound = await asyncio.to_thread(_decoded, file.file, service.limits.max_audio_s)
    stream = str(fields.get("stream", "false")).lower() in ("true", "1")
    upload = transcriptions.Upload(sound, str(fields.get("response_format", "json")), stream)
    found = transcriptions.texts(service, upload)
    if stream:
        return StreamedAnswer(
            transcriptions.as_events(found),
            "text/event-stream",
            request.url.path,
            service.metrics,
            slow_reader_s=service.limits.slow_reader_s,
            turn_s=service.limits.turn_s,
            on_error=speech.error_event,
        )
    body = await _whole(found, upload, request)
    return PlainTextResponse(body) if isinstance(body, str) else JSONResponse(body)


async def _whole(found: AsyncIterator[Any], upload: transcriptions.Upload, request: Request) -> Any:
    """Wait for the whole answer; the recognition ends when the client leaves."""
    last: list[Any] = []

    async def read() -> None:
        async with aclosing(found):
            async for text in found:
                last[:] = [text]

    if not await unless_left(read(), request.receive):
        raise ClientDisconnect
    return transcriptions.as_body(last[0], upload.response_format)


def _decoded(file: IO[bytes], most_s: float) -> Any:
    file.seek(0)
    return read_sound(file, most_s)


async def _json(request: Request) -> dict[str, Any]:
    """Read the JSON object in a request's body."""
    raw = await request.body()
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise RequestError(400, f"the body is not JSON: send {EXAMPLE}", "bad_json") from None
    if not isinstance(body, dict):
        raise invalid(f"the body is not an object: send {EXAMPLE}")
    return body


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[dict[str, Any]]:
    """Read the fields of a form; its files are deleted at the end of the block."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise RequestError(415, "the body is no form: send multipart/form-data with the field 'file'", "no_form")
    try:
        form = await request.form(max_files=1, max_fields=MOST_FIELDS, max_part_size=MOST_FIELD_BYTES)
    except (MultiPartException, ValueError, KeyError, HTTPException):
        raise RequestError(400, "the form cannot be read: send multipart/form-data with one file", "bad_form") from None
    try:
        yield dict(form)
    finally:
        await form.close()
