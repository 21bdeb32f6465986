"""How well the voice speaks what the language model says: answers through the chatbot, heard by a pocket Whisper.

    python -m experiments.pocket.evaluate_chat [--seeds 10] [--save results/pocket/chat]

Every prompt of ``text/demo_prompts.txt`` is the first turn of a conversation of its own, under every seed. Writes
``SAVE.jsonl``, a row an answer, and ``SAVE.json``, the word error rate by words with its interval over prompts and
seeds, and that of the worst prompt.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from csmkit.asr.directory import resolve
from csmkit.asr.whisper import WhisperTranscriber
from csmkit.asr.windows import transcribe_long
from csmkit.audio import SAMPLE_RATE, resample
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.lab.metrics.words import word_error_rate, words
from csmkit.llm.transformers import TransformersLLM
from csmkit.speech.generator import Generator
from experiments.pocket.evaluate import interval, save
from experiments.pocket.text.grammar import HERE


def read_prompts(path: Path) -> list[str]:
    """One prompt a line; lines that begin with ``#`` are remarks."""
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def answer_of(chatbot: StreamingConversationalChatbot, prompt: str) -> dict[str, Any]:
    """A first turn: its answer, the words that the voice was given, how it ended, and the sound at 24 kHz."""
    chatbot.reset()
    events = list(chatbot.process_streaming(prompt))
    return {
        "answer": next(event["text"] for event in events if event["type"] == "llm_response"),
        "spoken": " ".join(event["spoken"] for event in events if event["type"] == "clause"),
        "finish_reason": next(event["finish_reason"] for event in events if event["type"] == "complete"),
        "audio": np.concatenate([event["data"].numpy() for event in events if event["type"] == "audio_chunk"]),
    }


def rows_of(
    prompts: list[str], seeds: range, voice: str, llm: str, recogniser: WhisperTranscriber
) -> Iterator[dict[str, Any]]:
    """A row for every prompt and seed."""
    generator = Generator.load(voice, device="cpu")
    for seed in tqdm(seeds, desc="seeds"):
        writer = TransformersLLM(llm, seed=seed)
        with StreamingConversationalChatbot(generator=generator, llm=writer, asr=False, seed=seed) as chatbot:
            for prompt in prompts:
                row = answer_of(chatbot, prompt)
                audio = row.pop("audio")
                heard = transcribe_long(recogniser, resample(audio, SAMPLE_RATE, 16_000), final=True).text
                wer = word_error_rate(row["spoken"], heard)
                counts = {"words": len(words(row["spoken"]).split()), "wer": round(wer, 4)}
                yield {"text": prompt, "seed": seed, **row, "heard": heard, **counts, "s": len(audio) / SAMPLE_RATE}


def summary_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Word error rate by words: over all answers with its interval, and of each prompt, the worst first."""
    prompts = sorted({row["text"] for row in rows})
    of_prompt = {prompt: interval([row for row in rows if row["text"] == prompt])["wer"] for prompt in prompts}
    worst = dict(sorted(of_prompt.items(), key=lambda item: -item[1]))
    ended = sum(row["finish_reason"] == "end_of_speech" for row in rows)
    return {"answers": len(rows), **interval(rows), "ended_by_themselves": ended, "wer_by_prompt": worst}


def main() -> None:
    """Parse the arguments, speak every answer, write the rows and the summary."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prompts", type=Path, default=HERE / "demo_prompts.txt")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--voice", default="pocket", help="pocket, or a checkpoint directory")
    parser.add_argument("--llm", default="pocket", help="pocket, or a checkpoint directory")
    parser.add_argument("--whisper", default="base.en", help="size of a bundled Whisper, or its directory")
    parser.add_argument("--save", type=Path, default=Path("results/pocket/chat"))
    args = parser.parse_args()
    recogniser = WhisperTranscriber(resolve(args.whisper))
    name = f"pocket {Path(args.whisper).name.removeprefix('whisper-')}"
    found = rows_of(read_prompts(args.prompts), range(args.seeds), args.voice, args.llm, recogniser)
    rows = [{**row, "recogniser": name} for row in found]
    summary = {"recogniser": name, **summary_of(rows)}
    save(args.save, rows, summary)
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
