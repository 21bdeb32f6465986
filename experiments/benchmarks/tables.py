"""The tables of speed in README.md and docs/performance.md, made from results/benchmarks.

Run ``python -m experiments.benchmarks.tables`` to print them, with ``--write`` to put them into both pages, each
between its two marks. Nothing there is written by hand; a test compares. The last line is one JSON object of all
results, without their rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "benchmarks"
BEGIN, END = "<!-- speed -->\n", "<!-- end of speed -->\n"
NOT_MEASURED = "not measured yet"
SIZES = {
    "pocket": "the bundled voice's",
    "depth": "CSM-1B's layers, heads and codebooks, small widths",
    "width": "CSM-1B's widths, few layers and codebooks",
    "full": "CSM-1B",
}


def speed(results: Path = RESULTS) -> str:
    """Make all tables, Markdown; a benchmark without a result has a line that says so."""
    parts = [section(read(results / f"{name}.json")) for name, section in SECTIONS.items()]
    return "\n".join(parts)


def headlines(results: Path = RESULTS) -> str:
    """Make the README's table: five figures, CSM-1B's size first."""
    lines = []
    for name, headline in HEADLINES:
        report = read(results / f"{name}.json")
        cells = None if report is None else headline(report)
        how = f"{NOT_MEASURED} (`python -m experiments.benchmarks.{name}`)"
        lines.append(cells or (LABELS[headline], how, "", ""))
    return table(["figure", "csmkit", "compared with", "measured on"], lines)


def full_size_row(report: dict[str, Any], engine: str) -> dict[str, Any] | None:
    """The row of an engine with most threads, if it was measured at CSM-1B's size."""
    rows = [row for row in report["rows"] if (row["size"], row["engine"]) == ("full", engine)]
    return max(rows, key=lambda row: row["n_threads"], default=None)


def full_size_frame(report: dict[str, Any]) -> tuple[str, ...] | None:
    """A frame of codes at CSM-1B's size."""
    row = full_size_row(report, "int4")
    if row is None:
        return None
    speedup = f"transformers in bfloat16: {row['times_transformers']:.1f} × as long"
    return LABELS[full_size_frame], f"{row['frame_ms']:.0f} ms", speedup, hardware(report, row["n_threads"])


def full_size_sound(report: dict[str, Any]) -> tuple[str, ...] | None:
    """Speech at CSM-1B's size."""
    row = full_size_row(report, "int4")
    if row is None:
        return None
    memory = f"{row['peak_mib'] / 1024:.1f} GiB of memory, loaded in {row['load_s']:.1f} s"
    return (
        LABELS[full_size_sound],
        f"{row['rtf']:.2f} s for a second of sound",
        memory,
        hardware(report, row["n_threads"]),
    )


def codec_frame(report: dict[str, Any]) -> tuple[str, ...] | None:
    """A frame of sound by the full-size codec."""
    rows = {row["decoder"]: row for row in report["rows"]}
    ours, moshi = rows["csmkit float32"], rows.get("moshi streaming")
    than = f"moshi: {moshi['times_csmkit']:.1f} × as long" if moshi else ""
    return LABELS[codec_frame], f"{ours['median_ms']:.0f} ms", than, hardware(report)


def pocket_frame(report: dict[str, Any]) -> tuple[str, ...] | None:
    """A frame of the bundled voice."""
    alone = "80 ms of sound"
    return LABELS[pocket_frame], f"{report['frame_median_ms']:.1f} ms", alone, hardware(report)


def first_sound(report: dict[str, Any]) -> tuple[str, ...] | None:
    """The first sound of an answer whose words and sound are streamed, against one that is made whole first."""
    streamed, whole = [], []
    for token_ms in sorted({row["added a token"] for row in report["table"]}):
        rows = {row["figure (ms)"]: row for row in report["table"] if row["added a token"] == token_ms}
        when = f" (language model {token_ms:.0f} ms slower a token)" if token_ms else ""
        streamed.append(f"{rows['first audio']['clause by clause']:.0f} ms{when}")
        whole.append(f"{rows['whole sound, without streaming the first that is heard']['whole answer']:.0f} ms")
    than = f"all text, then all sound: heard after {', '.join(whole)}"
    return LABELS[first_sound], ", ".join(streamed), than, hardware(report)


LABELS: dict[Callable[[dict[str, Any]], tuple[str, ...] | None], str] = {
    full_size_frame: "CSM-1B's size, random weights, 4 bits: a frame of codes",
    full_size_sound: "the same with its full-size codec: speech",
    codec_frame: "full-size codec: a frame of sound",
    pocket_frame: "bundled voice: a frame of 80 ms, codes and sound",
    first_sound: "bundled stack: from the question to the first sound",
}
HEADLINES = (
    ("full_size", full_size_frame),
    ("full_size", full_size_sound),
    ("codec", codec_frame),
    ("pocket", pocket_frame),
    ("clauses", first_sound),
)


def hardware(report: dict[str, Any], threads: int | None = None) -> str:
    """The device of a result, in a few words."""
    seen = report["environment"]
    n = threads or seen["threads"]
    return seen["gpu"] or f"{n} thread{'s' if n > 1 else ''} of {seen['cores']} cores, {seen['cpu']}"


