"""The routes of the server, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

import csmkit.serve.page as page
import csmkit.serve.speech as speech
import csmkit.serve.transcriptions as transcriptions
from csmkit.serve.errors import RequestError, as_request_error, invalid
from csmkit.serve.metrics import process_gauges
from csmkit.serve.realtime.conversation import Conversation
from csmkit.serve.security import Guard
from csmkit.serve.service import Service
from csmkit.serve.sound_files import read_sound
from csmkit.serve.sound_formats import MEDIA_TYPES
from csmkit.serve.streaming import StreamedAnswer, while_connected
from csmkit.version import __version__

log = logging.getLogger(__name__)

EXAMPLE = 'an object such as {"input": "Hello."}'
MOST_FIELDS = 12  # in a form
MOST_FIELD_BYTES = 8_192
EVENT_STREAM = "text/event-stream"
SUBPROTOCOL = "realtime"
Handler = Callable[[Request, Service], Awaitable[Any]]


def build_app(service: Service, on_failure: Callable[[], None] = lambda: None) -> ASGIApp:
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
        *(Route(path, partial(_answer, service, handler), methods=[method]) for method, path, handler in ROUTES),
        WebSocketRoute("/v1/realtime", partial(converse, service)),
        *(Route(path, endpoint) for path, endpoint in page.routes().items()),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: _no_route, 405: _no_route})
    return Guard(app, service.options, service.metrics, public=page.routes())


async def _load(service: Service, on_failure: Callable[[], None]) -> None:
    try:
        await service.start()
        log.info("ready")
    except Exception as error:  # the task's top frame: the server ends and its caller raises this
        service.error = error
        log.error("the models cannot be loaded: %s", error)
        on_failure()


async def _answer(service: Service, handler: Handler, request: Request) -> Any:
    """Answer a request, turn an error into an answer, and count it; a streamed answer counts itself."""
    path, code = request.url.path, ""
    try:
        response = await handler(request, service)
    except ClientDisconnect:
        service.metrics.count("csmkit_clients_left_total", route=path)
        return Response(status_code=400)
    except Exception as error:  # the request's top frame
        refused = as_request_error(error)
        response, code = refused.response(), refused.code
    if isinstance(response, Response):
        service.count_request(path, response.status_code, code)
    return response


async def _no_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refused = RequestError(error.status_code, "no such route: see docs/serve.md for those there are", "not_found")
    response = refused.response()
    response.headers.update(error.headers or {})
    return response


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
    entry = {"object": "model", "created": 0, "owned_by": "csmkit"}
    data = [{"id": name, **entry, "tasks": found} for name, found in tasks.items()]
    return JSONResponse({"object": "list", "data": data})


async def voices(_: Request, service: Service) -> Response:
    """List the names that may be given as ``voice``."""
    speakers = service.models.speakers
    data = [{"id": name, "name": name, "recorded": bool(speaker.prompt)} for name, speaker in speakers.items()]
    return JSONResponse({"object": "list", "voices": list(speakers), "data": data})


async def speak(request: Request, service: Service) -> Any:
    """See `csmkit.serve.speech`."""
    models, route = service.models, request.url.path
    asked = await asyncio.to_thread(speech.parse, await _json(request), models, service.limits.max_input_chars)
    file = speech.as_file(speech.chunks(service, asked, route), asked.response_format)
    if asked.sse:
        return StreamedAnswer(service, route, speech.as_events(file, asked), EVENT_STREAM, speech.error_event)
    return StreamedAnswer(service, route, file, MEDIA_TYPES[asked.response_format])


async def transcribe(request: Request, service: Service) -> Any:
    """See `csmkit.serve.transcriptions`."""
    models = service.models
    async with _form(request) as fields:
        models.check_name("transcription", fields.get("model", "whisper"))
        transcriptions.check_fields(fields)
        file = fields.get("file")
        if not isinstance(file, UploadFile):
            raise invalid("no sound: send a file in the form's field 'file'", "file")
        sound = await asyncio.to_thread(read_sound, file.file, service.limits.max_audio_s)
    stream = str(fields.get("stream", "false")).lower() in ("true", "1")
    found = transcriptions.texts(service, sound, partials=stream)
    if stream:
        events = transcriptions.as_events(found)
        return StreamedAnswer(service, request.url.path, events, EVENT_STREAM, speech.error_event)
    text = await while_connected(transcriptions.last(found), request.receive)
    body = transcriptions.as_body(text, str(fields.get("response_format", "json")))
    return PlainTextResponse(body) if isinstance(body, str) else JSONResponse(body)


async def converse(service: Service, websocket: WebSocket) -> None:
    """Hold a conversation, see `csmkit.serve.realtime`."""
    model = websocket.query_params.get("model", "csm")
    try:
        models = service.models
        models.check_name("realtime", model)
        with service.admission.session():
            offered = websocket.scope.get("subprotocols", ())
            await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
            await Conversation(websocket, service, model).run()
    except RequestError as error:
        service.metrics.count("csmkit_refused_total", reason=error.code)
        await error.response()(websocket.scope, websocket.receive, websocket.send)


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


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/health", health),
    ("GET", "/ready", ready),
    ("GET", "/ping", ready),
    ("GET", "/metrics", metrics),
    ("GET", "/v1/models", models),
    ("GET", "/v1/audio/voices", voices),
    ("POST", "/v1/audio/speech", speak),
    ("POST", "/invocations", speak),
    ("POST", "/v1/audio/transcriptions", transcribe),
)
