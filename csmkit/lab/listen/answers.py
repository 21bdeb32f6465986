"""Answers of listeners as rows, and what they say."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from csmkit.errors import InputError
from csmkit.lab.analysis.pairs import sign_test
from csmkit.lab.analysis.rows import Row, grouped
from csmkit.lab.analysis.statistics import LEAST_TEXTS, crossed_interval, scipy_stats, share_bounds
from csmkit.lab.listen.plan import REFERENCE, Item, ListeningTest
from csmkit.lab.sweep.row_file import plain

ANSWERS = "answers.jsonl"
UNITS = ("text", "listener")
MISSED_REFERENCES, LEAST_REFERENCE = 0.15, 90  # the post-screening of BS.1534-3


class AnswerFile:
    """``listening/answers.jsonl`` of a folder of results: one line an answer, on the disk when `add` returns.

    Args:
        test: the listener's test; questions that this listener has answered before are not asked again.
    """

    def __init__(self, folder: Path, test: ListeningTest) -> None:
        self._path, self._test = folder / "listening" / ANSWERS, test
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.answered = {row["item_id"] for row in read_answers(folder) if row["listener"] == test.listener}

    @property
    def n_done(self) -> int:
        """Number of questions of the test that were answered."""
        return sum(item.item_id in self.answered for item in self._test.items)

    def following(self) -> Item | None:
        """The next question; None at the end."""
        return next((item for item in self._test.items if item.item_id not in self.answered), None)

    def add(self, item: Item, answer: Any, seconds: float) -> dict[str, Any]:
        """Keep an answer.

        Args:
            answer: index of a sound, or for ``mushra`` a rating from 0 to 100 of each.

        Raises:
            InputError: an answer that is none, or a question that was answered already.
        """
        if item.item_id in self.answered:
            raise InputError(f"question {item.item_id} was answered already: go on with the next one")
        row = {
            "listener": self._test.listener,
            "kind": self._test.kind,
            "axis": self._test.axis,
            "question": self._test.question,
            "item_id": item.item_id,
            "text": item.text,
            "seed": item.seed,
            "order": list(item.names),
            **self._judged(item, answer),
            "seconds": round(float(seconds), 3),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with open(self._path, "a+b") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            begin = b"" if file.read(1) in (b"", b"\n") else b"\n"  # a line that was cut off stays a line of its own
            file.write(begin + json.dumps(plain(row), ensure_ascii=False).encode() + b"\n")
        self.answered.add(item.item_id)
        return row

    def _judged(self, item: Item, answer: Any) -> dict[str, Any]:
        if self._test.kind == "mushra":
            ratings = list(answer) if isinstance(answer, Sequence) and not isinstance(answer, str) else []
            valid = all(isinstance(value, int | float) and 0 <= value <= 100 for value in ratings)
            if len(ratings) != len(item.names) or not valid:
                raise InputError(f"answer {answer!r}: rate each of {len(item.names)} sounds from 0 to 100")
            return {"ratings": dict(zip(item.names, ratings, strict=True))}
        if answer not in (0, 1) or isinstance(answer, bool):
            raise InputError(f"answer {answer!r}: choose sound 0 or 1")
        return {"chosen": item.names[answer]} | ({"correct": answer == item.x} if item.x is not None else {})


def read_answers(folder: Path) -> list[dict[str, Any]]:
    """All answers in a folder of results; an empty list without any."""
    path = folder / "listening" / ANSWERS
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):  # cut off while it was written: that question is asked again
            found.append(json.loads(line))
    return found


def listening_rows(answers: Iterable[Row]) -> list[dict[str, Any]]:
    """What the answers say, a row each comparison.

    Returns:
        ``test``, ``question``, ``figure``, ``value``, ``low``, ``high`` of 95 %, ``p`` of no preference, chance or no
        difference from the reference, ``n`` answers, ``n_texts`` and ``n_listeners``. Shares have exact bounds as if
        answers were independent where there is one listener; with several, bounds and p are those of a bootstrap that
        draws listeners and texts, which is the interval for other listeners and other texts (the random effects of a
        mixed model). Below 12 texts there are exact bounds alone.
    """
    compared = ({**row, "settings": sorted(row["order"])} for row in answers)
    groups = grouped(compared, ["kind", "axis", "question", "settings"])
    return [found for (kind, axis, *_), rows in groups.items() for found in _compared(kind, axis, rows)]


def _compared(kind: str, axis: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    if kind == "mushra":
        return _ratings(axis, rows)
    first, second = rows[0]["settings"]
    if kind == "abx":
        return [_share(rows, f"told {axis} {first} from {second}", [row["correct"] for row in rows], kind)]
    return [_share(rows, f"preferred {axis} {first} to {second}", [row["chosen"] == first for row in rows], kind)]


def _described(rows: Sequence[Row], kind: str, figure: str) -> dict[str, Any]:
    counts = {f"n_{unit}s": len({row[unit] for row in rows}) for unit in UNITS}
    return {"test": kind, "question": rows[0]["question"], "figure": figure, "n": len(rows), **counts}


def _share(rows: Sequence[Row], figure: str, hits: Sequence[bool], kind: str) -> dict[str, Any]:
    share, n = sum(hits) / len(hits), len(hits)
    low, high = share_bounds(share, n)
    p = float(scipy_stats().binomtest(sum(hits), n).pvalue)
    if len({row["listener"] for row in rows}) > 1:
        table = [{**row, "hit": float(hit), "one": 1.0} for row, hit in zip(rows, hits, strict=True)]
        interval = crossed_interval(table, "hit", units=UNITS, weight="one")
        if interval.low is not None and interval.high is not None:
            low, high = min(low, interval.low), max(high, interval.high)  # never narrower than the exact one
            p = max(p, 0.05 if low <= 0.5 <= high else p)
    return {**_described(rows, kind, figure), "value": share, "low": low, "high": high, "p": p, "chance": 0.5}


def _ratings(axis: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Ratings of each setting minus those of the hidden reference, without listeners who do not find that one."""
    careful = _careful(rows)
    kept = [row for row in rows if row["listener"] in careful]
    if not kept:
        return []
    found = []
    for name in sorted(set(kept[0]["ratings"]) - {REFERENCE}):
        table = [{**row, "difference": row["ratings"][name] - row["ratings"][REFERENCE], "one": 1.0} for row in kept]
        interval = crossed_interval(table, "difference", units=UNITS, weight="one")
        p = sign_test(np.array([row["difference"] for row in table]))
        figure = f"rating of {axis} {name} minus the hidden reference"
        bounds = {"low": interval.low, "high": interval.high, "p": p, "chance": 0.0}
        found.append({**_described(kept, "mushra", figure), "value": interval.median, **bounds})
    return found


