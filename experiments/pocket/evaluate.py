"""How good the bundled models are, on sentences they never saw.

    python -m experiments.pocket.evaluate --speech DIR [--split held_out|dev|other] [--whisper base.en] [--sphinx]

``--speech`` holds flite's recordings of the sentences (from `experiments.pocket.synthesize`). Word error rates on
flite's speech itself, on what the codec makes of it, and on what the voice speaks; by the bundled Whisper and, with
``--sphinx``, by pocketsphinx. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from csmkit.asr.directory import resolve
from csmkit.asr.whisper import WhisperTranscriber
from csmkit.asr.windows import transcribe_long
from csmkit.audio import SAMPLE_RATE, resample
from csmkit.lab.metrics.words import word_error_rate
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
        clips.append(generator.generate(utterance.text, utterance.speaker, context[i], seed=i, **sampling).numpy())
        reasons[str(generator.finish_reason)] += 1
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


def score(chosen: list[Utterance], clips: list[np.ndarray], heard: list[str]) -> dict[str, float]:
    """Word error rate of all, and of each speaker."""
    rows = {"wer": word_error_rate([u.text for u in chosen], heard)}
    for speaker in (0, 1):
        mine = [i for i, u in enumerate(chosen) if u.speaker == speaker]
        rows[f"wer_speaker{speaker}"] = word_error_rate([chosen[i].text for i in mine], [heard[i] for i in mine])
    return {name: round(value, 4) for name, value in rows.items()}


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
    parser.add_argument("--save", type=Path, default=None, help="a JSON file for the report")
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
    for name in args.whisper:
        whisper = WhisperTranscriber(resolve(name))
        for what in args.what:
            start = time.perf_counter()
            heard = [transcribe_long(whisper, resample(c, SAMPLE_RATE, 16_000), final=True).text for c in clips[what]]
            seconds = time.perf_counter() - start
            report[f"{name} {what}"] = score(chosen, clips[what], heard) | {
                "s_per_clip": round(seconds / len(heard), 4)
            }
    if args.sphinx:
        for what in args.what:
            report[f"pocketsphinx {what}"] = score(chosen, clips[what], recognise(clips[what]))
    for name, value in report.items():
        print(f"{name}: {value}")
    if args.save is not None:
        args.save.parent.mkdir(parents=True, exist_ok=True)
        args.save.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
