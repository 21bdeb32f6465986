"""The README's tables of speed, made from results/benchmarks.

Run ``python -m experiments.benchmarks.tables`` to see them, with ``--write`` to put them into the README, between its
two marks. Nothing there is written by hand; a test compares. The last line is one JSON object of all results, without
their rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "benchmarks"
BEGIN, END = "<!-- speed: python -m experiments.benchmarks.tables --write -->\n", "<!-- end of speed -->\n"
SIZES = {
    "pocket": "the bundled voice's",
    "depth": "CSM-1B's layers, heads and codebooks, small widths",
    "width": "CSM-1B's widths, few layers and codebooks",
    "full": "CSM-1B",
}


def speed(results: Path = RESULTS) -> str:
    """All tables, Markdown; of a benchmark without a result it is said that it was not run."""
    parts = [section(read(results / f"{name}.json")) for name, section in SECTIONS.items()]
    return "\n".join(parts)


def read(path: Path) -> dict[str, Any] | None:
    """A result; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def where(report: dict[str, Any]) -> str:
    """Machine, versions and day of a result."""
    seen = report["environment"]
    device = seen["gpu"] or f"{seen['threads']} of {seen['cores']} cores, {seen['cpu']}"
    return f"{device}; torch {seen['torch']}, transformers {seen['transformers']}; {seen['date']}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, all but the first column to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *([cell(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(value: object) -> str:
    """A number with two places, else what it is; nothing for None."""
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def pocket(report: dict[str, Any] | None) -> str:
    """The whole pocket stack."""
    if report is None:
        return "The pocket stack: not measured yet (`python -m experiments.benchmarks.pocket`).\n"
    rows = [[row["figure"], float(row["p50"]), float(row["p95"])] for row in report["table"]]
    return (
        f"**A turn of the pocket stack**, {report['turns']} turns, each a first one, with the recogniser at work "
        f"beside the voice; milliseconds unless a unit is named ({where(report)}):\n\n"
        + table(["figure", "median", "95th percentile"], rows)
        + f"\nA frame of 80 ms takes {report['frame_median_ms']:.1f} ms, voice and codec together "
        f"({report['frame_p95_ms']:.1f} ms at the 95th percentile). Loading takes {report['load_csm_s']:.1f} s for the "
        f"voice, {report['load_whisper_s']:.1f} s for Whisper, {report['load_llm_s']:.1f} s for the language model; "
        f"peak memory is {report['peak_memory_mib']:.0f} MiB.\n"
    )


def clauses(report: dict[str, Any] | None) -> str:
    """Clause by clause against the whole answer."""
    if report is None:
        return "Speaking while the answer is written: not measured yet (`python -m experiments.benchmarks.clauses`).\n"
    header = ["figure (ms)", "added to each token", "clause by clause", "whole answer", "saved"]
    keys = ("figure (ms)", "added a token", "clause by clause", "whole answer", "saved")
    return (
        "**Speaking clause by clause** while the language model writes, against waiting for its whole answer, medians "
        f"over the same prompts ({where(report)}):\n\n"
        + table(header, [[row[key] for key in keys] for row in report["table"]])
    )


def worker(report: dict[str, Any] | None) -> str:
    """The recogniser's neighbours."""
    if report is None:
        return "What the recogniser takes from others: not measured yet (`python -m experiments.benchmarks.worker`).\n"
    keys = ("puts", "n", "p50_ms", "p99_ms", "max_ms")
    voice = report["voice"]
    return (
        f"**Beside the recogniser** ({where(report)}): the voice takes {voice['ratio']:.2f} times as long as alone "
        f"(median of the rounds; 90th percentile {voice['ratio_p90']:.2f}). Handing it sound:\n\n"
        + table(
            ["puts", "count", "median ms", "99th percentile ms", "longest ms"],
            [[row[key] for key in keys] for row in report["rows"]],
        )
    )