def _careful(rows: Sequence[Row]) -> set[str]:
    """Listeners who rate the hidden reference below 90 in at most 15 % of questions."""
    missed = {
        listener: np.mean([row["ratings"][REFERENCE] < LEAST_REFERENCE for row in asked])
        for (listener,), asked in grouped(rows, ["listener"]).items()
    }
    return {listener for listener, share in missed.items() if share <= MISSED_REFERENCES}


def listening_sentences(answers: Iterable[Row]) -> list[str]:
    """The rows of `listening_rows` in words, with what may be said of them."""
    lines = []
    for row in listening_rows(answers):
        rating = row["test"] == "mushra"
        form = "+.0f" if rating else ".0%"
        bounds = "" if row["low"] is None else f" [{row['low']:{form}}, {row['high']:{form}}]"
        n = f"{row['n']} answers of {row['n_listeners']} listener(s) on {row['n_texts']} texts"
        lines.append(f"{row['figure']}: {row['value']:{form}}{bounds}, {n}; {_verdict(row)}")
    return lines


def _verdict(row: Row) -> str:
    if row["n_texts"] < LEAST_TEXTS:
        return f"nothing can be said, at least {LEAST_TEXTS} texts are needed"
    if row["low"] is not None and not row["low"] <= row["chance"] <= row["high"] and row["p"] < 0.05:
        heard = {"abx": "the difference is heard", "ab": "a preference is shown"}
        return heard.get(row["test"], "a difference is shown")
    if row["test"] == "abx":
        return f"that anyone hears it is not shown, at most {max(0.0, 2 * row['high'] - 1):.0%} of answers know it"
    return "neither a difference nor its absence is shown"
