"""Speak sentences with voices that the pocket voice was not made from, so that the Whispers hear more than two.

    python -m experiments.pocket.other_voices --text DIR --out DIR [--n 4000]

Debian's flite has awb, kal and kal16, espeak-ng its English voices; each sentence gets a voice, a speed and a pitch at
random. Training shards have the form of `experiments.pocket.synthesize`; where the voice is espeak-ng's, phones are
not known, and their labels are -100. ``other.txt`` is spoken too, to evaluate with, by the four voices `HELD_OUT` in
turn, which speak no training sentence: ``experiments.pocket.evaluate --speech OUT --split other --what original``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from csmkit.audio import FRAME_SAMPLES, SAMPLE_RATE
from experiments.pocket.synthesize import (
    LEAD_S,
    LEVEL,
    MAX_S,
    PHONES_PER_FRAME,
    SHARD,
    TAIL_S,
    parse_phones,
    prepare,
    write_shard,
)

UNKNOWN = -100
FLITE = ("awb", "kal16", "kal")
ESPEAK = ("en-us", "en-gb", "en-us+f2", "en-us+f3", "en-us+m3", "en-gb+f4", "en-us+m7", "en-gb-scotland", "en-us+Annie")
HELD_OUT = ("en-gb-x-rp", "en-us+m1", "en-us+f5", "en-gb+Andy")
ESPEAK_SHARE = 0.5
SPLITS = {"clauses": 0.3, "examples": 0.4, "train": 0.3}
"""Which texts the training sentences are drawn from, and their shares."""


@dataclass(frozen=True)
class Speaking:
    """Who speaks and how: engine ``flite`` or ``espeak``, its voice, factors of its speed and of espeak-ng's pitch."""

    engine: str
    voice: str
    speed: float = 1.0
    pitch: float = 1.0


def drawn(random: np.random.Generator) -> Speaking:
    """A voice of training, with a speed and a pitch at random."""
    engine = "espeak" if random.random() < ESPEAK_SHARE else "flite"
    voice = str(random.choice(ESPEAK if engine == "espeak" else FLITE))
    return Speaking(engine, voice, float(random.uniform(0.8, 1.25)), float(random.uniform(0.8, 1.25)))


def speak(text: str, how: Speaking, wav: Path) -> tuple[np.ndarray, list[int]] | None:
    """As `experiments.pocket.synthesize.prepare`: int16 samples at 24 kHz in whole frames, and a label every 20 ms."""
    if how.engine == "espeak":
        speed, pitch = str(round(165 * how.speed)), str(round(45 * how.pitch))
        subprocess.run(["espeak-ng", "-v", how.voice, "-s", speed, "-p", pitch, "-w", str(wav), text], check=True)
        return whole(*soundfile.read(wav, dtype="float32"))
    command = ["flite", "-voice", how.voice, "--setf", f"duration_stretch={1 / how.speed:.3f}", "-psdur", "-t", text]
    done = subprocess.run([*command, "-o", str(wav)], capture_output=True, text=True, check=True)
    samples, rate = soundfile.read(wav, dtype="float32")
    return prepare(soxr.resample(samples, rate, 16_000), parse_phones(done.stdout))


def whole(samples: np.ndarray, rate: int) -> tuple[np.ndarray, list[int]] | None:
    """Trim by loudness, resample, set the level, fill whole frames; phones are not known."""
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    first, last = max(loud[0] - int(LEAD_S * rate), 0), loud[-1] + int(TAIL_S * rate)
    audio = soxr.resample(samples[first:last], rate, SAMPLE_RATE)
    if not 0.2 < len(audio) / SAMPLE_RATE < MAX_S - 0.2:
        return None
    n_frames = -(-len(audio) // FRAME_SAMPLES)
    audio = np.pad(audio * (LEVEL / np.sqrt(np.mean(audio**2) + 1e-12)), (0, n_frames * FRAME_SAMPLES - len(audio)))
    return np.clip(audio * 32767, -32768, 32767).astype(np.int16), [UNKNOWN] * (n_frames * PHONES_PER_FRAME)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=4000, help="training utterances")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    other = (args.text / "other.txt").read_text().splitlines()
    random = np.random.default_rng(0)
    jobs = {"other-0000": [(text, Speaking("espeak", HELD_OUT[i % 4])) for i, text in enumerate(other)]}
    for split, share in SPLITS.items():
        lines = [line for line in (args.text / f"{split}.txt").read_text().splitlines() if line.strip()]
        chosen = [lines[int(i)] for i in random.permutation(len(lines))[: round(args.n * share)]]
        for start in range(0, len(chosen), SHARD):
            shard = [(text, drawn(random)) for text in chosen[start : start + SHARD]]
            jobs[f"{split}-{start // SHARD:04d}"] = shard
    for name, shard in tqdm(jobs.items()):
        if (args.out / f"{name}.json").exists():
            continue
        with tempfile.TemporaryDirectory() as scratch:
            spoken = [(text, 0, speak(text, how, Path(scratch) / "utterance.wav")) for text, how in shard]
        write_shard(args.out, name, spoken)
    print(json.dumps({"shards": len(jobs)}))


if __name__ == "__main__":
    main()
