"""Latency of the whole pocket stack on this machine: language model, voice, codec and recogniser together.

    python -m experiments.benchmarks.pocket [--turns 24] [--save results/benchmarks/pocket.json]

Prints a table, then one JSON object as the last line. Loading and warming up are reported apart from the turns.
"""

from __future__ import annotations

import argparse
import time
from itertools import count
from typing import Any

import numpy as np

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.codec import CodecStream
from csmkit.llm.transformers import TransformersLLM
from csmkit.speech.generator import Generator
from csmkit.speech.streams import FrameStream
from experiments.benchmarks.report import (
    add_save,
    peak_memory_mib,
    print_json,
    print_table,
    summary,
)

PROMPTS = (
    "Hello!",
    "How are you today?",
    "Tell me a joke.",
    "What is the weather like?",
    "What time is it?",
    "What is seven plus five?",
    "What is your favourite food?",
    "Thank you, that was nice.",
)
TURN_FIGURES = {  # figure of a turn: heading
    "llm_ttft_ms": "LLM first token",
    "text_ttfs_ms": "first clause",
    "ttfa_ms": "first audio",
    "ttfa_audible_ms": "audible onset",
    "gap_p50_ms": "gap between chunks, p50",
    "gap_p95_ms": "gap between chunks, p95",
    "max_underrun_ms": "max underrun",
    "rtf": "real-time factor",
    "audio_s": "audio (s)",
    "asr_lag_p50_ms": "ASR lag, p50",
    "asr_decode_p50_ms": "ASR decode, p50",
    "wer": "word error rate of the final text",
    "final_after_ms": "final text after the last chunk",
}


def timed(call: Any) -> tuple[Any, float]:
    """A call's result and its seconds."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def frame_figures(generator: Generator, n_frames: int = 60) -> dict[str, float]:
    """Milliseconds of one frame, voice and codec together, without anything beside it."""
    text = "this is a rather long sentence, so that there are many frames to measure, and then some more."
    times: list[float] = []
    for seed in count():
        decoder = generator.codec.stream()
        with generator.frames(text, seed=seed) as frames:
            decoder.decode(next(frames)[:, None])  # the first reads the prompt
            while frame_ms := _timed_frame(frames, decoder):
                times.append(frame_ms)
        if len(times) >= n_frames:
            break
    return summary(times)


def _timed_frame(frames: FrameStream, decoder: CodecStream) -> float | None:
    """Milliseconds of the next frame and its sound; None after the last."""
    start = time.perf_counter()
    frame = next(frames, None)
    if frame is None:
        return None
    decoder.decode(frame[:, None])
    return 1e3 * (time.perf_counter() - start)


def turn_row(chatbot: StreamingConversationalChatbot, prompt: str) -> dict[str, Any]:
    """One turn's metrics."""
    last_chunk = 0.0
    for event in chatbot.process_streaming(prompt):
        if event["type"] == "audio_chunk":
            last_chunk = event["t"] * 1000
        elif event["type"] == "complete":
            row: dict[str, Any] = dict(event["metrics"])
            final = row["final_text_ms"]
            row["final_after_ms"] = None if final is None else final - last_chunk
    return row


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median, 95th percentile and extremes of every figure over the turns."""
    table = []
    for name, heading in TURN_FIGURES.items():
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            p50, p95 = np.percentile(values, [50, 95])
            table.append(
                {"figure": heading, "p50": p50, "p95": p95, "min": min(values), "max": max(values), "n": len(values)}
            )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=24)
    parser.add_argument("--whisper", default="base.en")
    parser.add_argument("--chunk-frames", type=int, default=6)
    add_save(parser)
    args = parser.parse_args()
    generator, csm_s = timed(lambda: Generator.load("pocket"))
    asr = StreamingWhisperASR(args.whisper)
    _, asr_s = timed(asr.prepare)
    llm, llm_s = timed(TransformersLLM)
    options = {"chunk_frames": args.chunk_frames, "seed": 1}
    with StreamingConversationalChatbot(generator=generator, asr=asr, llm=llm, preset="pocket", **options) as chatbot:
        _, warm_s = timed(lambda: turn_row(chatbot, PROMPTS[0]))
        chatbot.reset()
        frame = frame_figures(generator)
        rows = []
        for i in range(args.turns):
            rows.append(turn_row(chatbot, PROMPTS[i % len(PROMPTS)]))
            chatbot.reset()  # every turn is a first turn, so that turns are comparable
    once = {
        "load_csm_s": csm_s,
        "load_whisper_s": asr_s,
        "load_llm_s": llm_s,
        "warm_up_s": warm_s,
        "peak_memory_mib": peak_memory_mib(),
        **{f"frame_{name}": value for name, value in frame.items()},
    }
    print_table([{"once": name, "value": float(value)} for name, value in once.items()])
    print()
    table = summarise(rows)
    print_table(table)
    print_json("pocket", rows, args.save, turns=len(rows), **once, table=table)


if __name__ == "__main__":
    main()
