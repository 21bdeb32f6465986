"""How good the bundled models are, on sentences they never saw.

    python -m experiments.pocket.evaluate --speech DIR [--split held_out|dev|other] [--whisper base.en] [--sphinx]

``--speech`` holds flite's recordings of the sentences (from `experiments.pocket.synthesize`). Word error rates on
flite's speech itself, on what the codec makes of it, and on what the voice speaks; by the bundled Whispers, whose rows
are called "pocket base.en", and with ``--sphinx`` by pocketsphinx. ``--save`` writes a row an utterance to SAVE.jsonl
and means by words with their intervals to SAVE.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from csmkit.asr.directory import resolve
from csmkit.asr.whisper import WhisperTranscriber
from csmkit.asr.windows import transcribe_long
from csmkit.audio import SAMPLE_RATE, resample
from csmkit.lab.analysis.statistics import crossed_interval
from csmkit.lab.metrics.words import word_error_rate, words
from csmkit.speech.generator import Generator, Segment
from experiments.pocket.features import Utterance, utterances
from experiments.pocket.sphinx import recognise


def samples_of(utterance: Utterance) -> np.ndarray:
    """Float samples at 24 kHz."""
    return utterance.samples.astype(np.float32) / 32768


def through_codec(generator: Generator, audio: np.ndarray) -> np.ndarray:
    """Encode and decode."""
    codec: Any = generator.codec
    return codec.decode_whole(codec.encode(torch.from_numpy(audio))).numpy()


def spoken(
    generator: Generator, chosen: list[Utterance], context: list[list[Segment]], **sampling: Any
) -> tuple[list[np.ndarray], dict[str, int], float]:
    """The voice's own version of each sentence, how they ended, and the real-time factor."""
    clips, reasons, start = [], Counter(), time.perf_counter()
    for i, utterance in enumerate(tqdm(chosen, desc="voice")):
        stream = generator.generate_streaming(utterance.text, utterance.speaker, context[i], seed=i, **sampling)
        clips.append(torch.cat([torch.zeros(0), *stream]).numpy())
        reasons[str(stream.finish_reason)] += 1
    seconds = time.perf_counter() - start
    return clips, dict(reasons), seconds * SAMPLE_RATE / max(sum(map(len, clips)), 1)


def earlier_turns(chosen: list[Utterance], n_turns: int, typed: bool) -> list[list[Segment]]:
    """For each sentence, other sentences of the split as the conversation before it, both speakers in turn.

    With ``typed``, the turns of the speaker who does not speak the sentence are text alone.
    """
    out = []
    for i, utterance in enumerate(chosen):
        others = [chosen[(i + 7 + 3 * k) % len(chosen)] for k in range(n_turns)]
        heard = [None if typed and u.speaker != utterance.speaker else torch.from_numpy(samples_of(u)) for u in others]
        out.append([Segment(u.speaker, u.text, audio) for u, audio in zip(others, heard, strict=True)])
    return out


def interval(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The word error rate of rows by words, with its 95 % interval over their texts (and seeds, from three on)."""
    units = [unit for unit in ("text", "seed") if all(unit in row for row in rows)]
    found = crossed_interval(rows, "wer", units=units, weight="words")
    bounds = None if found.low is None or found.high is None else [round(found.low, 4), round(found.high, 4)]
    return {"wer": round(found.median or 0.0, 4), "interval": bounds}


def rows_of(recogniser: str, material: str, chosen: list[Utterance], heard: list[str]) -> list[dict[str, Any]]:
    """A row for each utterance: who heard what, and how much of it was wrong."""
    return [
        {
            "recogniser": recogniser,
            "material": material,
            "text": utterance.text,
            "speaker": utterance.speaker,
            "heard": text,
            "words": len(words(utterance.text).split()),
            "wer": round(word_error_rate(utterance.text, text), 4),
        }
        for utterance, text in zip(chosen, heard, strict=True)
    ]


def summary_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Word error rate by recogniser and material, over all rows and of each speaker."""
    summary = {}
    for name, material in dict.fromkeys((row["recogniser"], row["material"]) for row in rows):
        mine = [row for row in rows if (row["recogniser"], row["material"]) == (name, material)]
        speakers = {f"speaker{s}": interval([row for row in mine if row["speaker"] == s]) for s in (0, 1)}
        summary[f"{name} {material}"] = {"n": len(mine), **interval(mine), **speakers}
    return summary


def save(path: Path, rows: Sequence[Mapping[str, object]], figures: Mapping[str, object]) -> None:
    """Write the rows to PATH.jsonl and the figures to PATH.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    path.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--split", default="held_out")
    parser.add_argument("--limit", type=int, default=None, help="recordings at most (two a sentence)")
    parser.add_argument("--voice", default="pocket")
    parser.add_argument("--whisper", nargs="+", default=["base.en"])
    parser.add_argument("--what", nargs="+", default=["original", "codec", "spoken"])
    parser.add_argument("--context", type=int, default=0, help="earlier turns before each sentence")
    parser.add_argument("--typed", action="store_true", help="the other speaker's earlier turns are text alone")
    parser.add_argument("--temperature", type=float, default=None)
    parser.add_argument("--topk", type=int, default=None)
    parser.add_argument("--sphinx", action="store_true")
    parser.add_argument("--save", type=Path, default=None, help="where the rows and the summary are written")
    args = parser.parse_args()
    chosen = list(utterances(args.speech, args.split))[: args.limit]
    report: dict[str, Any] = {"split": args.split, "recordings": len(chosen)}
    report |= {"context": args.context, "typed": args.typed}
    clips: dict[str, list[np.ndarray]] = {"original": [samples_of(u) for u in chosen]}
    if {"codec", "spoken"} & set(args.what):
        generator = Generator.load(args.voice, device="cpu")
        report["sampling"] = str(generator.sampling)
    if "codec" in args.what:
        clips["codec"] = [through_codec(generator, clip) for clip in tqdm(clips["original"], desc="codec")]
    if "spoken" in args.what:
        context = earlier_turns(chosen, args.context, args.typed)
        asked = {"temperature": args.temperature, "topk": args.topk}
        clips["spoken"], report["finish_reasons"], report["rtf"] = spoken(generator, chosen, context, **asked)
    rows: list[dict[str, Any]] = []
    for name in args.whisper:
        whisper = WhisperTranscriber(resolve(name))
        label = f"pocket {Path(name).name.removeprefix('whisper-')}"
        for what in args.what:
            heard = [transcribe_long(whisper, resample(c, SAMPLE_RATE, 16_000), final=True).text for c in clips[what]]
            rows += rows_of(label, what, chosen, heard)
    if args.sphinx:
        for what in args.what:
            rows += rows_of("pocketsphinx", what, chosen, recognise(clips[what]))
    report |= summary_of(rows)
    for name, value in report.items():
        print(f"{name}: {value}")
    if args.save is not None:
        save(args.save, rows, report)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
