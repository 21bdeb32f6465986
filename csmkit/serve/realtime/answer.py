"""One answer of a conversation: the events of a chatbot's turn, as those of the Realtime API."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from csmkit.audio import SAMPLE_RATE
from csmkit.serve.sound_formats import pcm16
from csmkit.speech.streams import INTERRUPTED

if TYPE_CHECKING:
    from csmkit.chat.events import Event

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
        content = [{"type": "output_audio", "transcript": self.transcript}]
        return {
            "id": self.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": done,
            "role": "assistant",
            "content": [] if status == "in_progress" else content,
        }

    def response(self) -> dict[str, Any]:
        """The response object."""
        details: dict[str, Any] | None = None
        if self.status not in ("in_progress", "completed"):
            details = {"type": self.status, "reason": self.reason, "error": self.error}
        n_tokens = self.n_samples // 1920
        return {
            "object": "realtime.response",
            "id": self.response_id,
            "status": self.status,
            "status_details": details,
            "output": [] if self.status == "in_progress" else [self.item()],
            "output_modalities": ["audio"],
            "usage": None if self.status == "in_progress" else _usage(n_tokens),
            "csmkit": {"metrics": self.metrics, "spans": self.spans},
        }

    async def begin(self, previous_item_id: str | None) -> None:
        """Send the events that begin an answer."""
        await self.send("response.created", response=self.response())
        at = {"response_id": self.response_id, "output_index": 0}
        await self.send("response.output_item.added", **at, item=self.item("in_progress"))
        await self.send("conversation.item.added", previous_item_id=previous_item_id, item=self.item("in_progress"))
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
        at = {"response_id": self.response_id, "output_index": 0}
        await self.send("response.output_item.done", **at, item=self.item())
        await self.send("conversation.item.done", previous_item_id=previous_item_id, item=self.item())
        await self.send("response.done", response=self.response())

    def fail(self, error: dict[str, Any]) -> None:
        """Note that the answer failed."""
        self.status, self.reason, self.error = "failed", None, error

    @property
    def _at(self) -> dict[str, Any]:
        return {"response_id": self.response_id, "item_id": self.item_id, "output_index": 0, "content_index": 0}


def _usage(n_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": 0,
        "output_tokens": n_tokens,
        "total_tokens": n_tokens,
        "output_token_details": {"audio_tokens": n_tokens, "text_tokens": 0},
    }