def frame(report: dict[str, Any] | None) -> str:
    """The language model against transformers."""
    if report is None:
        return "A frame against transformers: not measured yet (`python -m experiments.benchmarks.frame`).\n"
    header = ["size", "engine", "sampling", "median ms", "processor ms", "times transformers"]
    keys = ("engine", "sampling", "median_ms", "cpu_ms", "speedup")
    rows = [[SIZES.get(row["size"], row["size"]), *(row[key] for key in keys)] for row in report["rows"]]
    return (
        "**A frame of codes**, random weights, the same for both, greedy codes equal; the last column by processor "
        f"time, which leaves out what other programs took ({where(report)}):\n\n" + table(header, rows)
    )


def frame_gpu(report: dict[str, Any] | None) -> str:
    """The language model against transformers, on a GPU."""
    if report is None:
        return "A frame against transformers on a GPU: not measured yet (`make bench-gpu`).\n"
    header = ["size", "engine", "sampling", "median ms", "fastest ms", "times transformers"]
    keys = ("engine", "sampling", "median_ms", "min_ms", "speedup")
    rows = [[SIZES.get(row["size"], row["size"]), *(row[key] for key in keys)] for row in report["rows"]]
    return (
        f"**A frame of codes on a GPU**, {report['dtype']}, random weights, the same for both "
        f"({where(report)}):\n\n" + table(header, rows)
    )


def codec(report: dict[str, Any] | None) -> str:
    """The codec against moshi."""
    if report is None:
        return "The codec against moshi: not measured yet (`python -m experiments.benchmarks.codec`).\n"
    keys = ("decoder", "median_ms", "min_ms", "cpu_ms", "times_csmkit")
    rows = [[row[key] for key in keys] for row in report["rows"]]
    return (
        "**A frame of sound**, full-size Mimi with random weights, one frame a call; the last column by processor time "
        f"({where(report)}):\n\n"
        + table(["decoder", "median ms", "fastest ms", "processor ms", "times csmkit's"], rows)
    )


def growth(report: dict[str, Any] | None) -> str:
    """Positions, turns and rows."""
    if report is None:
        return "Growth with the context: not measured yet (`python -m experiments.benchmarks.growth`).\n"
    rows = [[row["figure"], row["median_ms"], row["cpu_ms"], row["ratio"]] for row in report["rows"]]
    speeds = [[row["figure"], row["times_real_time"]] for row in report["throughput"]]
    return (
        f"**Growth** of the pocket voice, ratios by processor time ({where(report)}; peak memory "
        f"{report['peak_memory_mib']} MiB):\n\n"
        + table(["figure", "median ms", "processor ms", "ratio"], rows)
        + "\n"
        + table(["rows at once", "times real time, all together"], speeds)
    )


def gpu(report: dict[str, Any] | None) -> str:
    """CSM-1B's geometry on a GPU."""
    if report is None:
        return (
            "Not measured yet: anything on a GPU. `python -m experiments.benchmarks.gpu` measures all of it in one "
            "command; so far it has only run at a small size on a CPU.\n"
        )
    keys = ("mode", "batch", "frame_ms", "late_frame_ms", "first_audio_ms", "gb_per_s", "times_real_time", "memory_gb")
    return (
        f"**CSM-1B's geometry, random weights, bfloat16** ({where(report)}; a plain copy moves "
        f"{report['copy_gb_per_s']} GB/s):\n\n" + table(keys, [[row[key] for key in keys] for row in report["rows"]])
    )


SECTIONS = {
    "pocket": pocket,
    "clauses": clauses,
    "worker": worker,
    "frame": frame,
    "codec": codec,
    "growth": growth,
    "gpu": gpu,
    "frame_gpu": frame_gpu,
}


def figures(results: Path = RESULTS) -> dict[str, Any]:
    """Every result by its benchmark's name, without rows; None for one that was not measured."""
    reports = {name: read(results / f"{name}.json") for name in SECTIONS}
    return {name: report and {key: report[key] for key in report if key != "rows"} for name, report in reports.items()}


def inserted(text: str, tables: str) -> str:
    """A README with other tables between its marks."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + tables + "\n" + END + rest.partition(END)[2]


def main() -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into the README")
    if parser.parse_args().write:
        readme = ROOT / "README.md"
        readme.write_text(inserted(readme.read_text(encoding="utf-8"), speed()), encoding="utf-8")
    print(speed())
    print(json.dumps(figures()))


if __name__ == "__main__":
    main()
