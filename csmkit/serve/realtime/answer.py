"""One answer of a conversation: the events of a chatbot's turn, as those of the Realtime API."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import uuid4

from csmkit.audio import FRAME_SAMPLES, SAMPLE_RATE
from csmkit.chat.events import Event
from csmkit.serve.realtime.items import message
from csmkit.serve.sound_formats import pcm16
from csmkit.speech.streams import INTERRUPTED

Send = Callable[..., Awaitable[None]]
SHOWN = ("ttfa_ms", "ttfa_audible_ms", "llm_ttft_ms", "rtf", "audio_s", "max_underrun_ms", "finish_reason")


def new_id(kind: str) -> str:
    """Make a unique id such as ``item_3f…``."""
    return f"{kind}_{uuid4().hex[:20]}"


@dataclass
class Answer:
    """An answer on its way to the client.

    Attributes:
        send: sends an event, given its type and its fields.
        response_id, item_id: ids that the client gets.
        n_samples: number of samples that were sent.
        transcript: what was spoken so far, clause by clause.
        status: status of the API's response: in_progress, completed, cancelled, incomplete or failed.
    """

    send: Send
    response_id: str = field(default_factory=lambda: new_id("resp"))
    item_id: str = field(default_factory=lambda: new_id("item"))
    n_samples: int = 0
    transcript: str = ""
    status: str = "in_progress"
    reason: str | None = None
    error: dict[str, Any] | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    spans: list[Any] = field(default_factory=list)
    asked_at: float = field(default_factory=monotonic)

    @property
    def audio_ms(self) -> int:
        """Milliseconds of sound that were sent."""
        return round(1000 * self.n_samples / SAMPLE_RATE)

    def item(self, status: str | None = None) -> dict[str, Any]:
        """The conversation's item."""
        done = {"completed": "completed", "in_progress": "in_progress"}.get(status or self.status, "incomplete")
        content = [] if status == "in_progress" else [{"type": "output_audio", "transcript": self.transcript}]
        return message(self.item_id, "assistant", done, content)

    def response(self) -> dict[str, Any]:
        """The response object."""
        details: dict[str, Any] | None = None
        if self.status not in ("in_progress", "completed"):
            details = {"type": self.status, "reason": self.reason, "error": self.error}
        usage: dict[str, Any] | None = None
        if self.status != "in_progress":
            n_tokens = self.n_samples // FRAME_SAMPLES
            usage = {"input_tokens": 0, "output_tokens": n_tokens, "total_tokens": n_tokens}
            usage["output_token_details"] = {"audio_tokens": n_tokens, "text_tokens": 0}
        return {
            "object": "realtime.response",
            "id": self.response_id,
            "status": self.status,
            "status_details": details,
            "output": [] if self.status == "in_progress" else [self.item()],
            "output_modalities": ["audio"],
            "usage": usage,
            "csmkit": {"metrics": self.metrics, "spans": self.spans},
        }

    async def begin(self, previous_item_id: str | None) -> None:
        """Send the events that begin an answer."""
        await self.send("response.created", response=self.response())
        await self._send_item("added", previous_item_id, self.item("in_progress"))
        part = {"type": "audio", "transcript": ""}
        await self.send("response.content_part.added", **self._at, part=part)

    async def pass_on(self, event: Event) -> None:
        """Send the client's events for one event of the chatbot's turn."""
        match event["type"]:
            case "clause":
                piece = (" " if self.transcript else "") + event["text"]
                self.transcript += piece
                await self.send("response.output_audio_transcript.delta", **self._at, delta=piece)
            case "audio_chunk":
                samples = event["data"].numpy()
                self.n_samples += len(samples)
                delta = base64.b64encode(pcm16(samples)).decode()
                await self.send("response.output_audio.delta", **self._at, delta=delta)
            case "complete":
                interrupted = event["finish_reason"] == INTERRUPTED
                self.status = "cancelled" if interrupted else "completed"
                self.reason = "client_cancelled" if interrupted else None
                self.metrics = {name: event["metrics"].get(name) for name in SHOWN}
                self.spans = list(event["spans"])

    async def end(self, previous_item_id: str | None) -> None:
        """Send the events that end an answer, with its final text."""
        await self.send("response.output_audio.done", **self._at)
        await self.send("response.output_audio_transcript.done", **self._at, transcript=self.transcript)
        part = {"type": "audio", "transcript": self.transcript}
        await self.send("response.content_part.done", **self._at, part=part)
        await self._send_item("done", previous_item_id, self.item())
        await self.send("response.done", response=self.response())

    async def _send_item(self, what: str, previous_item_id: str | None, item: dict[str, Any]) -> None:
        at = {"response_id": self.response_id, "output_index": 0}
        await self.send(f"response.output_item.{what}", **at, item=item)
        await self.send(f"conversation.item.{what}", previous_item_id=previous_item_id, item=item)

    @property
    def _at(self) -> dict[str, Any]:
        return {"response_id": self.response_id, "item_id": self.item_id, "output_index": 0, "content_index": 0}
