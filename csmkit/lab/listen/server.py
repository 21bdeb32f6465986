"""A page on this machine that asks a listening test by the keyboard; no setting of a sound reaches the browser."""

from __future__ import annotations

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from csmkit.closing import Closing
from csmkit.errors import InputError
from csmkit.lab.listen.answers import AnswerFile
from csmkit.lab.listen.plan import REFERENCE, ListeningTest
from csmkit.lab.metrics.waveforms import wav_bytes

PAGE = Path(__file__).with_name("page.html")
MOST_BYTES = 10_000  # of an answer


class ListeningServer(Closing):
    """Serves a test on 127.0.0.1 until it is closed.

    Args:
        port: 0 takes a free one.

    Attributes:
        finished: set once every question is answered.
    """

    def __init__(self, folder: Path, test: ListeningTest, port: int = 0) -> None:
        self.test, self.answers = test, AnswerFile(folder, test)
        self.finished = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, name="csmkit-listen", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Serve no more; the answers are kept."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def question(self) -> dict[str, Any]:
        """What the page shows: the next question, without anything that tells a setting."""
        with self._lock:
            item, n_done = self.answers.following(), self.answers.n_done
        state = {"kind": self.test.kind, "question": self.test.question, "n": len(self.test.items), "n_done": n_done}
        if item is None:
            self.finished.set()
            return {**state, "done": True}
        return {**state, "done": False, "item": item.item_id, "text": item.text, "n_sounds": len(item.names)}

    def answer(self, sent: Any) -> dict[str, Any]:
        """Keep what the page sends, and return the next question; raises InputError."""
        with self._lock:
            item = self.answers.following()
            if not isinstance(sent, dict) or item is None or sent.get("item") != item.item_id:
                raise InputError("an answer to another question: load the page again")
            self.answers.add(item, sent.get("answer"), sent.get("seconds") or 0.0)
        return self.question()

    def sound(self, item_id: str, index: str) -> bytes:
        """A sound of a question as WAV; of ``mushra``, ``r`` is the known reference. Raises InputError."""
        item = next((item for item in self.test.items if item.item_id == item_id), None)
        if item is None or not (index.isdigit() or index == "r"):
            raise InputError("no such sound")
        known = item.names.index(REFERENCE) if REFERENCE in item.names else -1
        return wav_bytes(item.sound(known if index == "r" else int(index)))


def _handler(server: ListeningServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self._local():
                return
            try:
                match self.path.strip("/").split("/"):
                    case [""]:
                        self._send(PAGE.read_bytes(), "text/html; charset=utf-8")
                    case ["question"]:
                        self._send(json.dumps(server.question()).encode(), "application/json")
                    case ["sound", item_id, index]:
                        self._send(server.sound(item_id, index), "audio/wav")
                    case _:
                        self.send_error(HTTPStatus.NOT_FOUND)
            except InputError as error:
                self.send_error(HTTPStatus.NOT_FOUND, str(error))

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            is_json = self.headers.get("Content-Type") == "application/json"  # which no foreign page may send unasked
            if not self._local() or self.path != "/answer" or not is_json or not 0 < length <= MOST_BYTES:
                self.send_error(HTTPStatus.BAD_REQUEST)
                return
            try:
                self._send(json.dumps(server.answer(json.loads(self.rfile.read(length)))).encode(), "application/json")
            except (InputError, ValueError) as error:
                self.send_error(HTTPStatus.BAD_REQUEST, str(error))

        def _local(self) -> bool:
            """Whether the page was asked for by this machine's own name: a foreign name may lead here too."""
            host = (self.headers.get("Host") or "").rpartition(":")[0]
            if host not in ("127.0.0.1", "localhost"):
                self.send_error(HTTPStatus.FORBIDDEN)
                return False
            return True

        def _send(self, content: bytes, kind: str) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the terminal shows the progress of the test."""

    return Handler
