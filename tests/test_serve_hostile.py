"""Clients that mean harm, on this machine and in bounded numbers: the server refuses them and serves the next one."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator

import pytest
from lab_server import need

need("starlette", "uvicorn", "websockets", "multipart", extra="serve")
from serving import ask, connect, fake_models, read_all, serving, wait_until

from csmkit.errors import InputError
from csmkit.serve import Limits, ServeOptions, Server

TOKEN = "a-token-of-tests-0123456789"
LIMITS = Limits(
    max_streams=2,
    max_waiting=2,
    max_json_bytes=20_000,
    max_upload_bytes=50_000,
    max_connections=50,
    header_s=0.4,
    body_s=0.4,
    slow_reader_s=0.4,
)
HOST = b"Host: localhost\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(fake_models(), LIMITS) as server:
        yield server


@pytest.fixture(autouse=True)
def still_serves(server: Server) -> Iterator[None]:
    """Whatever a test has done: nothing is left of it, and the next client is answered."""
    yield
    wait_until(lambda: server.service.admission.idle, "nothing is in progress")
    assert ask(server, "hello there").status_code == 200


def send(server: Server, *pieces: bytes) -> bytes:
    """What the server answers before it closes."""
    with connect(server) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return read_all(connection)


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([line + b" HTTP/1.1", *headers, b"Connection: close", b"", body])


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_half_a_header_is_not_waited_for_for_ever(server: Server) -> None:
    assert send(server, b"POST /v1/audio/speech HTTP/1.1\r\nHost: local") == b""


def test_a_connection_that_says_nothing_is_closed(server: Server) -> None:
    assert send(server) == b""


def test_half_a_body_is_answered_and_closed(server: Server) -> None:
    answer = send(server, request(b"POST /v1/audio/speech", HOST[:-2], b"Content-Length: 100", body=b'{"input":'))
    assert status(answer) == 408 and b"too slowly" in answer


def test_a_header_that_never_ends_is_refused(server: Server) -> None:
    answer = send(server, b"GET /health HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 200_000)
    assert answer == b"" or status(answer) in (400, 431)


def test_an_upload_that_never_ends_is_broken_off(server: Server) -> None:
    head = request(b"POST /v1/audio/speech", HOST[:-2], b"Transfer-Encoding: chunked")
    answer = send(server, head, *([b"1000\r\n" + b"a" * 4096 + b"\r\n"] * 40))
    assert answer == b"" or status(answer) == 413


@pytest.mark.parametrize("path", [b"/v1/audio/speech", b"/v1/audio/transcriptions"])
def test_a_body_that_announces_too_much_is_refused_unread(server: Server, path: bytes) -> None:
    answer = send(server, request(b"POST " + path, HOST[:-2], b"Content-Length: 999999999"))
    assert (status(answer) == 413 and b"Connection: close" in answer) or b"connection: close" in answer


@pytest.mark.parametrize("length", [b"-1", b"abc", b"1e9", b"0x10", b"5, 6"])
def test_a_length_that_is_none_is_refused(server: Server, length: bytes) -> None:
    assert status(send(server, request(b"POST /v1/audio/speech", HOST[:-2], b"Content-Length: " + length))) == 400


def test_two_lengths_that_disagree_are_refused(server: Server) -> None:
    both = (b"Content-Length: 2", b"Transfer-Encoding: chunked", b"Content-Length: 4")
    assert status(send(server, request(b"POST /v1/audio/speech", HOST[:-2], *both, body=b"{}"))) == 400


def test_a_compressed_body_is_not_unpacked(server: Server) -> None:
    bomb = gzip.compress(b'{"input": "' + b"a" * 5_000_000 + b'"}')
    headers = (HOST[:-2], b"Content-Encoding: gzip", b"Content-Length: %d" % len(bomb))
    assert status(send(server, request(b"POST /v1/audio/speech", *headers, body=bomb))) == 415


def test_rubbish_is_answered_or_closed(server: Server) -> None:
    for rubbish in (
        bytes(range(256)) * 16,
        b"\x16\x03\x01\x02\x00" + bytes(200),
        b"\r\n" * 100,
    ):
        answer = send(server, rubbish)
        assert answer == b"" or status(answer) == 400


def test_thousands_of_connections_that_are_opened_and_dropped_leave_nothing(server: Server) -> None:
    for number in range(10_000):
        connection = connect(server)
        if number % 3 == 0:
            connection.sendall(b"GET /health HT")
        if number % 3 == 1:
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # closing sends a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()
    wait_until(lambda: server.n_connections <= 1, "all connections are gone")


def test_more_connections_than_allowed_are_refused_with_an_answer(server: Server) -> None:
    idle = [connect(server) for _ in range(LIMITS.max_connections)]
    try:
        wait_until(lambda: server.n_connections >= LIMITS.max_connections, "all are open")
        answer = send(server, request(b"GET /health", HOST[:-2]))
        assert status(answer) == 503
    finally:
        for connection in idle:
            connection.close()
    wait_until(lambda: server.n_connections <= 1, "all connections are gone")


@pytest.mark.parametrize("path", [b"/../../etc/passwd", b"/%2e%2e/%2e%2e/etc/passwd", b"//etc/passwd"])
def test_a_path_reaches_no_file(server: Server, path: bytes) -> None:
    answer = send(server, request(b"GET " + path, HOST[:-2]))
    assert status(answer) in (400, 404) and b"root:" not in answer


def test_a_name_in_a_form_reaches_no_file(server: Server) -> None:
    part = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="/etc/passwd"\r\n\r\nrubbish\r\n'
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--b--\r\n'
    )
    headers = (HOST[:-2], b"Content-Type: multipart/form-data; boundary=b", b"Content-Length: %d" % len(part))
    answer = send(server, request(b"POST /v1/audio/transcriptions", *headers, body=part))
    assert status(answer) == 422 and b"no sound file" in answer and b"root:" not in answer


@pytest.mark.parametrize(
    "form",
    [
        b"",
        b"--b",
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + b"a" * 100,
        b"".join(b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n' % n for n in range(200))
        + b"--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + b"m" * 20_000 + b"\r\n--b--\r\n",
    ],
    ids=["empty", "torn", "unfinished", "many fields", "long field"],
)
def test_a_form_that_is_none_is_refused(server: Server, form: bytes) -> None:
    headers = (HOST[:-2], b"Content-Type: multipart/form-data; boundary=b", b"Content-Length: %d" % len(form))
    answer = send(server, request(b"POST /v1/audio/transcriptions", *headers, body=form))
    assert status(answer) in (400, 422) and b"Traceback" not in answer


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        (b"Host: evil.example", False),
        (b"Host: localhost:80\r\nOrigin: http://evil.example", False),
        (b"Host: localhost\r\nOrigin: null", False),
        (b"Host: localhost\r\nOrigin: http://localhost", True),
        (b"Host: 127.0.0.1", True),
        (b"Host: [::1]:9", True),
    ],
)
def test_pages_of_other_sites_cannot_use_the_server(server: Server, header: bytes, allowed: bool) -> None:
    assert status(send(server, request(b"GET /v1/models", header))) == (200 if allowed else 403)


def test_a_page_that_is_allowed_by_name_may_use_it() -> None:
    with serving(fake_models(), origins=("https://example.org",)) as server:
        assert (
            status(send(server, request(b"GET /v1/models", b"Host: localhost", b"Origin: https://example.org"))) == 200
        )


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), 401),
        ((b"Authorization: Bearer wrong",), 401),
        ((b"Authorization: Bearer " + TOKEN[:-1].encode(),), 401),
        ((b"Authorization: Basic " + TOKEN.encode(),), 401),
        ((b"Authorization: Bearer " + bytes(range(128, 256)),), 401),
        ((b"Authorization: Bearer " + TOKEN.encode(),), 200),
    ],
)
def test_a_token_is_asked_for_everywhere_but_where_health_is_watched(headers: tuple[bytes, ...], expected: int) -> None:
    with serving(fake_models(), token=TOKEN) as server:
        for path in (b"/v1/models", b"/v1/audio/voices", b"/metrics"):
            assert status(send(server, request(b"GET " + path, HOST[:-2], *headers))) == expected
        assert status(send(server, request(b"GET /ready", HOST[:-2]))) == 200


def test_an_open_address_needs_a_token_and_a_token_must_not_be_guessable() -> None:
    with pytest.raises(InputError, match="CSMKIT_SERVE_TOKEN"):
        ServeOptions(host="0.0.0.0")
    with pytest.raises(InputError, match="at least 16"):
        ServeOptions(token="secret")
    assert ServeOptions(host="0.0.0.0", token=TOKEN).token == TOKEN
    with pytest.raises(InputError, match="max_streams=0"):
        Limits(max_streams=0)


def test_every_answer_carries_the_headers_that_keep_a_page_safe(server: Server) -> None:
    answer = send(server, request(b"GET /health", HOST[:-2])).lower()
    for header in (b"content-security-policy: default-src 'none'", b"x-content-type-options: nosniff"):
        assert header in answer
    assert b"server: uvicorn" not in answer
