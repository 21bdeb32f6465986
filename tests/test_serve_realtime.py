"""Conversations on a WebSocket: by OpenAI's own client with the bundled models, and event by event with fakes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from lab_server import need

need("starlette", "uvicorn", "websockets", "openai", "faster_whisper", extra="serve")
import openai
from serving import PATIENCE_S, count, fake_models, pocket_models, serving, wait_until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from csmkit.audio import SAMPLE_RATE
from csmkit.live.voice_activity import LoudnessActivity
from csmkit.llm.transformers import FakeLLM
from csmkit.serve import Limits, ServedModels, Server
from csmkit.serve.sound_formats import from_pcm16, pcm16

TOKEN = "a-token-of-tests-0123456789"
ANSWER = "one two three four five six seven eight nine ten."


def talking(frame_s: float = 0.0, answer: str = ANSWER) -> ServedModels:
    models = fake_models(frame_s=frame_s)
    models.llm, models.new_activity = FakeLLM([answer]), LoudnessActivity
    return models


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(talking(), Limits(max_audio_s=5, messages_per_s=400, max_items=60)) as server:
        yield server


def run(talk: Callable[..., Awaitable[None]], server: Server, **options: Any) -> None:
    """Open a conversation and talk."""

    async def whole() -> None:
        async with conversation(server, **options) as client:
            await asyncio.wait_for(talk(client), PATIENCE_S)

    asyncio.run(whole())


@asynccontextmanager
async def conversation(server: Server, query: str = "", **options: Any) -> AsyncIterator[ClientConnection]:
    address = server.address.replace("http", "ws") + "/v1/realtime" + query
    async with connect(address, proxy=None, max_size=None, **options) as client:
        assert (await receive(client))["type"] == "session.created"
        yield client


async def receive(client: ClientConnection) -> dict[str, Any]:
    return json.loads(await client.recv())


async def send(client: ClientConnection, kind: str, **fields: Any) -> None:
    await client.send(json.dumps({"type": kind, **fields}))


async def until(client: ClientConnection, kind: str) -> list[dict[str, Any]]:
    """Everything up to the first event of a kind."""
    events = [await receive(client)]
    while events[-1]["type"] != kind:
        assert events[-1]["type"] != "error", events[-1]
        events.append(await receive(client))
    return events


async def say(client: ClientConnection, text: str, **item: Any) -> None:
    content = [{"type": "input_text", "text": text}]
    message = {"type": "message", "role": "user", "content": content} | item
    await send(client, "conversation.item.create", item=message)


def of_kind(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


def sound_of(events: list[dict[str, Any]]) -> np.ndarray:
    deltas = [base64.b64decode(event["delta"]) for event in of_kind(events, "response.output_audio.delta")]
    return from_pcm16(b"".join(deltas))


def tone(seconds: float) -> np.ndarray:
    return (0.3 * np.sin(np.arange(int(seconds * SAMPLE_RATE)) * 0.2)).astype(np.float32)


async def hear(client: ClientConnection, *pieces: np.ndarray) -> None:
    for samples in pieces:
        for start in range(0, len(samples), 4_800):
            audio = base64.b64encode(pcm16(samples[start : start + 4_800])).decode()
            await send(client, "input_audio_buffer.append", audio=audio)


def test_the_openai_package_asks_in_text_and_is_answered_aloud() -> None:
    async def talk(server: Server) -> None:
        client = openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key=TOKEN)
        async with client, client.realtime.connect(model="gpt-realtime") as connection:
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello!"}]}
            await connection.conversation.item.create(item=item)
            await connection.response.create()
            samples, transcript = b"", ""
            async for event in connection:
                assert event.type != "error", event
                if event.type == "response.output_audio.delta":
                    samples += base64.b64decode(event.delta)
                if event.type == "response.output_audio_transcript.done":
                    transcript = event.transcript
                if event.type == "response.done":
                    break
            assert event.response.status == "completed" and event.response.output[0].role == "assistant"
            assert len(transcript) > 3 and len(samples) > SAMPLE_RATE // 2
            heard = pocket_models().asr.transcribe(from_pcm16(samples), PATIENCE_S)
            assert set(heard.lower().split()) & set(transcript.lower().split())

    with serving(pocket_models(), token=TOKEN) as server:
        asyncio.run(asyncio.wait_for(talk(server), PATIENCE_S))


def test_the_openai_package_speaks_and_its_words_are_recognised_and_answered() -> None:
    spoken = pocket_models().voice.generate("good morning how are you today?", speaker=1, seed=1).numpy()

    async def talk(server: Server) -> None:
        client = openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key="none")
        async with client, client.realtime.connect(model="csm") as connection:
            silence = np.zeros(SAMPLE_RATE, np.float32)
            for samples in (silence[:4_800], spoken, silence):
                for start in range(0, len(samples), 4_800):
                    audio = base64.b64encode(pcm16(samples[start : start + 4_800])).decode()
                    await connection.input_audio_buffer.append(audio=audio)
            events = []
            async for event in connection:
                assert event.type != "error", event
                events.append(event)
                if event.type == "response.done":
                    break
        kinds = [event.type for event in events]
        assert kinds.index("input_audio_buffer.speech_started") < kinds.index("input_audio_buffer.speech_stopped")
        done = "conversation.item.input_audio_transcription.completed"
        (heard,) = [event.transcript for event in events if event.type == done]
        assert "morning" in heard.lower()
        assert kinds.count("response.output_audio.delta") > 1 and events[-1].response.status == "completed"

    with serving(pocket_models()) as server:
        asyncio.run(asyncio.wait_for(talk(server), PATIENCE_S))


def test_an_answer_is_told_from_its_beginning_to_its_end_in_the_order_of_the_api(server: Server) -> None:
    async def talk(client: ClientConnection) -> None:
        await say(client, "hello")
        await send(client, "response.create")
        events = await until(client, "response.done")
        kinds = [event["type"] for event in events]
        assert kinds[:6] == [
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
        ]
        assert kinds[-6:] == [
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
        ]
        assert len({event["event_id"] for event in events}) == len(events)
        said = "".join(event["delta"] for event in of_kind(events, "response.output_audio_transcript.delta"))
        assert said == ANSWER == events[-5]["transcript"]
        assert len(sound_of(events)) == 20 * 1920
        response = events[-1]["response"]
        assert response["status"] == "completed" and response["usage"]["output_tokens"] == 20
        assert response["csmkit"]["metrics"]["ttfa_ms"] > 0 and response["csmkit"]["spans"]

    run(talk, server)


def test_server_turn_detection_finds_a_turn_and_answers_it(server: Server) -> None:
    async def talk(client: ClientConnection) -> None:
        await hear(client, tone(0.5) * 0, tone(1.0), tone(1.0) * 0)
        events = await until(client, "response.done")
        (started,) = of_kind(events, "input_audio_buffer.speech_started")
        (stopped,) = of_kind(events, "input_audio_buffer.speech_stopped")
        assert started["audio_start_ms"] == pytest.approx(500, abs=50)
        assert stopped["audio_end_ms"] == pytest.approx(1_500, abs=80)
        (committed,) = of_kind(events, "input_audio_buffer.committed")
        assert committed["item_id"] == started["item_id"] == stopped["item_id"]
        (heard,) = of_kind(events, "conversation.item.input_audio_transcription.completed")
        assert heard["item_id"] == started["item_id"] and heard["transcript"].startswith("one two")

    run(talk, server)


def test_a_client_may_find_its_turns_itself(server: Server) -> None:
    async def talk(client: ClientConnection) -> None:
        settings = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        await send(client, "session.update", session=settings)
        updated = (await until(client, "session.updated"))[-1]
        assert updated["session"]["audio"]["input"]["turn_detection"] is None
        await hear(client, tone(1.0))
        await send(client, "input_audio_buffer.clear")
        assert (await receive(client))["type"] == "input_audio_buffer.cleared"
        await hear(client, tone(0.85))
        await send(client, "input_audio_buffer.commit")
        events = await until(client, "conversation.item.done")
        (heard,) = of_kind(events, "conversation.item.input_audio_transcription.completed")
        assert heard["transcript"] == "one two" and not of_kind(events, "input_audio_buffer.speech_started")
        await send(client, "response.create")
        assert (await until(client, "response.done"))[-1]["response"]["status"] == "completed"

    run(talk, server)


def test_settings_are_told_as_they_were_given(server: Server) -> None:
    async def talk(client: ClientConnection) -> None:
        detection = {"type": "server_vad", "threshold": 0.7, "prefix_padding_ms": 200, "silence_duration_ms": 800}
        detection |= {"create_response": False, "interrupt_response": False}
        audio = {"input": {"turn_detection": detection}, "output": {"voice": "speaker-1"}}
        await send(client, "session.update", session={"type": "realtime", "instructions": "Be kind.", "audio": audio})
        session = (await until(client, "session.updated"))[-1]["session"]
        assert session["audio"]["input"]["turn_detection"] == detection
        assert (session["audio"]["output"]["voice"], session["instructions"]) == ("speaker-1", "Be kind.")
        await hear(client, tone(0.5) * 0, tone(1.0), tone(1.5) * 0)
        events = await until(client, "conversation.item.done")
        assert not of_kind(events, "response.created"), "nobody asked for an answer"
        await send(client, "response.create")
        await until(client, "response.done")

    with serving(talking()) as server:
        run(talk, server)
        assert server.service.models.llm.seen[0][0] == {"role": "system", "content": "Be kind."}
        assert {request.speaker for request in server.service.models.voice.requests} == {1}


def test_an_answer_is_cancelled_within_a_frame_and_the_history_keeps_what_was_sent() -> None:
    async def talk(client: ClientConnection) -> None:
        await say(client, "hello")
        await send(client, "response.create")
        await until(client, "response.output_audio.delta")
        await send(client, "response.cancel")
        events = await until(client, "response.done")
        assert events[-1]["response"]["status"] == "cancelled"
        assert len(sound_of(events)) < 40 * 1920

    with serving(talking(frame_s=0.02, answer="word " * 40)) as server:
        run(talk, server)
        assert server.service.admission.idle


def test_speech_of_the_user_interrupts_the_answer() -> None:
    async def talk(client: ClientConnection) -> None:
        await say(client, "hello")
        await send(client, "response.create")
        await until(client, "response.output_audio.delta")
        await hear(client, tone(1.0))
        events = await until(client, "response.done")
        assert of_kind(events, "input_audio_buffer.speech_started")
        assert events[-1]["response"]["status"] == "cancelled"

    with serving(talking(frame_s=0.05, answer="word " * 40)) as server:
        run(talk, server)


def test_truncating_keeps_of_the_history_only_what_was_heard() -> None:
    async def talk(client: ClientConnection) -> None:
        await say(client, "hello")
        await send(client, "response.create")
        done = (await until(client, "response.done"))[-1]["response"]
        item = done["output"][0]["id"]
        await send(client, "conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=800)
        truncated = await receive(client)
        assert (truncated["type"], truncated["audio_end_ms"]) == ("conversation.item.truncated", 800)
        kept = truncated["csmkit"]["transcript"]
        assert kept and kept != ANSWER and ANSWER.startswith(kept)
        await say(client, "go on")
        await send(client, "response.create")
        await until(client, "response.done")
        seen = server.service.models.llm.seen
        assert [message["content"] for message in seen[-1]] == ["hello", kept, "go on"]

    with serving(talking()) as server:
        run(talk, server)


def test_an_item_can_be_retrieved_and_deleted_until_it_is_answered() -> None:
    async def talk(client: ClientConnection) -> None:
        for name, text in (("one", "hello"), ("two", "never mind"), ("three", "again")):
            await say(client, text, id=name)
            await until(client, "conversation.item.done")
        await send(client, "conversation.item.delete", item_id="two")
        assert await receive(client) | {"event_id": ""} == {
            "type": "conversation.item.deleted",
            "event_id": "",
            "item_id": "two",
        }
        await send(client, "response.create")
        events = await until(client, "response.done")
        assert [message["content"] for message in server.service.models.llm.seen[-1]] == ["hello again"]
        answer = events[-1]["response"]["output"][0]
        for item_id, text in (("three", "again"), (answer["id"], ANSWER)):
            await send(client, "conversation.item.retrieve", item_id=item_id)
            item = (await until(client, "conversation.item.retrieved"))[0]["item"]
            assert text in item["content"][0].values()
        for item_id, message in (("two", "no item of that id"), ("one", "part of the history")):
            await send(client, "conversation.item.delete", item_id=item_id)
            assert message in (await receive(client))["error"]["message"]

    with serving(talking()) as server:
        run(talk, server)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"type": "response.cancel"}, "no answer is being given"),
        ({"type": "response.create"}, "nothing to answer"),
        ({"type": "response.create", "response": {"voice": "speaker-1"}}, "session.update"),
        ({"type": "input_audio_buffer.commit"}, "less than 100 ms"),
        ({"type": "input_audio_buffer.append", "audio": "%%%"}, "not base64"),
        ({"type": "input_audio_buffer.append", "audio": 7}, "not base64"),
        ({"type": "input_audio_buffer.append", "audio": "AA=="}, "odd number"),
        ({"type": "conversation.item.truncate", "item_id": "x", "audio_end_ms": 1}, "the last answer alone"),
        ({"type": "conversation.item.create", "item": {"type": "message", "role": "assistant"}}, '"role": "user"'),
        ({"type": "conversation.item.create", "item": None}, '"role": "user"'),
        ({"type": "conversation.item.delete", "item_id": "x"}, "no item of that id"),
        ({"type": "conversation.item.retrieve", "item_id": ["x"]}, "no item of that id"),
        ({"type": "output_audio_buffer.clear"}, "no such event"),
        ({"type": "session.update", "session": {"type": "transcription"}}, "not realtime"),
        ({"type": "session.update", "session": {"tools": [{}]}}, "tools has no effect"),
        ({"type": "session.update", "session": {"model": "/etc/passwd"}}, "no model of that name"),
        ({"type": "session.update", "session": {"output_modalities": ["text"]}}, "this server speaks"),
        ({"type": "session.update", "session": {"audio": {"output": {"voice": "alloy"}}}}, "no voice of that name"),
        ({"type": "session.update", "session": {"audio": {"output": {"speed": 2}}}}, "speed"),
        ({"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}}, "24000"),
        (
            {"type": "session.update", "session": {"audio": {"input": {"turn_detection": {"threshold": 7}}}}},
            "threshold=7",
        ),
        ({"type": 7}, "without a type"),
        ([], "without a type"),
    ],
)
def test_what_cannot_be_done_is_an_error_and_the_conversation_goes_on(server: Server, event: Any, message: str) -> None:
    async def talk(client: ClientConnection) -> None:
        await client.send(json.dumps(event if isinstance(event, list) else event | {"event_id": "mine"}))
        error = await receive(client)
        assert error["type"] == "error" and message in error["error"]["message"]
        await say(client, "hello")
        await send(client, "response.create")
        await until(client, "response.done")

    run(talk, server)


def test_rubbish_is_answered_by_errors_and_too_much_of_it_ends_the_conversation() -> None:
    async def talk(client: ClientConnection) -> None:
        for rubbish in (bytes(range(256)), "{", "[" * 50_000, "null", '"text"'):
            await client.send(rubbish)
            assert (await receive(client))["type"] == "error"
        with pytest.raises(ConnectionClosed) as closed:
            for _ in range(1_000):
                await client.send("{")
                await receive(client)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008

    with serving(talking(), Limits(messages_per_s=4)) as server:
        run(talk, server)
        wait_until(lambda: server.service.admission.n_sessions == 0, "the conversation is over")
        assert count(server, "csmkit_refused_total", reason="too_many_messages") == 1


def test_a_message_that_is_too_large_ends_the_conversation(server: Server) -> None:
    async def talk(client: ClientConnection) -> None:
        with pytest.raises(ConnectionClosed):
            await client.send("a" * (Limits.max_json_bytes + 1))
            await client.recv()

    run(talk, server)


def test_a_turn_and_a_conversation_end_where_they_are_too_long(server: Server) -> None:
    async def talk(client: ClientConnection) -> None:
        settings = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        await send(client, "session.update", session=settings)
        await receive(client)
        await hear(client, tone(5.5))
        assert (await receive(client))["error"]["code"] == "buffer_full"
        for _ in range(60):
            await say(client, "hello")
        await say(client, "one more")
        while (event := await receive(client))["type"] != "error" or event["error"]["code"] == "buffer_full":
            pass
        assert event["error"]["code"] == "too_many_items"

    run(talk, server)


def test_a_client_that_leaves_in_an_answer_stops_it() -> None:
    async def talk(client: ClientConnection) -> None:
        await say(client, "hello")
        await send(client, "response.create")
        await until(client, "response.output_audio.delta")

    with serving(talking(frame_s=0.02, answer="word " * 200)) as server:
        run(talk, server)
        wait_until(lambda: server.service.admission.idle, "the answer has ended")
        assert count(server, "csmkit_clients_left_total", route="/v1/realtime") == 1


def test_one_conversation_too_many_is_refused_with_a_status() -> None:
    async def talk(_: ClientConnection) -> None:
        with pytest.raises(InvalidStatus) as refused:
            async with conversation(server):
                pass
        assert refused.value.response.status_code == 429

    with serving(talking(), Limits(max_sessions=1)) as server:
        run(talk, server)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({}, 401),
        ({"additional_headers": {"Authorization": "Bearer wrong"}}, 401),
        ({"additional_headers": {"Authorization": f"Bearer {TOKEN}"}, "origin": "http://evil.example"}, 403),
        ({"additional_headers": {"Authorization": f"Bearer {TOKEN}"}, "query": "?model=/etc/passwd"}, 404),
        ({"additional_headers": {"Authorization": f"Bearer {TOKEN}"}}, None),
        ({"subprotocols": ["realtime", f"openai-insecure-api-key.{TOKEN}"]}, None),
    ],
)
def test_a_websocket_needs_the_token_and_its_own_page(options: dict[str, Any], status: int | None) -> None:
    async def talk(client: ClientConnection) -> None:
        await say(client, "hello")
        await until(client, "conversation.item.done")

    with serving(talking(), token=TOKEN) as server:
        if status is None:
            run(talk, server, **options)
            return
        with pytest.raises(InvalidStatus) as refused:
            run(talk, server, **options)
        assert refused.value.response.status_code == status


def test_two_conversations_do_not_hear_each_other(server: Server) -> None:
    async def talk(first: ClientConnection) -> None:
        async with conversation(server) as second:
            for client, text in ((first, "I am the first"), (second, "I am the second")):
                await say(client, text)
                await send(client, "response.create")
            for client in (first, second):
                await until(client, "response.done")
        seen = [[message["content"] for message in messages] for messages in server.service.models.llm.seen[-2:]]
        assert sorted(seen) == [["I am the first"], ["I am the second"]]

    run(talk, server)
