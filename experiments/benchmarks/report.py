"""How a benchmark reports: a table for people, then one JSON line with where it was measured."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from csmkit.machine import environment

IN_A_ROW = ("commit", "cpu", "cores", "threads", "gpu", "torch", "transformers")  # of the environment


def peak_memory_mib() -> float:
    """Largest resident size of this process so far.

    On Linux from /proc, because getrusage counts what the process had before it became this program.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (peak_kib,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak_kib) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def summary(durations_ms: Sequence[float]) -> dict[str, float]:
    """Median, minimum and 95th percentile of durations, in ms."""
    return {
        "median_ms": round(statistics.median(durations_ms), 2),
        "min_ms": round(min(durations_ms), 2),
        "p95_ms": round(statistics.quantiles(durations_ms, n=20)[-1], 2),
    }


class Clock:
    """Wall and processor time of several contestants, in ms."""

    def __init__(self, names: Sequence[object]) -> None:
        self.wall: dict[object, list[float]] = {name: [] for name in names}
        self.cpu: dict[object, list[float]] = {name: [] for name in names}

    def time(self, name: object, call: Callable[[], object]) -> None:
        """Add one call."""
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        self.wall[name].append(1e3 * (time.perf_counter() - wall))
        self.cpu[name].append(1e3 * (time.process_time() - cpu))

    def rows(self, label: str) -> list[dict[str, Any]]:
        """A row a contestant; its ratio is to the first one."""
        first = statistics.median(next(iter(self.cpu.values())))
        rows = []
        for name, cpu in self.cpu.items():
            figures = {
                "median_ms": statistics.median(self.wall[name]),
                "min_ms": min(self.wall[name]),
                "cpu_ms": statistics.median(cpu),
                "ratio": statistics.median(cpu) / first,
            }
            rounded = {key: round(value, 2) for key, value in figures.items()}
            rows.append({"figure": label.format(name), **rounded})
        return rows


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows of equal keys as a Markdown table, numbers to the right."""
    for line in table_lines(rows):
        print(line)


def table_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Rows of equal keys as the lines of a Markdown table, numbers to the right."""
    if not rows:
        return []
    header = list(rows[0])
    cells = [[_cell(row[key]) for key in header] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(header, *cells, strict=True)]
    numeric = [isinstance(rows[0][key], int | float) for key in header]
    lines = []
    for line in (header, None, *cells):
        if line is None:
            texts = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, numeric, strict=True)]
        else:
            columns = zip(line, widths, numeric, strict=True)
            texts = [text.rjust(width) if right else text.ljust(width) for text, width, right in columns]
        lines.append("| " + " | ".join(texts) + " |")
    return lines


def fill_between(path: Path, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Put a table between ``<!-- NAME -->`` and the next ``<!-- end -->`` of a page; raises ValueError without them."""
    begin, end = f"<!-- {name} -->\n", "<!-- end -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path} has no {begin.strip()} followed by {end}: write both where the table is to be")
    path.write_text(before + found + "\n".join(table_lines(rows)) + "\n" + closed + after, encoding="utf-8")


def print_json(benchmark: str, rows: Sequence[dict[str, Any]], save: Path | None = None, **more: Any) -> None:
    """Print the last line, one JSON object of rows and environment; with ``save``, also write it there.

    Every row says on which machine and with which versions it was measured, so that rows of several runs can be put
    into one table.
    """
    measured = environment()
    here = {name: measured[name] for name in IN_A_ROW}
    report = {
        "benchmark": benchmark,
        "rows": [row | here for row in rows],
        **more,
        "environment": measured | {"date": time.strftime("%Y-%m-%d")},
    }
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_text(json.dumps(report, indent=1, default=str) + "\n", encoding="utf-8")
    print(json.dumps(report, default=str))


def add_save(parser: argparse.ArgumentParser) -> None:
    """The option that every benchmark has."""
    parser.add_argument("--save", type=Path, default=None, help="also write the JSON to this file")


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
