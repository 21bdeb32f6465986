"""A conversation on a WebSocket: handlers for the client's events, and the answers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from csmkit.audio import SAMPLE_RATE, level_dbfs
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.errors import CsmkitError
from csmkit.live.turn_detector import TurnChange
from csmkit.llm.contract import LLM, Message, with_system
from csmkit.serve.errors import RequestError, as_request_error, invalid
from csmkit.serve.feed import Feed
from csmkit.serve.realtime.answer import Answer, new_id
from csmkit.serve.realtime.hearing import Hearing, SpokenTurn
from csmkit.serve.realtime.items import Items, spoken_item, user_text, written_item
from csmkit.serve.realtime.settings import Settings
from csmkit.serve.service import Service
from csmkit.serve.sound_formats import from_pcm16
from csmkit.serve.speech import FIRST_CHUNKS
from csmkit.serve.transcriptions import usage

N_AHEAD = 8  # events of a turn that may wait for the client
BURST_S = 5.0  # so many seconds' worth of messages may come at once


class Closed(Exception):
    """The end of a conversation, with the code and the reason that the client gets."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class InstructedLLM:
    """A shared language model with the instructions of one conversation before its messages."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self.instructions = ""

    def stream(self, messages: Sequence[Message]) -> Generator[str, None, None]:
        """As `csmkit.llm.contract.LLM.stream`."""
        return self._llm.stream(with_system(self.instructions, messages))


class Conversation:
    """One client's conversation. Everything but the chatbot's turn runs in the server's event loop.

    Args:
        websocket: an accepted connection.
        service: holds the models.
        model: the name that the client gave.
    """

    def __init__(self, websocket: WebSocket, service: Service, model: str) -> None:
        models = service.models
        assert models.llm is not None and models.asr is not None
        self._websocket, self._service, self._models, self._limits = websocket, service, models, service.limits
        self._id = new_id("sess")
        self._settings = Settings(model, next(iter(models.speakers.values())))
        self._llm = InstructedLLM(models.llm)
        self._chatbot = StreamingConversationalChatbot(
            generator=models.voice, asr=False, llm=self._llm, options=models.options, chunk_frames=FIRST_CHUNKS
        )
        self._hearing = Hearing(models.asr, self._settings.detection, service.limits.max_audio_s, models.new_activity())
        self._items = Items(service.limits.max_items)
        self._unanswered: list[tuple[str, str, SpokenTurn | None]] = []  # id of the item, text, sound
        self._answered: set[str] = set()  # ids of the user's items that are part of the history
        self._answer: Answer | None = None  # the last one, which may be in progress
        self._answering: asyncio.Task[None] | None = None
        self._transcribing: set[asyncio.Task[None]] = set()
        self._spoken_item = ""
        self._playing_until = 0.0
        self._level: float | None = None
        self._allowance, self._counted_at = BURST_S * service.limits.messages_per_s, monotonic()

    async def run(self) -> None:
        """Handle the client's events until it leaves or breaks a limit."""
        try:
            await self._send("session.created", session=self._settings.as_dict(self._id))
            while True:
                await self._handle(await self._receive())
        except Closed as closed:
            with suppress(RuntimeError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._websocket.close(closed.code, closed.reason)
        except (WebSocketDisconnect, TimeoutError):
            pass
        finally:
            await self._end()

    async def _end(self) -> None:
        self._hearing.clear()
        tasks = [task for task in (self._answering, *self._transcribing) if task is not None and not task.done()]
        if self._answering in tasks:
            self._service.metrics.count("csmkit_clients_left_total", route="/v1/realtime")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._chatbot.close)

    async def _receive(self) -> Any:
        try:
            async with asyncio.timeout(self._limits.idle_s):
                message = await self._websocket.receive()
        except TimeoutError:
            raise Closed(1000, "idle") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        self._spend()
        return message

    def _spend(self) -> None:
        """Count a message; raises Closed if there are too many."""
        now, rate = monotonic(), self._limits.messages_per_s
        self._allowance = min(BURST_S * rate, self._allowance + (now - self._counted_at) * rate)
        self._counted_at = now
        self._allowance -= 1
        if self._allowance < 0:
            self._service.metrics.count("csmkit_refused_total", reason="too_many_messages")
            raise Closed(1008, "too many messages")

    async def _handle(self, message: Mapping[str, Any]) -> None:
        event_id = None
        try:
            event = _parsed(message)
            event_id = event.get("event_id")
            handler = _HANDLERS.get(event["type"])
            if handler is None:
                raise RequestError(422, f"no such event: known are {', '.join(_HANDLERS)}", "unknown_event", "type")
            await handler(self, event)
        except CsmkitError as error:
            await self._send_error(error, event_id)

    async def _send_error(self, error: BaseException, event_id: object = None) -> None:
        body = as_request_error(error).body()["error"]
        event_id = event_id if isinstance(event_id, str) and len(event_id) <= 512 else None
        await self._send("error", error=body | {"event_id": event_id})

    async def _send(self, kind: str, **fields: Any) -> None:
        """Send an event; raises WebSocketDisconnect if the client has left or reads nothing."""
        text = json.dumps({"type": kind, "event_id": new_id("event"), **fields})
        try:
            async with asyncio.timeout(self._limits.slow_reader_s):
                await self._websocket.send_text(text)
        except (TimeoutError, RuntimeError):
            raise WebSocketDisconnect(1006) from None

    # Settings

    async def _update(self, event: Mapping[str, Any]) -> None:
        settings = self._settings.updated(event.get("session"), self._models, self._limits.max_input_chars)
        self._hearing.detect(settings.detection)
        self._settings, self._llm.instructions = settings, settings.instructions
        speaker = settings.speaker
        self._chatbot.options = self._chatbot.options.changed(speaker=speaker.number, voice=speaker.prompt)
        await self._send("session.updated", session=settings.as_dict(self._id))

    # The user's sound

    async def _append(self, event: Mapping[str, Any]) -> None:
        try:
            data = base64.b64decode(event.get("audio", ""), validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise invalid("audio is not base64: send 16-bit samples at 24 kHz, encoded", "audio") from None
        if len(data) % 2:
            raise invalid("audio of an odd number of bytes: samples have two each", "audio")
        self._hearing.voice_level(self._level if monotonic() < self._playing_until else None)
        samples = from_pcm16(data)
        for start in range(0, len(samples), SAMPLE_RATE // 10):  # a turn may begin and end within a long piece
            changes = self._hearing.put(samples[start : start + SAMPLE_RATE // 10])
            for change in changes:
                await self._turn_changed(change)
        await self._send_partial()

    async def _send_partial(self) -> None:
        turn = self._hearing.turn
        if turn is not None and self._spoken_item and (words := turn.new_words()):
            at = {"item_id": self._spoken_item, "content_index": 0}
            await self._send("conversation.item.input_audio_transcription.delta", **at, delta=words)

    async def _turn_changed(self, change: TurnChange) -> None:
        at_ms = round(1000 * change.at_s)
        if change.kind == "speech_started":
            self._spoken_item = new_id("item")
            await self._send("input_audio_buffer.speech_started", audio_start_ms=at_ms, item_id=self._spoken_item)
            if self._settings.interrupt_response and self._is_answering:
                await self._interrupt()
            return
        await self._send("input_audio_buffer.speech_stopped", audio_end_ms=at_ms, item_id=self._spoken_item)
        await self._commit_turn(answer=self._settings.create_response)

    async def _commit(self, _: Mapping[str, Any]) -> None:
        turn = self._hearing.turn
        if turn is None or turn.n_samples < SAMPLE_RATE // 10:
            raise RequestError(422, "less than 100 ms of sound to commit: append more", "buffer_too_small")
        self._spoken_item = self._spoken_item or new_id("item")
        await self._commit_turn(answer=False)

    async def _commit_turn(self, answer: bool) -> None:
        turn, item_id = self._hearing.take(), self._spoken_item
        self._spoken_item = ""
        if turn is None:
            return
        item = spoken_item(item_id, None)
        before = self._items.add(item)
        await self._send("input_audio_buffer.committed", item_id=item_id, previous_item_id=before)
        await self._send("conversation.item.added", previous_item_id=before, item=item)
        turn.stream.finish()
        task = asyncio.create_task(self._transcribe(turn, item_id, before, answer))
        self._transcribing.add(task)
        task.add_done_callback(self._transcribing.discard)

    async def _transcribe(self, turn: SpokenTurn, item_id: str, before: str | None, answer: bool) -> None:
        at = {"item_id": item_id, "content_index": 0}
        loop = asyncio.get_running_loop()
        try:
            with self._service.admission.other():
                final = await loop.run_in_executor(self._service.threads, turn.stream.get_final, self._limits.turn_s)
        except (CsmkitError, TimeoutError) as error:
            body = as_request_error(error).body()["error"]
            await self._send("conversation.item.input_audio_transcription.failed", **at, error=body)
            return
        finally:
            turn.stream.cancel()
        name = "conversation.item.input_audio_transcription.completed"
        await self._send(name, **at, transcript=final.text, usage=usage(final))
        item = spoken_item(item_id, final.text)
        self._items.update(item)
        await self._send("conversation.item.done", previous_item_id=before, item=item)
        if final.text.strip() and item_id in self._items:
            self._unanswered.append((item_id, final.text, turn))
            if answer and not self._is_answering:
                await self._start_answer()

    async def _clear(self, _: Mapping[str, Any]) -> None:
        self._hearing.clear()
        self._spoken_item = ""
        await self._send("input_audio_buffer.cleared")

    # Items

    async def _create_item(self, event: Mapping[str, Any]) -> None:
        text, given = user_text(event.get("item"), self._limits.max_input_chars)
        item = written_item(given or new_id("item"), text)
        before = self._items.add(item)
        self._unanswered.append((item["id"], text, None))
        for kind in ("conversation.item.added", "conversation.item.done"):
            await self._send(kind, previous_item_id=before, item=item)

    async def _retrieve_item(self, event: Mapping[str, Any]) -> None:
        await self._send("conversation.item.retrieved", item=self._items.get(event.get("item_id")))

    async def _delete_item(self, event: Mapping[str, Any]) -> None:
        item = self._items.get(event.get("item_id"))
        if item["role"] != "user" or item["id"] in self._answered:
            allowed = "a user's item that is not answered yet can be deleted; truncate the last answer instead"
            raise RequestError(422, f"that item is part of the history: {allowed}", "item_answered", "item_id")
        self._items.delete(item["id"])
        self._unanswered = [one for one in self._unanswered if one[0] != item["id"]]
        await self._send("conversation.item.deleted", item_id=item["id"])

    async def _truncate(self, event: Mapping[str, Any]) -> None:
        answer, end_ms = self._answer, event.get("audio_end_ms")
        if answer is None or event.get("item_id") != answer.item_id or event.get("content_index", 0) != 0:
            raise invalid("item_id: the last answer alone can be truncated, its content_index is 0", "item_id")
        if not isinstance(end_ms, int) or isinstance(end_ms, bool) or not 0 <= end_ms <= answer.audio_ms:
            raise invalid(f"audio_end_ms: give a whole number from 0 to the {answer.audio_ms} sent", "audio_end_ms")
        self._playing_until = 0.0
        kept = await asyncio.to_thread(self._chatbot.truncate, end_ms)
        answer.transcript = kept
        self._items.update(answer.item())
        at = {"item_id": answer.item_id, "content_index": 0, "audio_end_ms": end_ms}
        await self._send("conversation.item.truncated", **at, csmkit={"transcript": kept})

    # Answers

    @property
    def _is_answering(self) -> bool:
        return self._answering is not None and not self._answering.done()

    async def _create_response(self, event: Mapping[str, Any]) -> None:
        response = event.get("response") or {}
        if not isinstance(response, dict) or any(response.get(name) not in (None, [], {}) for name in response):
            raise invalid("response: an answer has no settings of its own, use session.update", "response")
        if self._is_answering:
            raise RequestError(
                422, "an answer is being given: cancel it first", "conversation_already_has_active_response"
            )
        if not self._unanswered:
            raise RequestError(422, "nothing to answer: create an item or commit sound first", "nothing_to_answer")
        await self._start_answer()

    async def _start_answer(self) -> None:
        said, self._unanswered = self._unanswered, []
        text = " ".join(text for _, text, _ in said)
        turns = [turn for _, _, turn in said]
        self._answered |= {item_id for item_id, _, _ in said}
        sound = turns[0].sound() if len(turns) == 1 and turns[0] is not None else None
        self._answer = answer = Answer(self._send)
        before = self._items.add(answer.item("in_progress"))
        self._answering = asyncio.create_task(self._give(answer, text, sound, before))

    async def _give(self, answer: Answer, text: str, sound: Any, before: str | None) -> None:
        """Run an answer to its end; the task is cancelled when the client leaves."""
        try:
            await answer.begin(before)
            async with self._service.admission.stream():
                events = self._chatbot.process_streaming(text, user_audio=sound)
                feed = Feed[Any](events, self._chatbot.interrupt, self._service.threads, N_AHEAD)
                try:
                    await self._pass_on(answer, feed)
                finally:
                    await feed.close()
        except (CsmkitError, TimeoutError) as error:
            answer.status, answer.error = "failed", as_request_error(error).body()["error"]
        except WebSocketDisconnect:
            return
        metrics = self._service.metrics
        metrics.count("csmkit_audio_seconds_total", answer.n_samples / SAMPLE_RATE, route="/v1/realtime")
        metrics.count("csmkit_requests_total", route="/v1/realtime", status=answer.status)
        self._items.update(answer.item())
        with suppress(WebSocketDisconnect):
            await answer.end(before)

    async def _pass_on(self, answer: Answer, feed: Feed[Any]) -> None:
        deadline = asyncio.get_running_loop().time() + self._limits.turn_s
        while True:
            async with asyncio.timeout_at(deadline):
                event = await feed.next()
            if event is None:
                return
            if event["type"] == "audio_chunk":
                samples = event["data"].numpy()
                if not answer.n_samples:
                    self._service.metrics.first_audio(monotonic() - answer.asked_at)
                self._level = level_dbfs(samples)
                self._playing_until = max(self._playing_until, monotonic()) + len(samples) / SAMPLE_RATE
            await answer.pass_on(event)

    async def _interrupt(self) -> None:
        self._playing_until = 0.0
        await asyncio.to_thread(self._chatbot.interrupt)

    async def _cancel(self, _: Mapping[str, Any]) -> None:
        if not self._is_answering:
            raise RequestError(422, "no answer is being given", "response_cancel_not_active")
        await self._interrupt()


_HANDLERS = {
    "session.update": Conversation._update,
    "input_audio_buffer.append": Conversation._append,
    "input_audio_buffer.commit": Conversation._commit,
    "input_audio_buffer.clear": Conversation._clear,
    "conversation.item.create": Conversation._create_item,
    "conversation.item.delete": Conversation._delete_item,
    "conversation.item.retrieve": Conversation._retrieve_item,
    "conversation.item.truncate": Conversation._truncate,
    "response.create": Conversation._create_response,
    "response.cancel": Conversation._cancel,
}


def _parsed(message: Mapping[str, Any]) -> dict[str, Any]:
    text = message.get("text")
    if text is None:
        raise RequestError(400, "a binary message: send events as JSON text", "bad_json")
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        raise RequestError(400, "a message that is not JSON: send an object with its type", "bad_json") from None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise invalid("a message without a type: send an object with one", "type")
    return event
