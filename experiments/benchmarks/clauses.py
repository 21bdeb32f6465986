"""Speaking clause by clause while the language model writes, against waiting for its answer, or for all its sound.

    python -m experiments.benchmarks.clauses [--rounds 3] [--token-ms 0 30] [--save results/benchmarks/clauses.json]

The pocket stack gives the same answers to the same prompts both ways, by turns, so that a busy machine slows both
alike. Its language model writes faster than larger ones: ``--token-ms`` lists what is added to each of its pieces, one
comparison for each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Generator as Pieces
from collections.abc import Sequence
from typing import Any

import numpy as np

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.llm.transformers import LLM, Message, TransformersLLM
from csmkit.speech.generator import Generator
from experiments.benchmarks.pocket import PROMPTS
from experiments.benchmarks.report import add_save, print_json, print_table

WAYS = ("clause by clause", "whole answer")
FIGURES = {
    "llm_done_ms": "LLM done",
    "text_ttfs_ms": "first words to speak",
    "ttfa_ms": "first audio",
    "ttfa_audible_ms": "audible onset",
    "sound_done_ms": "whole sound, without streaming the first that is heard",
    "start_delay_ms": "pre-buffer for seamless play",
    "total_ms": "whole turn",
}


class Paced:
    """A language model that takes its time for every piece; with ``whole``, its answer comes in one."""

    def __init__(self, model: LLM, token_ms: float, whole: bool) -> None:
        self._model, self._token_s, self._whole = model, token_ms / 1000, whole

    def stream(self, messages: Sequence[Message]) -> Pieces[str, None, None]:
        """As `LLM.stream`."""
        answer = self._pieces(messages)
        if self._whole:
            yield "".join(answer)
            return
        yield from answer

    def _pieces(self, messages: Sequence[Message]) -> Pieces[str, None, None]:
        for piece in self._model.stream(messages):
            time.sleep(self._token_s)
            yield piece


def turn(chatbot: StreamingConversationalChatbot, llm: LLM, prompt: str) -> dict[str, Any]:
    """The row of a first turn, with ``sound_done_ms``: from the question to the last chunk of the answer."""
    chatbot.llm = llm
    *events, complete = chatbot.process_streaming(prompt)
    chatbot.reset()
    times = [event["t"] * 1000 for event in events if event["type"] == "audio_chunk"]
    return {**complete["metrics"], "sound_done_ms": max(times, default=None)}


def compare(chatbot: StreamingConversationalChatbot, model: LLM, token_ms: float, rounds: int) -> list[dict[str, Any]]:
    """The rows of all turns, both ways."""
    rows = []
    for number in range(rounds * len(PROMPTS)):
        for way in WAYS:
            llm = Paced(model, token_ms, whole=way == WAYS[1])
            row = turn(chatbot, llm, PROMPTS[number % len(PROMPTS)])
            rows.append({"way": way, "token_ms": token_ms, "n": number, **row})
    return rows


def summarise(rows: list[dict[str, Any]], token_ms: float) -> list[dict[str, Any]]:
    """Medians of both ways, and what the first one saves."""
    table = []
    for name, heading in FIGURES.items():
        values = [
            [row[name] for row in rows if row["way"] == way and row["token_ms"] == token_ms and row[name] is not None]
            for way in WAYS
        ]
        first, second = (float(np.median(found)) for found in values)
        table.append(
            {
                "figure (ms)": heading,
                "added a token": token_ms,
                WAYS[0]: first,
                WAYS[1]: second,
                "saved": second - first,
            }
        )
    return table


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of all prompts, both ways")
    parser.add_argument("--token-ms", type=float, nargs="+", default=[0.0, 30.0], help="added to every piece")
    parser.add_argument("--whisper", default="base.en")
    add_save(parser)
    options = parser.parse_args()
    model = TransformersLLM(seed=0)
    generator, asr = Generator.load("pocket"), StreamingWhisperASR(options.whisper)
    rows, table = [], []
    with StreamingConversationalChatbot(generator=generator, asr=asr, llm=model, preset="pocket", seed=1) as chatbot:
        turn(chatbot, model, PROMPTS[0])
        for token_ms in options.token_ms:
            rows += compare(chatbot, model, token_ms, options.rounds)
            table += summarise(rows, token_ms)
    print_table(table)
    print_json("clauses", rows, options.save, table=table, whisper=options.whisper)


if __name__ == "__main__":
    main()
