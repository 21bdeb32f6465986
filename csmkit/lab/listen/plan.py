"""What a listener is asked, in an order of their own, with sounds of equal loudness.

``ab``      two settings of the same text and seed, in random order: which one is preferred?
``abx``     A, B and X, which is one of them: which one is X? Chance is one half.
``mushra``  all settings of the same text beside a known reference, one of them the hidden reference and one an anchor,
            the reference below 3.5 kHz: each is rated from 0 to 100 (ITU-R BS.1534-3).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from csmkit.audio import SAMPLE_RATE, amplitude, level_dbfs, read
from csmkit.errors import InputError
from csmkit.lab.analysis.pairs import shown
from csmkit.lab.analysis.rows import Row
from csmkit.lab.metrics.levels import loudness
from csmkit.lab.sweep.row_file import read_rows

KINDS = ("ab", "abx", "mushra")
REFERENCE, ANCHOR = "reference", "anchor"
TARGET_LUFS = -23.0  # EBU R 128
ANCHOR_HZ = 3_500.0  # the low anchor of BS.1534-3
MOST_SETTINGS = 8  # in one rating: more cannot be kept in mind


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        item_id: the same for all listeners.
        names: setting of each sound, in the order that this listener hears them.
        x: index of the sound that X is, of ``abx``; None for the others.
    """

    item_id: str
    text: str
    seed: Any
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    x: int | None = None

    def sound(self, index: int) -> np.ndarray:
        """``(samples,)`` float32 at 24 kHz, at -23 LUFS; of ``abx``, 2 is X. InputError for any other index."""
        place = self.x if self.x is not None and index == len(self.names) else index
        if place is None or not 0 <= place < len(self.names):
            raise InputError(f"sound {index} of {len(self.names)}: there is none")
        return matched(self.paths[place], self.names[place] == ANCHOR)


@dataclass(frozen=True)
class ListeningTest:
    """A test for one listener: questions in an order of their own, about the axis in which their sounds differ."""

    kind: str
    listener: str
    axis: str
    question: str
    items: tuple[Item, ...]


QUESTIONS = {
    "ab": "Which of the two do you prefer?",
    "abx": "Which of the two is X?",
    "mushra": "How good is each, beside the reference?",
}


def plan_test(
    folder: Path,
    kind: str,
    axis: str,
    values: Sequence[Any],
    listener: str,
    *,
    n_items: int | None = None,
    question: str | None = None,
) -> ListeningTest:
    """A test over a folder of results.

    Args:
        folder: results with rows and clips: a sweep with ``keep = "audio"``, or ``"clips"`` for a single text.
        axis: setting that is asked about; other axes have to be the same in the sounds of a question.
        values: two of it, as reports show them, such as "0.3" or "1-2-4-6"; for ``mushra`` the reference first.

    Raises:
        InputError: an unknown kind, axis or value, or no text and seed with a clip at each value.
    """
    if kind not in KINDS:
        raise InputError(f"kind={kind!r}: give one of {', '.join(KINDS)}")
    wanted = [str(value) for value in values]
    most = 2 if kind != "mushra" else MOST_SETTINGS
    if not 2 <= len(set(wanted)) <= most or len(set(wanted)) < len(wanted):
        raise InputError(f"values={wanted}: {kind} compares {'two' if most == 2 else f'two to {most}'} different ones")
    if not listener.strip():
        raise InputError("listener='': give a name or a number, which determines the order")
    groups = _groups(folder, axis, wanted)
    order = random.Random(hashlib.sha256(f"{listener} {kind} {axis}".encode()).digest())
    keys = sorted(groups)
    order.shuffle(keys)
    items = tuple(_item(kind, key, groups[key], wanted, order) for key in keys[:n_items])
    return ListeningTest(kind, listener, axis, question or QUESTIONS[kind], items)


def _groups(folder: Path, axis: str, wanted: Sequence[str]) -> dict[str, dict[str, Row]]:
    """By text, seed and other settings, the row of each value; those that have a clip of each."""
    rows = [row for row in read_rows(folder) if row.get("clip") and (folder / row["clip"]).is_file()]
    if not rows:
        raise InputError(f'{str(folder)!r} has no sound: run the sweep with keep = "audio"')
    if axis not in rows[0]:
        raise InputError(f"axis={axis!r}: these rows have none; give what the sweep varied, such as chunk_frames")
    known = {shown(row[axis]) for row in rows}
    if missing := [value for value in wanted if value not in known]:
        raise InputError(f"{axis} {missing[0]!r} has no sound: there is {', '.join(sorted(known))}")
    recipe = json.loads((folder / "recipe.json").read_text()) if (folder / "recipe.json").is_file() else {}
    others = [name for name in recipe.get("axes", {}) if name != axis]
    groups: dict[str, dict[str, Row]] = {}
    for row in rows:
        key = json.dumps([row["text"], row["seed"], *(row.get(name) for name in others)])
        groups.setdefault(key, {}).setdefault(shown(row[axis]), {**row, "path": folder / row["clip"]})
    whole = {key: found for key, found in groups.items() if set(wanted) <= set(found)}
    if not whole:
        raise InputError(f'no text and seed has a clip at each of {", ".join(wanted)}: run with keep = "audio"')
    return whole


def _item(kind: str, key: str, group: Mapping[str, Row], wanted: Sequence[str], order: random.Random) -> Item:
    sounds = [(value, group[value]["path"]) for value in wanted]
    if kind == "mushra":
        reference = group[wanted[0]]["path"]
        sounds = [(REFERENCE, reference), *sounds[1:], (ANCHOR, reference)]
    order.shuffle(sounds)
    x = order.randrange(2) if kind == "abx" else None
    row = group[wanted[0]]
    item_id = hashlib.sha256(f"{kind} {key} {wanted}".encode()).hexdigest()[:12]
    names, paths = zip(*sounds, strict=True)
    return Item(item_id, row["text"], row["seed"], names, paths, x)


@lru_cache(maxsize=64)
def matched(path: Path, anchor: bool = False) -> np.ndarray:
    """The sound of a file at -23 LUFS, or at a root mean square of -23 dBFS where it is shorter than 400 ms.

    What would clip is turned down; ``anchor`` cuts what lies above 3.5 kHz off.
    """
    samples = read(path).astype(np.float64)
    if anchor:
        spectrum = np.fft.rfft(samples)
        spectrum[np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE) > ANCHOR_HZ] = 0
        samples = np.fft.irfft(spectrum, len(samples))
    level = loudness(samples)["loudness_lufs"]
    gain = amplitude(TARGET_LUFS - (level_dbfs(samples) if level is None else level))
    peak = float(np.abs(samples).max(initial=0.0)) * gain
    return (samples * (gain if peak <= 1 else gain / peak)).astype(np.float32)