def read(path: Path) -> dict[str, Any] | None:
    """Read a result; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def where(report: dict[str, Any]) -> str:
    """Machine, versions and day of a result."""
    seen = report["environment"]
    device = seen["gpu"] or f"{seen['threads']} of {seen['cores']} cores, {seen['cpu']}"
    return f"{device}; torch {seen['torch']}, transformers {seen['transformers']}; {seen['date']}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Make a Markdown table; columns of numbers are aligned to the right."""
    numeric = [all(isinstance(row[index], float | int | None) for row in rows) for index in range(len(header))]
    rule = ["---:" if right else "---" for right in numeric]
    lines = [header, rule, *([cell(value) for value in row] for row in rows)]
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


def full_size(report: dict[str, Any] | None) -> str:
    """CSM-1B's real size on a CPU."""
    if report is None:
        return "CSM-1B's real size on a CPU: not measured yet (`python -m experiments.benchmarks.full_size`).\n"
    header = [
        "engine",
        "threads",
        "frame of codes, ms",
        "floor, ms",
        "× transformers",
        "with sound, ms",
        "real-time factor",
    ]
    header += ["first sound, ms", "loading, s", "memory, MiB"]
    keys = ("n_threads", "frame_ms", "floor_ms", "times_transformers", "with_sound_ms", "rtf")
    keys += ("first_sound_ms", "load_s", "peak_mib")
    size = SIZES.get(report["rows"][0]["size"], report["rows"][0]["size"])
    names = [f"{row['engine']}, {row['dtype']}" for row in report["rows"]]
    rows = [[name, *(row[key] for key in keys)] for name, row in zip(names, report["rows"], strict=True)]
    return (
        f"**The size of {size} on a CPU**, random weights, top-k 50, the full-size codec. The floor is the time to "
        f"read a frame's weights at {report['read_gb_s']} GB/s, which this machine reads; a shared cache can go below. "
        "Ratios are turn by turn, each engine beside transformers with as many threads; "
        f"the machine's load average was {report['load_average']} ({where(report)}):\n\n" + table(header, rows)
    )


def rounding(report: dict[str, Any] | None) -> str:
    """What rounded weights cost."""
    if report is None:
        return "What 4 and 8 bits cost: not measured yet (`python -m experiments.benchmarks.rounding`).\n"
    keys = (
        "variant",
        "wer_percent",
        "wer_95",
        "wer_more_percent",
        "wer_more_95",
        "ended_percent",
        "variety",
        "seconds",
    )
    header = ["weights", "word error rate, %", "95 %", "more than float32, points", "95 %", "ended by itself, %"]
    rows = [[row[key] for key in keys] for row in report["rows"]]
    rows[0][3:5] = None, None  # float32 itself
    return (
        f"**What rounding costs** the bundled voice (weights of checksum {report['weights']}): {report['n_texts']} "
        f"texts, {report['n_seeds']} seeds each, understood by the bundled {report['whisper']}; intervals over texts "
        f"and seeds ({where(report)}):\n\n"
        + table([*header, "variety", "seconds"], rows)
        + "\nThis is what a small voice loses. What CSM-1B loses is not measured: its weights are not here.\n"
    )


def rounding_logits(report: dict[str, Any] | None) -> str:
    """How far rounded weights move the logits."""
    if report is None:
        return "Logits of rounded weights: not measured yet (`experiments.benchmarks.rounding --logits full`).\n"
    keys = list(report["rows"][0])[: list(report["rows"][0]).index("commit")]
    size = SIZES.get(report["size"], report["size"])
    return (
        f"**Logits of rounded weights**, the size of {size}, random weights, {report['n_frames']} frames of the same "
        f"codes, beside the first variant: relative error, divergence in bits a code, and the share of equal most "
        f"probable codes ({where(report)}):\n\n" + table(keys, [[row[key] for key in keys] for row in report["rows"]])
    )


