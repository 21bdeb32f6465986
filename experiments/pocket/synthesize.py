"""Speak the composed sentences with flite: the speech every bundled model is trained on.

    python -m experiments.pocket.synthesize --text DIR --out DIR --workers 2

Reads ``clauses.txt``, ``brief.txt``, ``examples.txt``, ``train.txt``, ``dev.txt``, ``held_out.txt`` and
``other.txt``; writes shards of 500 utterances each: ``NAME.npy`` (int16 samples at 24 kHz, end to end) and
``NAME.json`` (a row an utterance). An example or a composed sentence is spoken by one voice, in turn; the others by
both. Finished shards are kept, so the command can be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from csmkit.audio import FRAME_SAMPLES, SAMPLE_RATE

VOICES = ("slt", "rms")  # speaker 0 and speaker 1
PHONES_PER_FRAME = 4  # one label every 20 ms
LEAD_S, TAIL_S = 0.08, 0.12  # silence kept before the first and after the last phone
LEVEL = 0.08  # root mean square of an utterance
MAX_S = 8.0
SHARD = 500
TRAINING = ("clauses", "brief", "examples", "train")
"""The splits that are trained on: what the voice is given of the language model's answers, utterances of a word or two,
WordNet's examples, and the composed sentences."""
SPLITS = ("held_out", "dev", "other", *TRAINING)
PHONES = tuple(
    [
        "pau",
        "aa",
        "ae",
        "ah",
        "ao",
        "aw",
        "ax",
        "axr",
        "ay",
        "b",
        "ch",
        "d",
        "dh",
        "dx",
        "eh",
        "el",
        "em",
        "en",
        "er",
        "ey",
        "f",
        "g",
        "hh",
        "hv",
        "ih",
        "iy",
        "jh",
        "k",
        "l",
        "m",
        "n",
        "nx",
        "ng",
        "ow",
        "oy",
        "p",
        "r",
        "s",
        "sh",
        "t",
        "th",
        "uh",
        "uw",
        "v",
        "w",
        "y",
        "z",
        "zh",
    ]
)


def parse_phones(line: str) -> list[tuple[str, float]]:
    """``"pau:0.224 w:0.315"`` as (phone, end in seconds)."""
    pairs = (item.rsplit(":", 1) for item in line.split())
    return [(phone, float(end)) for phone, end in pairs]


def speak(text: str, voice: str, scratch: Path) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """Run flite; the 16 kHz samples (float32) and the phones with their end times come back."""
    wav = scratch / "utterance.wav"
    done = subprocess.run(
        ["flite", "-voice", voice, "-psdur", "-t", text, "-o", str(wav)], capture_output=True, text=True, check=True
    )
    samples, rate = soundfile.read(wav, dtype="float32")
    if rate != 16_000:
        raise RuntimeError(f"flite voice {voice} gave {rate} Hz, expected 16000")
    return samples, parse_phones(done.stdout)


def prepare(samples: np.ndarray, phones: list[tuple[str, float]]) -> tuple[np.ndarray, list[int]] | None:
    """Trim, resample to 24 kHz, set the level, fill whole frames.

    Returns:
        int16 ``(n_frames * 1920,)`` and ``n_frames * 4`` phone ids, or None for an utterance beyond the time limit.
    """
    spoken = [i for i, (phone, _) in enumerate(phones) if phone != "pau"]
    if not spoken:
        return None
    first, last = spoken[0], spoken[-1]
    start = max((phones[first - 1][1] if first else 0.0) - LEAD_S, 0.0)
    stop = min(phones[last][1] + TAIL_S, len(samples) / 16_000)
    if not 0.2 < stop - start < MAX_S - 0.2:
        return None
    audio = soxr.resample(samples[int(start * 16_000) : int(stop * 16_000)], 16_000, SAMPLE_RATE)
    audio = audio * (LEVEL / np.sqrt(np.mean(audio**2) + 1e-12))
    n_frames = -(-len(audio) // FRAME_SAMPLES)
    audio = np.pad(audio, (0, n_frames * FRAME_SAMPLES - len(audio)))
    ends = np.array([end for _, end in phones]) - start
    times = (np.arange(n_frames * PHONES_PER_FRAME) + 0.5) * (0.08 / PHONES_PER_FRAME)
    index = np.minimum(np.searchsorted(ends, times), len(phones) - 1)
    labels = [PHONES.index(phones[i][0]) for i in index]
    return np.clip(audio * 32767, -32768, 32767).astype(np.int16), labels


def make_shard(out: Path, name: str, jobs: list[tuple[str, int]]) -> int:
    """Speak ``(text, speaker)`` jobs into one shard; how many utterances it holds comes back."""
    with tempfile.TemporaryDirectory() as scratch:
        spoken = [(text, speaker, prepare(*speak(text, VOICES[speaker], Path(scratch)))) for text, speaker in jobs]
    return write_shard(out, name, spoken)


def write_shard(out: Path, name: str, spoken: list[tuple[str, int, tuple[np.ndarray, list[int]] | None]]) -> int:
    """Write (text, speaker, (samples, phone ids)) into one shard, without those that are None; their number."""
    rows, parts, offset = [], [], 0
    for text, speaker, prepared in spoken:
        if prepared is not None:
            audio, labels = prepared
            rows.append({"text": text, "speaker": speaker, "offset": offset, "n_samples": len(audio), "phones": labels})
            parts.append(audio)
            offset += len(audio)
    np.save(out / f"{name}.npy", np.concatenate(parts))
    partial = out / f"{name}.part"
    partial.write_text(json.dumps(rows))
    partial.rename(out / f"{name}.json")  # the index appears last: a shard is whole or absent
    return len(rows)


def jobs_of(split: str, sentences: list[str]) -> list[tuple[str, int]]:
    """Which voice speaks what: training sentences in turn, brief ones and the others twice."""
    if split in {"train", "examples"}:
        return [(text, i % 2) for i, text in enumerate(sentences)]
    return [(text, speaker) for text in sentences for speaker in (0, 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=int, default=None, help="at most so many of each training text")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    work = []
    for split in SPLITS:
        sentences = [line for line in (args.text / f"{split}.txt").read_text().splitlines() if line.strip()]
        jobs = jobs_of(split, sentences[: args.limit] if split in TRAINING else sentences)
        for i in range(0, len(jobs), SHARD):
            name = f"{split}-{i // SHARD:04d}"
            if not (args.out / f"{name}.json").exists():
                work.append((args.out, name, jobs[i : i + SHARD]))
    with ProcessPoolExecutor(args.workers) as pool:
        futures = [pool.submit(make_shard, *item) for item in work]
        total = sum(future.result() for future in tqdm(futures))
    print(json.dumps({"utterances": total, "shards": len(work)}))


if __name__ == "__main__":
    main()
