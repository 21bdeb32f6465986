"""Language models behind a server with OpenAI's protocol: vLLM, Ollama, llama.cpp, SageMaker endpoints."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec

from csmkit.checks import check_integer, check_positive
from csmkit.errors import InputError, LanguageModelError
from csmkit.llm.contract import Message, with_system
from csmkit.plugins import library


class ServerLLM:
    """Streamed chat completions of a server; the plugin ``openai``.

    Args:
        model: name of the model on the server.
        base_url: address of the server, such as ``http://localhost:11434/v1`` (Ollama) or ``http://localhost:8000/v1``
            (vLLM).
        api_key: key of the server; None for the variable OPENAI_API_KEY, else ``none``, which local servers ignore.
        system_prompt: system message before every conversation; empty for none.
        temperature: temperature of sampling; None for the server's default.
        max_new_tokens: largest number of tokens of an answer, at least 1.
        timeout_s: seconds, above 0, that the connection and each piece of the answer may take.
        seed: seed of sampling, if the server supports it; None sends none.

    Raises:
        MissingDependencyError: the package openai is not installed.
        InputError: an argument outside these ranges.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        api_key: str | None = None,
        system_prompt: str = "",
        temperature: float | None = None,
        max_new_tokens: int = 128,
        timeout_s: float = 20.0,
        seed: int | None = None,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise InputError(f"base_url={base_url!r}: give the server's address, such as http://localhost:11434/v1")
        check_integer("max_new_tokens", max_new_tokens)
        check_positive("timeout_s", timeout_s)
        self._openai = library("openai", "server")
        self._too_slow, self._broken = _transport_errors()
        self.model, self.base_url, self.system_prompt, self.timeout_s = model, base_url, system_prompt, timeout_s
        key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
        self._client = self._openai.OpenAI(base_url=base_url, api_key=key, timeout=timeout_s, max_retries=0)
        given = {"temperature": temperature, "max_tokens": max_new_tokens, "seed": seed}
        self._options = {name: value for name, value in given.items() if value is not None}

    def stream(self, messages: Sequence[Message]) -> Generator[str, None, None]:
        """Answer a conversation; interface as in `LLM`. Closing it closes the connection, which stops the server.

        Raises:
            LanguageModelError: the server cannot be reached, is too slow, refuses the request, or stops before the end.
        """
        request = self._client.chat.completions.with_streaming_response.create(
            model=self.model, messages=with_system(self.system_prompt, messages), stream=True, **self._options
        )
        finished, n_letters = False, 0
        try:
            with request as response:
                for data in _server_sent_data(response.iter_lines()):
                    text, ended = self._piece(data)
                    finished = finished or ended
                    n_letters += len(text)
                    if text:
                        yield text
        except self._openai.APIError as error:
            raise self._explained(error) from error
        except self._too_slow as error:
            raise LanguageModelError(self._slow()) from error
        except self._broken as error:
            raise LanguageModelError(
                f"the server at {self.base_url} closed the connection ({error}): look at its log"
            ) from error
        if not finished:
            raise LanguageModelError(
                f"the answer of the server at {self.base_url} ended after {n_letters} characters without an end mark: "
                "look at its log, and try again"
            )

    def _piece(self, data: str) -> tuple[str, bool]:
        """The text of a chunk, and whether the answer is complete; some servers only send ``[DONE]`` at the end."""
        if data == "[DONE]":
            return "", True
        try:
            chunk = json.loads(data)
            choices = chunk.get("choices") or []
            text = "".join((choice.get("delta") or {}).get("content") or "" for choice in choices)
            ended = any(choice.get("finish_reason") is not None for choice in choices)
        except (ValueError, AttributeError, TypeError) as error:
            given = f"the server at {self.base_url} sent {data[:80]!r}, which is not a chat completion"
            raise LanguageModelError(f"{given}: check base_url, and that the server has OpenAI's protocol") from error
        if chunk.get("error"):
            raise LanguageModelError(f"the server at {self.base_url} failed: {chunk['error']}")
        return text, ended

    def _slow(self) -> str:
        return (
            f"the server at {self.base_url} sent nothing for {self.timeout_s:g} s: look at its load, or raise timeout_s"
        )

    def _explained(self, error: Exception) -> LanguageModelError:
        library = self._openai
        if isinstance(error, library.APITimeoutError):
            return LanguageModelError(self._slow())
        if isinstance(error, library.APIConnectionError):
            return LanguageModelError(f"no server at {self.base_url} ({error}): start it, or check base_url")
        if isinstance(error, library.AuthenticationError):
            return LanguageModelError(f"the server at {self.base_url} refuses the key: give api_key or OPENAI_API_KEY")
        return LanguageModelError(f"the server at {self.base_url} refused the request for {self.model!r}: {error}")


def _server_sent_data(lines: Iterable[str]) -> Iterator[str]:
    """The contents of the ``data:`` lines of server-sent events; the client's own reader hides ``[DONE]``."""
    for line in lines:
        if line.startswith("data:"):
            yield line.removeprefix("data:").strip()


def _transport_errors() -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """The errors of the client's transport: for a timeout, and for a broken connection."""
    # Which of the two is installed depends on the version of the client.
    modules = [import_module(name) for name in ("httpx2", "httpx") if find_spec(name)]
    return tuple(m.TimeoutException for m in modules), tuple(m.TransportError for m in modules)
