"""From a recipe to trials, each with an identity, in a random order: slow drift of the machine favours no setting."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from csmkit.lab.sweep.axes import AXES
from csmkit.lab.sweep.recipe import Recipe
from csmkit.lab.trials.trial import TrialSettings

_SETTINGS = {item.name for item in fields(TrialSettings)} - {"seed"}


@dataclass(frozen=True)
class Planned:
    """One trial to run.

    Attributes:
        trial_id: sixteen hexadecimal digits, a hash of all that defines it, the models' checksums among it.
        text_number: position among the recipe's texts, from 0.
        repeat: number of the run among those of the same trial, from 0.
        point: value of each axis; None is the voice's own.
        context_texts: texts of the turns before, oldest first.
    """

    trial_id: str
    text: str
    text_number: int
    seed: int
    repeat: int
    point: Mapping[str, Any]
    context_texts: tuple[str, ...] = ()

    @property
    def settings(self) -> TrialSettings:
        """What `run_trial` takes."""
        asked = {name: value for name, value in self.point.items() if name in _SETTINGS}
        return TrialSettings(seed=self.seed, **asked)

    def columns(self) -> dict[str, Any]:
        """The columns of its row whether or not it succeeds."""
        own = {name: getattr(self, name) for name in ("text", "text_number", "seed", "repeat")}
        return {"trial_id": self.trial_id, **self.point, **own}


def plan(recipe: Recipe, models: Mapping[str, str | None]) -> list[Planned]:
    """All trials of a recipe, in its seeded random order.

    Args:
        models: name of each model to its checksum: ``voice``, and each value of the axis ``whisper``.
    """
    points = [dict(zip(recipe.axes, values, strict=True)) for values in itertools.product(*recipe.axes.values())]
    trials = [
        _planned(recipe, models, point, number, seed, repeat)
        for point in points
        for number, seed, repeat in itertools.product(range(len(recipe.texts)), recipe.seeds, range(recipe.repeats))
    ]
    random.Random(recipe.order_seed).shuffle(trials)
    return trials


def _planned(
    recipe: Recipe, models: Mapping[str, str | None], point: dict[str, Any], number: int, seed: int, repeat: int
) -> Planned:
    # The sentences before it in the file, so that the context of a trial depends on the recipe alone.
    before = [recipe.texts[(number - back) % len(recipe.texts)] for back in range(point["context_turns"], 0, -1)]
    defining = {
        "point": point,
        "text": recipe.texts[number],
        "context": before,
        "seed": seed,
        "repeat": repeat,
        "preset": recipe.preset,
        "plugins": [recipe.speech, recipe.asr],
        "voice": models["voice"],
        "whisper": models[point["whisper"]] if recipe.hears else None,
        "metrics": sorted(recipe.metrics),
    }
    identity = hashlib.sha256(json.dumps(defining, sort_keys=True).encode()).hexdigest()[:16]
    return Planned(identity, recipe.texts[number], number, seed, repeat, point, tuple(before))


def tasks(recipe: Recipe, trials: Iterable[Planned]) -> list[list[Planned]]:
    """What is handed to a worker at once: one trial where a metric needs times, else a batch.

    Trials of a batch differ only in what the rows of a batch may; each is in its order.
    """
    size = 1 if recipe.times else recipe.batch
    done: list[list[Planned]] = []
    growing: dict[Any, list[Planned]] = {}
    for trial in trials:
        key = (*(value for name, value in trial.point.items() if not AXES[name].batch), trial.repeat)
        if len(growing.get(key, ())) in (0, size):
            growing[key] = []
            done.append(growing[key])
        growing[key].append(trial)
    return done


def keeps_clip(recipe: Recipe, trial: Planned) -> bool:
    """Whether the sound of a trial is kept."""
    first = trial.text_number == 0 and trial.seed == recipe.seeds[0] and trial.repeat == 0
    return recipe.keep == "audio" or (recipe.keep == "clips" and first)
