"""Many listeners on one server: who waits, who is refused, who leaves, who reads slowly, and how the server ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab_server import need

need("starlette", "uvicorn", "websockets", "multipart", "httpx", extra="serve")
import httpx
from serving import PATIENCE_S, ask, connect, count, fake_models, pocket_models, read_all, serving, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as open_conversation

from csmkit.errors import InputError, StateError
from csmkit.serve import Limits, ServedModels, ServeOptions, Server
from csmkit.speech.base import FakeGenerator

HERE = Path(__file__).parent
LONG = "word " * 40  # 80 frames of the fake voice
FEW = Limits(max_streams=1, max_waiting=1)


class Gated(FakeGenerator):
    """A fake voice that makes its frames only while a gate is open."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.gate = threading.Event()
        self.gate.set()
        self.n_made = 0

    def codes_of(self, request: Any, seed: int) -> Any:
        for frame in super().codes_of(request, seed):
            assert self.gate.wait(PATIENCE_S)
            self.n_made += 1
            yield frame


def gated(**more: Any) -> tuple[ServedModels, Gated]:
    models, voice = fake_models(), Gated(**more)
    models.voice = voice
    return models, voice


def client(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.address, timeout=PATIENCE_S, verify=False)


def test_listeners_at_once_each_hear_what_they_would_alone() -> None:
    texts = ["good morning.", "how are you today?"]
    with serving(pocket_models(), Limits(max_streams=3)) as server, ThreadPoolExecutor(4) as pool:
        alone = [ask(server, text, seed=7).content for text in texts]
        together = [answer.content for answer in pool.map(lambda text: ask(server, text, seed=7), texts * 2)]
    assert [len(sound) for sound in together] == [len(sound) for sound in alone * 2]
    for one, other in zip(alone * 2, together, strict=True):  # the codes are equal; a codec of several rows rounds
        assert np.abs(np.frombuffer(one, "<i2").astype(int) - np.frombuffer(other, "<i2").astype(int)).max() <= 1


def test_at_capacity_one_waits_and_the_next_is_told_when_to_come_back() -> None:
    models, voice = gated()
    voice.gate.clear()
    with serving(models, FEW) as server, ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(ask, server), None
        wait_until(lambda: server.service.admission.n_active == 1, "one is served")
        second = pool.submit(ask, server)
        wait_until(lambda: server.service.admission.n_waiting == 1, "one waits")
        refused = ask(server)
        assert refused.status_code == 429 and refused.error["code"] == "busy"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        voice.gate.set()
        assert first.result().content == second.result().content != b""
        assert count(server, "csmkit_refused_total", reason="busy") == 1
        assert ask(server).status_code == 200


def test_nobody_waits_longer_than_allowed() -> None:
    models, voice = gated()
    voice.gate.clear()
    limits = Limits(max_streams=1, max_waiting=4, wait_s=0.05)
    with serving(models, limits) as server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, server)
        wait_until(lambda: server.service.admission.n_active == 1, "one is served")
        assert ask(server).status_code == 429
        voice.gate.set()
        assert first.result().status_code == 200


def test_until_the_models_are_warm_the_server_answers_that_they_are_not() -> None:
    loaded = threading.Event()

    def load() -> ServedModels:
        assert loaded.wait(PATIENCE_S)
        return fake_models()

    server = Server(ServeOptions(port=0), load).start(wait=False)
    try:
        with client(server) as http:
            assert http.get("/health").status_code == 200
            for path in ("/ready", "/ping", "/v1/models"):
                answer = http.get(path)
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "loading")
            assert (answer := ask(server)).status_code == 503 and int(answer.headers["retry-after"]) >= 1
            loaded.set()
            wait_until(lambda: http.get("/ready").status_code == 200, "ready")
            assert ask(server).status_code == 200
    finally:
        server.stop()


def test_models_that_cannot_be_loaded_end_the_server_with_their_error() -> None:
    def load() -> ServedModels:
        raise InputError("preset 'none': the presets are pocket, sesame")

    with pytest.raises(InputError, match="the presets are"):
        Server(ServeOptions(port=0), load).start()


def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    with serving(fake_models()) as server:
        port = int(server.address.rsplit(":", 1)[1])
        with pytest.raises(StateError, match="give another --port"):
            Server(ServeOptions(port=port), fake_models())


def test_a_client_that_leaves_stops_its_speech_and_frees_its_stream() -> None:
    models, voice = gated(frame_s=0.005)
    with serving(models, FEW) as server:
        with client(server) as http, http.stream("POST", "/v1/audio/speech", json={"input": "word " * 700}) as answer:
            next(answer.iter_raw())
        wait_until(lambda: server.service.admission.idle, "the stream is free again")
        assert voice.n_made < 1_400
        assert count(server, "csmkit_clients_left_total", route="/v1/audio/speech") == 1
        assert ask(server).status_code == 200


def test_a_client_that_leaves_while_it_waits_gives_its_place_up() -> None:
    models, voice = gated()
    voice.gate.clear()
    with serving(models, FEW) as server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, server)
        wait_until(lambda: server.service.admission.n_active == 1, "one is served")
        with connect(server) as connection:
            connection.sendall(post(b'{"input": "hello"}'))
            wait_until(lambda: server.service.admission.n_waiting == 1, "one waits")
        wait_until(lambda: server.service.admission.n_waiting == 0, "it does not wait any more")
        voice.gate.set()
        assert first.result().status_code == 200


def post(body: bytes, n_bytes: int | None = None, more: bytes = b"") -> bytes:
    length = str(len(body) if n_bytes is None else n_bytes).encode()
    return b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: %s\r\n%s\r\n%s" % (length, more, body)


