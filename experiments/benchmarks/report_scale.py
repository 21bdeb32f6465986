"""How long a report of many rows takes and how much memory: the last line is one JSON object.

python -m experiments.benchmarks.report_scale [--rows 100000] [--save results/benchmarks/report_scale.json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from csmkit.lab.report import build_report
from experiments.benchmarks.report import add_save, peak_memory_mib, print_json

SETTINGS, SEEDS = 10, 10


def write_rows(folder: Path, n_rows: int) -> None:
    """Rows of a sweep of ten chunk sizes; what they measure is noise around a plain effect."""
    random = np.random.default_rng(0)
    n_texts = n_rows // (SETTINGS * SEEDS)
    constant = {f"version_{index}": f"1.{index}.0" for index in range(25)}
    folder.mkdir(parents=True)
    with (folder / "rows.jsonl").open("w") as file:
        for index in range(n_texts * SETTINGS * SEEDS):
            text, rest = divmod(index, SETTINGS * SEEDS)
            size, seed = divmod(rest, SEEDS)
            row = {
                "trial_id": f"{index:016x}",
                "metrics": "latency,seams,wer",
                "error": None,
                "chunk_frames": size + 1,
                "text": f"sentence number {text} of many",
                "text_number": text,
                "seed": seed,
                "repeat": 0,
                "n_words": 4 + text % 8,
                "finish_reason": "end_of_speech",
                "started": f"2026-01-01T00:00:{index % 60:02}",
                **constant,
                **{f"other_{number}": round(random.normal(), 6) for number in range(15)},
                "ttfa_ms": round(10 * size + random.normal(20, 3), 4),
                "max_underrun_ms": 0.0,
                "rtf": round(random.normal(0.2, 0.02), 6),
                "seam_click_auc": round(random.uniform(0, 1), 4),
                "seam_dip_auc": round(random.uniform(0, 1), 4),
                "seam_click_level_db": round(random.normal(-35, 3), 3),
                "wer": round(random.binomial(4 + text % 8, 0.1) / (4 + text % 8), 6),
                "final_after_ms": round(random.normal(20, 4), 3),
            }
            file.write(json.dumps(row) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    add_save(parser)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "many", options.rows)
        wall, cpu = time.perf_counter(), time.process_time()
        build_report(Path(folder) / "many")
        found = {
            "rows": options.rows,
            "wall_s": round(time.perf_counter() - wall, 1),
            "cpu_s": round(time.process_time() - cpu, 1),
            "peak_mib": round(peak_memory_mib()),
        }
    print_json("report_scale", [found], options.save)


if __name__ == "__main__":
    main()
