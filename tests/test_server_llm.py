"""A language model behind a server: a real one on this machine, in its good and bad moments."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from csmkit import plugins
from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.errors import InputError, LanguageModelError
from csmkit.llm.server import ServerLLM
from csmkit.speech.base import FakeGenerator

pytest.importorskip("openai", reason="the extra 'server' is not installed")
WORDS = ["Good morning. How", " are you", " to", "day?"]


class Chat(BaseHTTPRequestHandler):
    """Answers with `WORDS`; what it does beside depends on the name of the model that is asked for."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Server = self.server  # type: ignore[assignment]
        server.asked.append(asked)
        kind = asked["model"]
        if kind == "refuses":
            self.send_error(404, "no such model")
            return
        if kind == "locked":
            self.send_error(401, "who are you")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for number, word in enumerate(WORDS):
            if number == 2 and kind == "hangs":
                server.over.wait(20)
                return
            if number == 2 and kind == "breaks":
                return
            self._send({"index": 0, "delta": {"content": word}, "finish_reason": None})
        if kind == "fails":
            self.wfile.write(b'data: {"error": {"message": "out of memory"}}\n\n')
            return
        if kind == "other":
            self.wfile.write(b"data: [1, 2]\n\n")
            return
        if kind != "done only":
            self._send({"index": 0, "delta": {}, "finish_reason": "stop"})
        if kind == "stop only":
            return
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(self, choice: dict[str, object]) -> None:
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class Server(ThreadingHTTPServer):
    """Remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Chat)
        self.asked: list[dict[str, object]] = []
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_pieces_come_as_the_server_sends_them(server: Server):
    llm = ServerLLM("m", base_url=server.url, system_prompt="Be brief.", temperature=0.3, max_new_tokens=9, seed=4)
    assert list(llm.stream(said("Hello"))) == WORDS
    asked = server.asked[0]
    assert asked["messages"] == [{"role": "system", "content": "Be brief."}, *said("Hello")]
    assert (asked["temperature"], asked["max_tokens"], asked["seed"], asked["stream"]) == (0.3, 9, 4, True)


@pytest.mark.parametrize("kind", ["done only", "stop only"])
def test_an_answer_is_complete_with_a_reason_or_with_done(server: Server, kind: str):
    assert list(ServerLLM(kind, base_url=server.url).stream(said("Hello"))) == WORDS


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("hangs", "sent nothing for 0.3 s"),
        ("breaks", "ended after 25 characters without an end mark"),
        ("refuses", "refused the request for 'refuses'"),
        ("locked", "refuses the key"),
        ("fails", "failed: .*out of memory"),
        ("other", r"sent '\[1, 2\]', which is not a chat completion"),
    ],
)
def test_a_bad_server_is_named_within_its_time(server: Server, kind: str, message: str):
    llm = ServerLLM(kind, base_url=server.url, timeout_s=0.3)
    with pytest.raises(LanguageModelError, match=message) as raised:
        list(llm.stream(said("Hello")))
    assert server.url in str(raised.value)


def test_no_server_is_said_at_once():
    llm = ServerLLM("m", base_url="http://127.0.0.1:9/v1", timeout_s=2)
    with pytest.raises(LanguageModelError, match=r"no server at http://127\.0\.0\.1:9/v1"):
        list(llm.stream(said("Hello")))


def test_an_address_that_is_none_is_refused():
    with pytest.raises(InputError, match="http://localhost:11434/v1"):
        ServerLLM("m", base_url="localhost")


def test_closing_leaves_the_server_at_once(server: Server):
    pieces = ServerLLM("hangs", base_url=server.url, timeout_s=10).stream(said("Hello"))
    assert next(pieces) == WORDS[0]
    pieces.close()
    assert next(pieces, None) is None
    assert not server.over.is_set(), "the server is still about to answer"


def test_it_is_a_plugin(server: Server):
    llm = plugins.load("llm", "openai")("m", base_url=server.url)
    assert "".join(llm.stream(said("Hello"))) == "".join(WORDS)


def test_what_was_spoken_before_a_server_broke_off_stays(server: Server):
    asr = StreamingWhisperASR("fake", transcriber=FakeTranscriber())
    llm = ServerLLM("breaks", base_url=server.url)
    with StreamingConversationalChatbot(generator=FakeGenerator(), llm=llm, asr=asr, first_words=1) as chatbot:
        kinds = []
        with pytest.raises(LanguageModelError, match="without an end mark"):
            for event in chatbot.process_streaming("Hello"):
                kinds.append(event["type"])
        assert "audio_chunk" in kinds
        assert [message["role"] for message in chatbot.history] == ["user", "assistant"]
