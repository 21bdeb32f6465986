"""How often unharmed borders are called worse than other places, and which clicks are found: docs/statistics.md.

    python -m experiments.benchmarks.seams [--texts 30] [--docs docs/statistics.md]

The bundled voice with the streaming codec: the same sound for every chunk size, so a border that is "worse" is a false
alarm. Clicks of known size are planted in the same sound.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from csmkit.audio import FRAME_SAMPLES
from csmkit.lab.analysis.columns import column_of
from csmkit.lab.analysis.pairs import HIGHER, compared_with
from csmkit.lab.metrics.seams import seam_metrics
from csmkit.lab.texts import draw_texts
from csmkit.speech.generator import Generator
from experiments.benchmarks.report import fill_between, print_table

SIZES = (1, 2, 4, 6)
LEVELS_DB = (-60, -50, -40, -30, -20)
SWEEPS, TEXTS_OF_A_SWEEP = 200, 12


def borders(n_samples: int, chunk_frames: int) -> list[int]:
    """Where chunks of so many frames would meet."""
    return list(range(chunk_frames * FRAME_SAMPLES, n_samples - FRAME_SAMPLES // 2, chunk_frames * FRAME_SAMPLES))


def false_alarms(sounds: Mapping[str, np.ndarray], chunk_frames: int) -> dict[str, Any]:
    """How borders of one chunk size are judged in sound that has none."""
    rows = []
    for text, sound in sounds.items():
        found = seam_metrics(sound, borders(len(sound), chunk_frames), sound)
        if found["seam_click_auc"] is not None:
            rows.append({"text": text, "seed": 0, **found})
    aucs = np.array([row["seam_click_auc"] for row in rows])
    random, item = np.random.default_rng(0), column_of("seam_click_auc")
    alarms = 0
    for _ in range(SWEEPS):
        some = [rows[index] for index in random.choice(len(rows), TEXTS_OF_A_SWEEP, replace=False)]
        found = compared_with(some, "codec", "streaming", 0.5, item)
        alarms += found.verdict == HIGHER and found.matters
    return {
        "frames a chunk": chunk_frames,
        "answers": len(rows),
        "pooled probability, clicks": f"{aucs.mean():.3f}",
        "dips": f"{np.mean([row['seam_dip_auc'] for row in rows]):.3f}",
        "single answers above 0.75": f"{np.mean(aucs > 0.75):.2f}",
        "sweeps of 12 texts that would say worse": f"{alarms / SWEEPS:.3f}",
    }


def planted(sounds: Mapping[str, np.ndarray], level_db: float) -> dict[str, Any]:
    """What is found of clicks of one size."""
    rows = []
    for sound in sounds.values():
        places = borders(len(sound), 2)
        loud = sound[np.abs(sound) > 1e-3]
        harmed = sound.copy()
        harmed[places] += 10 ** (level_db / 20) * float(np.sqrt(np.mean(loud**2)))
        rows.append(seam_metrics(harmed, places))
    middle = {
        name: np.median([row[name] for row in rows])
        for name in ("seam_click_auc", "seam_click_level_db", "seam_click_level_control_db")
    }
    return {
        "click beside the speech (dB)": level_db,
        "probability": f"{middle['seam_click_auc']:.2f}",
        "level (dB)": f"{middle['seam_click_level_db']:.0f}",
        "level at controls (dB)": f"{middle['seam_click_level_control_db']:.0f}",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=int, default=60, help="of both sets of texts, half of each")
    parser.add_argument("--docs", type=Path, default=None, help="file whose tables are filled in")
    options = parser.parse_args(arguments)
    voice = Generator.load("pocket", device="cpu")
    texts = [text for name in ("harvard", "conversation") for text in draw_texts(name, options.texts // 2)]
    sounds = {text: voice.generate(text, 0, [], seed=0).numpy() for text in texts}
    long_enough = {text: sound for text, sound in sounds.items() if len(sound) > 8 * FRAME_SAMPLES}
    alarms = [false_alarms(long_enough, size) for size in SIZES]
    clicks = [planted(long_enough, level) for level in LEVELS_DB]
    print_table(alarms)
    print_table(clicks)
    if options.docs is not None:
        fill_between(options.docs, "seams: false alarms", alarms)
        fill_between(options.docs, "seams: clicks", clicks)


if __name__ == "__main__":
    main()