def test_a_client_that_reads_nothing_is_given_up_and_never_fills_memory() -> None:
    models, voice = gated()
    limits = Limits(max_streams=1, max_waiting=1, slow_reader_s=0.3)
    text = b'{"input": "%s", "response_format": "pcm"}' % (b"word " * 800)
    with serving(models, limits) as server, connect(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.sendall(post(text))
        wait_until(lambda: count(server, "csmkit_requests_total", status="broken") == 1, "it was given up")
        assert 0 < voice.n_made < 1_600, "speech of minutes was not made for somebody who does not listen"
        wait_until(lambda: not server.n_connections, "its connection is closed")


def test_speech_that_fails_on_its_way_is_not_taken_for_a_whole_answer() -> None:
    models = fake_models(fails_after=30)
    with serving(models) as server, client(server) as http:
        with (
            pytest.raises(httpx.RemoteProtocolError),
            http.stream("POST", "/v1/audio/speech", json={"input": LONG, "response_format": "pcm"}) as answer,
        ):
            assert answer.status_code == 200
            assert sum(len(piece) for piece in answer.iter_raw()) > 0
        events = http.post("/v1/audio/speech", json={"input": LONG, "stream_format": "sse"}).text
        assert events.rstrip().splitlines()[-1].startswith('data: {"type": "error"')
        assert "fake generator" not in events, "what went wrong inside is in the log alone"


def test_speech_that_fails_at_once_is_an_error_with_a_status() -> None:
    with serving(fake_models(fails_after=0)) as server:
        answer = ask(server)
        assert (answer.status_code, answer.error["code"]) == (500, "internal_error")
        assert b"Traceback" not in answer.content and b"frames" not in answer.content


def test_an_answer_has_a_deadline() -> None:
    models, voice = gated(frame_s=0.01)
    with serving(models, Limits(turn_s=0.3)) as server, client(server) as http:
        with (
            pytest.raises(httpx.RemoteProtocolError),
            http.stream("POST", "/v1/audio/speech", json={"input": "word " * 700}) as answer,
        ):
            list(answer.iter_raw())
        wait_until(lambda: server.service.admission.idle, "the stream is free again")
        assert voice.n_made < 1_400


def test_what_is_asked_over_and_over_leaves_no_threads_files_or_tasks_behind() -> None:
    with serving(fake_models(), Limits(max_streams=4, max_waiting=200)) as server, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ask(server, "hello there"), range(16)))
        before = threading.active_count(), len(os.listdir("/proc/self/fd"))
        answers = list(pool.map(lambda _: ask(server, "hello there"), range(100)))
        assert {answer.status_code for answer in answers} == {200}
        wait_until(lambda: server.service.admission.idle, "idle")
        assert threading.active_count() < before[0] + 20, "threads are reused"
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before[1] + 2, "no more files than before")


def test_sigterm_lets_an_answer_in_progress_end_and_takes_no_new_one(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "serve_slowly.py")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address is not None
        with httpx.Client(base_url=address[0], timeout=PATIENCE_S, verify=False) as http:
            asked = {"input": LONG, "response_format": "pcm"}
            with http.stream("POST", "/v1/audio/speech", json=asked) as answer:
                pieces = answer.iter_raw()
                sound = next(pieces)
                process.send_signal(signal.SIGTERM)
                with httpx.Client(base_url=address[0], timeout=PATIENCE_S, verify=False) as other:
                    wait_until(lambda: other.get("/ready").status_code == 503, "draining")
                    refused = other.post("/v1/audio/speech", json=asked)
                    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
                sound += b"".join(pieces)
        assert len(sound) == 80 * 1920 * 2, "the whole answer"
        assert process.wait(PATIENCE_S) in (0, -signal.SIGTERM)


def test_sigterm_lets_the_answer_of_a_conversation_end_and_then_closes_it() -> None:
    command = [sys.executable, str(HERE / "serve_slowly.py")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = re.search(r"http(://\S+)", process.stdout.readline())
        assert address is not None
        with httpx.Client(base_url=address[0], timeout=PATIENCE_S, verify=False) as http:
            wait_until(lambda: http.get("/ready").status_code == 200, "ready")
        with open_conversation(f"ws{address[1]}/v1/realtime", proxy=None, max_size=None) as talk:
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
            talk.send(json.dumps({"type": "conversation.item.create", "item": item}))
            talk.send(json.dumps({"type": "response.create"}))
            kinds: list[str] = []
            while not kinds or kinds[-1] != "response.done":
                event = json.loads(talk.recv(PATIENCE_S))
                kinds.append(event["type"])
                if kinds.count("response.output_audio.delta") == 1 and kinds[-1] == "response.output_audio.delta":
                    process.send_signal(signal.SIGTERM)
            assert event["response"]["status"] == "completed", "the answer in progress is whole"
            with pytest.raises(ConnectionClosed) as closed:
                talk.recv(PATIENCE_S)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012, "the server restarts or ends"
        assert process.wait(PATIENCE_S) in (0, -signal.SIGTERM)


def test_a_refusal_is_an_answer_even_when_hundreds_come_at_once() -> None:
    models, _ = gated(frame_s=0.002)
    with serving(models, Limits(max_streams=2, max_waiting=2)) as server, ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: ask(server, "hello there"), range(100)))
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {200, 429} and 200 in statuses
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 429)
    assert all(len(np.frombuffer(answer.content, "<i2")) for answer in answers if answer.status_code == 200)


def test_bytes_of_a_whole_answer_end_where_the_protocol_says() -> None:
    with serving(fake_models()) as server, connect(server) as connection:
        connection.sendall(post(b'{"input": "hello", "response_format": "wav"}', more=b"Connection: close\r\n"))
        received = read_all(connection)
    assert received.startswith(b"HTTP/1.1 200") and received.endswith(b"0\r\n\r\n")
