"""Servers on this machine for tests, and clients that behave badly."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from http.client import HTTPConnection
from time import monotonic, sleep
from typing import Any

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.llm.transformers import FakeLLM
from csmkit.serve import Limits, ServedModels, ServeOptions, Server
from csmkit.serve.models import ModelChoice
from csmkit.speech.base import FakeGenerator

PATIENCE_S = 60.0  # for what a busy machine takes


@cache
def pocket_models() -> ServedModels:
    """The bundled models, loaded once for all tests of a process."""
    return replace(ModelChoice(preset="pocket", whisper="tiny.en", max_streams=8).load())


def fake_models(frame_s: float = 0.0, **more: Any) -> ServedModels:
    """Models that need no weights: two frames a word, a script for the recogniser, one answer for all questions."""
    asr = StreamingWhisperASR("fake", transcriber=FakeTranscriber(), max_audio_s=20)
    asr.prepare()
    return ServedModels("fake", FakeGenerator(frame_s=frame_s, **more), asr, FakeLLM())


@contextmanager
def serving(models: Any, limits: Limits | None = None, **options: Any) -> Iterator[Server]:
    """A server on a free port of this machine, stopped at the end."""
    with Server(ServeOptions(port=0, limits=limits or Limits(), **options), models) as server:
        yield server


def wait_until(holds: Callable[[], Any], what: str, most_s: float = PATIENCE_S) -> None:
    """Wait until something holds; fails the test where it does not come about."""
    deadline = monotonic() + most_s
    while not holds():
        assert monotonic() < deadline, f"still not: {what}"
        sleep(0.01)


def count(server: Server, name: str, **labels: str) -> float:
    """A counter as the server tells it; the sum over the labels that are not given."""
    total = 0.0
    for line in server.service.metrics.text({}).splitlines():
        series, _, value = line.rpartition(" ")
        key, _, found = series.partition("{")
        if key == name and all(f'{label}="{wanted}"' in found for label, wanted in labels.items()):
            total += float(value)
    return total


def connect(server: Server) -> socket.socket:
    """A bare connection."""
    host, _, port = server.address.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes; what it does not read may end it with a reset."""
    received = b""
    try:
        while piece := connection.recv(65_536):
            received += piece
    except ConnectionResetError:
        pass
    return received


@dataclass(frozen=True)
class Answer:
    """What a server said: status, headers by lower-case name, and the body."""

    status_code: int
    headers: dict[str, str]
    content: bytes

    @property
    def error(self) -> dict[str, Any]:
        """What the body says of an error."""
        return json.loads(self.content)["error"]


def ask(server: Server, text: str = "word " * 40, **fields: Any) -> Answer:
    """One speech request on a connection of its own; lighter than a client with its certificates."""
    host, _, port = server.address.removeprefix("http://").partition(":")
    connection = HTTPConnection(host, int(port), timeout=PATIENCE_S)
    try:
        body = json.dumps({"input": text, "response_format": "pcm", "seed": 1} | fields)
        connection.request("POST", "/v1/audio/speech", body)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, headers, answer.read())
    finally:
        connection.close()
