"""Train every bundled model again, from text to checkpoint directories: what ``make pocket`` runs.

    python -m experiments.pocket.all [--work DIR] [--out csmkit/pocket] [--scale 1.0] [--only STEP ...] [--list]

Each step is a command of its own, printed before it runs. What is finished is not done again, and a training that was
stopped goes on from its checkpoint, so the whole can be interrupted at any time. ``--scale`` multiplies the minutes of
every training. Debian's packages flite, espeak-ng and wordnet are needed; a GPU is used when there is one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SENTENCES = 20_000


@dataclass(frozen=True)
class Step:
    """A command, and the file that shows it is finished."""

    name: str
    module: str
    arguments: tuple[str, ...]
    done: Path | None = None
    minutes: float = 0.0


def steps(work: Path, out: Path) -> list[Step]:
    """All steps in an order that can be run one after another."""
    text, speech, codes = work / "text", work / "speech", work / "codes"
    quantiser, copies, voices = codes / "quantiser.safetensors", work / "speech_codec", work / "speech_voices"
    tokens = ("--data", f"{speech}", "--codes", f"{codes}", "--quantiser", f"{quantiser}")
    base, again, mean = work / "whisper-base.en", work / "whisper-base.en-again", work / "whisper-base.en-mean"

    def whisper(size: str, minutes: float, *more: str, name: str = "") -> Step:
        name = name or f"whisper-{size}"
        folders = ("--data", f"{speech}", f"{copies}", f"{voices}", "--text", f"{text}", "--out", f"{work / name}")
        return Step(name, "train_whisper", ("--size", size, *folders, *more), None, minutes)

    def export_whisper(size: str, run: Path) -> Step:
        arguments = ("whisper", "--size", size, "--run", f"{run}", "--out", f"{out / f'whisper-{size}'}")
        return Step(f"export-whisper-{size}", "export", arguments)

    runs = {name: work / name for name in ("voice", "decoder", "encoder")}
    exported = [item for name, run in runs.items() for item in (f"--{name}", f"{run}")]
    return [
        Step("text", "text.build", ("--out", f"{text}"), text / "train.txt"),
        Step("speech", "synthesize", ("--text", f"{text}", "--out", f"{speech}", "--limit", f"{SENTENCES}")),
        Step("quantise", "quantize", ("--data", f"{speech}", "--out", f"{codes}")),
        Step("decoder", "train_decoder", (*tokens, "--out", f"{runs['decoder']}"), None, 45),
        Step("encoder", "train_encoder", (*tokens, "--out", f"{runs['encoder']}"), None, 60),
        Step("voice", "train_voice", (*tokens, "--out", f"{runs['voice']}", "--rows", "2400"), None, 145),
        Step(
            "copies",
            "reconstruct",
            (*tokens, "--decoder", f"{runs['decoder']}", "--out", f"{copies}", "--shards", "12"),
        ),
        Step("other_voices", "other_voices", ("--text", f"{text}", "--out", f"{voices}")),
        whisper("base.en", 145),
        whisper("base.en", 20, "--start-from", f"base.en={base}", "--rate", "0.3", name=again.name),
        Step(mean.name, "mean_weights", ("--size", "base.en", "--of", f"{base}", f"{again}", "--out", f"{mean}")),
        whisper("tiny.en", 50, "--start-from", f"base.en={base}", "--rate", "0.5"),
        whisper("small.en", 135, "--start-from", f"base.en={base}", "--rate", "0.5"),
        Step(
            "llm", "train_llm", ("--data", f"{text}", "--run", f"{work / 'llm'}", "--out", f"{out / 'llm'}"), None, 115
        ),
        Step(
            "export-voice",
            "export",
            ("voice", *exported, "--quantiser", f"{quantiser}", "--out", f"{out / 'voice'}"),
        ),
        export_whisper("tiny.en", work / "whisper-tiny.en"),
        export_whisper("base.en", mean),
        export_whisper("small.en", work / "whisper-small.en"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("experiments/pocket/work"))
    parser.add_argument("--out", type=Path, default=Path("csmkit/pocket"))
    parser.add_argument("--scale", type=float, default=1.0, help="of the minutes of every training")
    parser.add_argument("--only", nargs="+", default=None, help="names of steps")
    parser.add_argument("--list", action="store_true", help="show the commands and stop")
    args = parser.parse_args()
    missing = [name for name in ("flite", "espeak-ng") if shutil.which(name) is None]
    if not args.list and missing:
        raise SystemExit(f"not installed: {', '.join(missing)}; apt-get install flite espeak-ng wordnet")
    for step in steps(args.work, args.out):
        if args.only is not None and step.name not in args.only:
            continue
        length = ("--minutes", f"{step.minutes * args.scale:g}") if step.minutes else ()
        command = [sys.executable, "-m", f"experiments.pocket.{step.module}", *step.arguments, *length]
        print(f"== {step.name}: {' '.join(command[1:])}", flush=True)
        if args.list or (step.done is not None and step.done.exists()):
            continue
        subprocess.run(
            command, check=True, env=os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
        )


if __name__ == "__main__":
    main()
