"""The settings of a server: its address, who may use it, and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated

from csmkit.checks import check_integer, check_positive, is_integer
from csmkit.errors import InputError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
SHORTEST_TOKEN = 16  # characters; a shorter one can be guessed


@dataclass(frozen=True)
class Limits:
    """The limits of a server, for one client and for all. Counts are at least 1, durations above 0.

    Those with a help text are options of `csmkit serve`.

    Attributes:
        max_streams: utterances that are generated at the same time.
        max_waiting: requests that wait for a stream; one more is refused with 429.
        max_sessions: open conversations; one more is refused with 429.
        max_connections: open connections; one more is refused with 503.
        max_json_bytes: body of a request in JSON, and a message on a WebSocket.
        max_upload_bytes: body of a request with a sound file.
        max_input_chars: text of a speech request, or of a message in a conversation.
        max_audio_s: seconds of sound to recognise, of a file or of one turn.
        max_items: items that a conversation keeps.
        messages_per_s: messages that a conversation may receive a second, on average over some seconds.
        header_s: seconds that a request's header may take.
        body_s: seconds that a request's body may take.
        wait_s: seconds that a request may wait for a stream.
        slow_reader_s: seconds for which a client that reads nothing is waited for.
        turn_s: seconds that an answer or a speech request may take altogether.
        idle_s: seconds after which a conversation without a message is closed.
        drain_s: seconds that answers in progress may take after SIGTERM.
    """

    max_streams: Annotated[int, "Largest number of utterances generated at once."] = 16
    max_waiting: Annotated[int, "Largest number of requests that wait; more are refused."] = 32
    max_sessions: Annotated[int, "Largest number of open conversations."] = 64
    max_connections: int = 1024
    max_json_bytes: int = 512 * 1024
    max_upload_bytes: int = 25 * 2**20
    max_input_chars: int = 4096
    max_audio_s: Annotated[float, "Longest audio to transcribe, in seconds."] = 120.0
    max_items: int = 400
    messages_per_s: float = 200.0
    header_s: float = 10.0
    body_s: float = 30.0
    wait_s: float = 30.0
    slow_reader_s: float = 30.0
    turn_s: float = 900.0
    idle_s: float = 900.0
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        for limit in fields(self):
            check = check_integer if isinstance(limit.default, int) else check_positive
            check(limit.name, getattr(self, limit.name))


@dataclass(frozen=True)
class ServeOptions:
    """The address of a server, and who may use it.

    Attributes:
        host: address to listen on.
        port: 0 takes a free one.
        token: what a client sends as ``Authorization: Bearer``; None answers anybody.
        without_token: answer anybody on an address that other machines can reach, too.
        hosts: names under which the server is reached, beside its address; ``*`` for any.
        origins: web pages of other addresses, such as ``https://example.org``, that may use the server.
        limits: how much clients may ask.

    Raises:
        InputError: a port that is none, a token that is too short, or an open address without one.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    without_token: bool = False
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not is_integer(self.port) or not 0 <= self.port <= 65_535:
            raise InputError(f"port={self.port!r}: give a number from 0, for a free one, to 65535")
        if self.token is not None and (len(self.token) < SHORTEST_TOKEN or not self.token.isascii()):
            raise InputError(f"a token of {len(self.token)} characters: give at least {SHORTEST_TOKEN}, ASCII only")
        if self.token is None and not self.is_local and not self.without_token:
            raise InputError(
                f"host={self.host!r} without a token lets every machine that reaches it use the models: "
                "set CSMKIT_SERVE_TOKEN, listen on 127.0.0.1, or say --without-token where something else guards it"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOOPBACK


def url(host: str, port: int) -> str:
    """An address such as ``http://127.0.0.1:8000``."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
