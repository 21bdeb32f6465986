"""The sweep that the tests kill, and how it is run in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from csmkit.lab.sweep import EngineOptions, Recipe, make_recipe, run_sweep


def slow_recipe(voice: str = "SlowVoice", **changes: Any) -> Recipe:
    """Twenty-four trials of about 50 ms where nothing is changed, spoken by a class of slow_voice.py."""
    return make_recipe(
        "slow",
        {
            "texts": ["one two three", "four five", "six seven eight"],
            "axes": {"chunk_frames": [1, 2], "codec": "fake"},
            "seeds": [0, 1, 2, 3],
            "metrics": ["latency", "codes"],
            "keep": "none",
            "speech": f"slow_voice:{voice}",
            **changes,
        },
    )


def drive(folder: Path, engine: str) -> None:
    """Run it."""
    torch.set_num_threads(1)
    run_sweep(slow_recipe(), folder, engine=EngineOptions(engine, 2 if engine == "processes" else None), progress=False)
