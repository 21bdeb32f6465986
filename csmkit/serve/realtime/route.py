"""The route that opens a conversation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.websockets import WebSocket

from csmkit.serve.errors import RequestError
from csmkit.serve.realtime.conversation import Conversation
from csmkit.serve.security import refuse

if TYPE_CHECKING:
    from csmkit.serve.service import Service

SUBPROTOCOL = "realtime"


def endpoint(service: Service) -> Callable[[WebSocket], Awaitable[None]]:
    """Make the endpoint of ``/v1/realtime``."""

    async def converse(websocket: WebSocket) -> None:
        model = websocket.query_params.get("model", "csm")
        try:
            models = service.models
            models.check_name("realtime", model)
            if models.asr is None:
                raise RequestError(404, "this server has no recogniser", "model_not_found", "model")
            with service.admission.session():
                offered = websocket.scope.get("subprotocols", ())
                await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
                await Conversation(websocket, service, model).run()
        except RequestError as error:
            service.metrics.count("csmkit_refused_total", reason=error.code)
            await refuse(websocket.scope, websocket.receive, websocket.send, error)

    return converse