def reproducibility(report: dict[str, Any] | None) -> str:
    """What a seed determines."""
    if report is None:
        return "What a seed determines: not measured yet (`python -m experiments.benchmarks.reproducibility`).\n"
    keys = ("dtype", "changed", "differ", "utterances", "first frame")
    rows = [[row[key] for key in keys] for row in report["rows"]]
    return (
        f"**Utterances that get other codes** when one thing beside them changes; the voice {report['voice']!r} on "
        f"{report['device']} ({where(report)}):\n\n"
        + table(["dtype", "what is changed", "differ", "of", "first at frame"], rows)
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


def load(report: dict[str, Any] | None) -> str:
    """Many listeners of one model."""
    if report is None:
        return "Many listeners at once: not measured yet (`python -m experiments.benchmarks.load`).\n"
    counts = ("requests_per_s", "n_requests", "n_refused", "n_underruns")
    times = ("first_ms_p50", "first_ms_p95", "first_ms_p99", "audible_ms_p50", "audible_ms_p95", "audible_ms_p99")
    keys = ("load", "listeners", *counts, *times, "times_real_time", "cores_busy")
    what = (
        "the pocket voice"
        if report["size"] == "trained"
        else f"random weights, sizes of {SIZES.get(report['size'], report['size'])}"
    )
    return (
        f"**Many listeners at once**, {what}, mode {report['execution']}, chunks of {report['schedule']} frames, "
        f"{report['seconds_a_step']:.0f} s a row ({where(report)}). `speed`: read as fast as made. `listeners`: as "
        "many at any time, in real time. `arrivals`: at random, so many requests a second, up to the first rate with "
        "an underrun in both of two attempts; the last row is 80 % of the highest rate without any. `first`: from the "
        "arrival to the first chunk; `audible`: to the first sound, with the silence that the voice begins with:\n\n"
        + table(keys, [[row[key] for key in keys] for row in report["rows"]])
    )


def load_gpu(report: dict[str, Any] | None) -> str:
    """Many listeners on a GPU."""
    return "Many listeners on a GPU: not measured yet (`make bench-gpu`).\n" if report is None else load(report)


def serve(report: dict[str, Any] | None) -> str:
    """The server under load."""
    if report is None:
        return "The server under load: not measured yet (`python -m experiments.benchmarks.serve`).\n"
    counts = ("requests", "refused", "failed", "left")
    times = ("p50_ms", "p95_ms", "p99_ms", "underruns", "late_p95_ms", "memory_mib")
    keys = ("what", "requests_per_s", "listeners", *counts, *times)
    freed = " and ".join(
        f"{freed['50']:.0f} ms (at most {freed['100']:.0f}) of {what}"
        for what, freed in ((what, report[f"freed_after_{what}_ms"]) for what in ("speech", "conversation"))
    )
    return (
        f"**The server under load**, its clients on the same machine, pocket models ({where(report)}): arrivals at "
        "random, each listener plays in real time; milliseconds from the request to the first audible sound; an "
        "underrun is a sample that comes more than 20 ms after it would be played:\n\n"
        + table(keys, [[row[key] for key in keys] for row in report["rows"]])
        + f"\nAfter a client has left, its stream is free within a median of {freed}. "
        f"{sum(report['burst'].values())} requests at once were answered {statuses(report['burst'])}. "
        f"{sum(report['statuses'].values())} short requests{_short(report)}.\n"
    )


def _short(report: dict[str, Any]) -> str:
    """How many short requests were answered, and what the process held; a report without ``held`` has two looks."""
    took = f"took {report['requests_s']:.0f} s and were answered {statuses(report['statuses'])}"
    if "held" not in report:
        before, after = report["before"], report["after"]
        return (
            f" one after another, eight clients, {took}; before and after them the "
            f"process held {before['memory_mib']} and {after['memory_mib']} MiB, {before['threads']} and "
            f"{after['threads']} threads, {before['files']} and {after['files']} files"
        )
    memory, threads, files = (_range(report["held"], name) for name in ("memory_mib", "threads", "files"))
    return (
        f", {report['at_once']} at a time, {took}. Before them, and after each tenth of them, the process held "
        f"{memory} MiB, {threads} threads and {files} files"
    )


def _range(looks: list[dict[str, int]], name: str) -> str:
    """The first value, then the least and the largest of those after it."""
    first, *later = [look[name] for look in looks]
    return f"{first}, then {min(later)} to {max(later)}"


def statuses(counts: dict[str, int]) -> str:
    """How often each status came; 0 is a request without an answer."""
    return ", ".join(f"{status} {count} times" for status, count in sorted(counts.items()))


SECTIONS = {
    "full_size": full_size,
    "rounding": rounding,
    "rounding_logits": rounding_logits,
    "pocket": pocket,
    "clauses": clauses,
    "worker": worker,
    "frame": frame,
    "codec": codec,
    "growth": growth,
    "load": load,
    "serve": serve,
    "reproducibility": reproducibility,
    "gpu": gpu,
    "frame_gpu": frame_gpu,
    "load_gpu": load_gpu,
}


def figures(results: Path = RESULTS) -> dict[str, Any]:
    """Every result by its benchmark's name, without rows; None for one that was not measured."""
    reports = {name: read(results / f"{name}.json") for name in SECTIONS}
    return {name: report and {key: report[key] for key in report if key != "rows"} for name, report in reports.items()}


def inserted(text: str, tables: str) -> str:
    """Put other tables between the marks of a page; raises ValueError where it has no marks."""
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"a page without {BEGIN.strip()} and {END.strip()}: write both where the tables belong")
    return before + BEGIN + "\n" + tables + "\n" + END + after


PAGES: dict[str, Callable[[], str]] = {"README.md": headlines, "docs/performance.md": speed}


def written(name: str) -> str:
    """The text of a page with its present tables."""
    return inserted((ROOT / name).read_text(encoding="utf-8"), PAGES[name]())


def main() -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"into {' and '.join(PAGES)}")
    if parser.parse_args().write:
        for name in PAGES:
            (ROOT / name).write_text(written(name), encoding="utf-8")
    print(headlines())
    print(speed())
    print(json.dumps(figures()))


if __name__ == "__main__":
    main()
