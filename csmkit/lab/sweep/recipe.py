"""Recipes: what a sweep varies, on which texts, and what it measures. All of it is checked before anything runs."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import csmkit.plugins as plugins
from csmkit.checks import check_integer, is_finite
from csmkit.errors import InputError
from csmkit.lab.metrics.registry import Measure
from csmkit.lab.sweep.axes import AXES, NO_RECOGNISER, check_choice, nearest
from csmkit.lab.texts import TEXT_SETS, draw_texts, read_texts
from csmkit.stack import PRESETS, Models, find_models
from csmkit.text.markup import speakable
from csmkit.text.normalize import in_words

KEEP = ("none", "clips", "audio")
RECOGNISERS = ("whisper", "fake")
_ITEM = re.compile(r"\[[^\[\]]*\]|[^,\[\]]+")


@dataclass(frozen=True)
class Recipe:
    """A sweep, complete and checked.

    Attributes:
        name: name of the experiment, and of the folder of its results.
        texts: texts that are spoken, in words.
        axes: name of each axis to its values, of which each is combined with each of the others.
        seeds: seeds of the noise; intervals are taken over texts and seeds.
        repeats: times each trial is run, for figures of time; the sound is the same each time.
        keep: ``none`` of the sound, ``clips`` of the first text and seed at each point, or the ``audio`` of all trials.
        baseline: the value of each axis that the others are compared with.
        margins: column to the smallest difference that matters; other columns have the margins of the analysis.
        asr: plugin that hears; ``whisper`` has the axis of that name.
        batch: most utterances spoken at once where no metric needs times.
        search: empty, or for a recipe with too many settings to run all: ``n_settings`` that are tried, and ``aims``,
            columns to make "lower" or "higher"; `csmkit.lab.analysis.search` runs it. An axis may then be a range, a
            table of ``low``, ``high`` and, for ratios, ``log``.
        order_seed: seeds the order in which trials are run, and the draw of the texts.
    """

    name: str
    preset: str
    texts: tuple[str, ...]
    axes: dict[str, tuple[Any, ...]]
    seeds: tuple[int, ...] = (0, 1, 2)
    repeats: int = 1
    metrics: tuple[str, ...] = ("latency", "wer")
    keep: str = "clips"
    title: str = ""
    question: str = ""
    baseline: dict[str, Any] = field(default_factory=dict)
    margins: dict[str, float] = field(default_factory=dict)
    voice: str | None = None
    speech: str = "csm"
    asr: str = "whisper"
    asr_device: str = "cpu"
    batch: int = 8
    order_seed: int = 0
    search: dict[str, Any] = field(default_factory=dict)

    @property
    def varied(self) -> tuple[str, ...]:
        """The axes with more than one value, as the recipe orders them."""
        return tuple(name for name, values in self.axes.items() if len(values) > 1)

    @property
    def hears(self) -> bool:
        """Whether a metric needs the words that were understood."""
        return any(Measure.of(name).needs("heard") for name in self.metrics)

    @property
    def times(self) -> bool:
        """Whether a metric needs to know when each chunk came; then trials run one by one."""
        return any(Measure.of(name).needs("arrivals") for name in self.metrics)

    def as_json(self) -> dict[str, Any]:
        """A plain dict, as it is kept beside the rows."""
        return json.loads(json.dumps(asdict(self)))

    def __hash__(self) -> int:
        return hash(json.dumps(self.as_json(), sort_keys=True))


KEYS = {"texts", "n_texts", "axes", *(item.name for item in fields(Recipe))} - {"name"}


def load_recipe(path: str | PathLike[str], overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: path of the TOML file; a relative path of ``texts`` begins at its folder.
        overrides: such as ``"chunk_frames=2,4,6"`` or ``"seeds=0,1"``, in place of what the file says.

    Raises:
        InputError: no such file, no TOML, or a wrong key, value or metric; the message has the nearest right one.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(str(other) for other in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        raise InputError(f"no recipe {str(path)!r}: {nearest(str(path), near) if near else 'check the path'}")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{str(path)!r} is not TOML ({error}): correct that place") from error
    if isinstance(table.get("texts"), str) and table["texts"] not in TEXT_SETS and "://" not in table["texts"]:
        table["texts"] = str(path.parent / table["texts"])
    axes = _table("axes", table.setdefault("axes", {}))
    for name, values in parse_overrides(overrides, {*AXES, *KEYS} - {"axes", "baseline", "margins", "search"}).items():
        if name in AXES:
            axes[name] = values
        else:
            if len(values) > 1 and name not in ("seeds", "metrics"):
                raise InputError(f"{name}={','.join(map(str, values))}: give one value")
            table[name] = values if name in ("seeds", "metrics") else values[0]
    return make_recipe(path.stem, table)


def make_recipe(name: str, table: Mapping[str, Any]) -> Recipe:
    """A recipe of the contents of a file; what is checked and raised is as for `load_recipe`.

    Args:
        table: keys are those of `Recipe`, and ``n_texts``: how many of the texts, drawn at random
            by ``order_seed``; without it all, in their order.
    """
    for key in table:
        if key not in KEYS:
            place = f"{key!r} is an axis: put it under [axes]" if key in AXES else nearest(key, sorted(KEYS))
            raise InputError(f"recipe {name!r} has an unknown key {key!r}: {place}")
    table = _without_ranges(table)
    preset = check_choice("preset", table.get("preset", "pocket"), PRESETS)
    models = find_models(preset)
    axes = _checked_axes(_table("axes", table.get("axes", {})), models)
    checked = {key: check(key, table[key]) for key, check in _CHECKS.items() if key in table}
    texts = _checked_texts(table.get("texts"), table.get("n_texts"), checked.get("order_seed", Recipe.order_seed))
    baseline = _checked_baseline(_table("baseline", table.get("baseline", {})), axes, models)
    recipe = Recipe(name=name, preset=preset, texts=texts, axes=axes, baseline=baseline, **checked)
    if recipe.hears and recipe.axes["whisper"] == (NO_RECOGNISER,):
        asked = f"metrics={list(recipe.metrics)} with whisper='none'"
        raise InputError(f"{asked}: words are heard by a recogniser, name one")
    return recipe


def _table(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{name}={value!r}: give a table, such as [{name}] and below it chunk_frames = 6")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{name}={value!r}: give text in quotes")
    return value


def _checked_axes(table: Mapping[str, Any], models: Models) -> dict[str, tuple[Any, ...]]:
    """All axes, those of the recipe first; one that it leaves out has its default alone."""
    axes: dict[str, tuple[Any, ...]] = {}
    for name, values in table.items():
        if name not in AXES:
            raise InputError(f"unknown axis {name!r}: {nearest(name, AXES)}")
        if isinstance(values, Mapping):
            raise InputError(f"axis {name} is a range: only a recipe with [search] takes ranges")
        listed = values if isinstance(values, list) else [values]
        if not listed:
            raise InputError(f"axis {name} has no values: give at least one, or leave the axis out")
        checked = tuple(AXES[name].check(value, models.asr_preset) for value in listed)
        if len(set(checked)) < len(checked):
            raise InputError(f"axis {name}={listed} names a value twice: give each once, and repeats for repetitions")
        axes[name] = checked
    return axes | {name: (_default(name, models),) for name in AXES if name not in axes}


def _default(axis: str, models: Models) -> Any:
    return models.asr if axis == "whisper" else AXES[axis].default


def _checked_texts(given: Any, n_texts: Any, seed: int) -> tuple[str, ...]:
    if isinstance(given, str):
        lines = read_texts(given)
    elif isinstance(given, list | tuple) and all(isinstance(text, str) for text in given):
        lines = list(given)
    else:
        raise InputError(f"texts={given!r}: give a file of one sentence a line, a list of texts, or the name of a set")
    texts = tuple(dict.fromkeys(text for line in lines if (text := in_words(speakable(line)))))
    if not texts:
        raise InputError(f"texts={given!r} hold no word: give at least one sentence")
    return texts if n_texts is None else tuple(draw_texts(texts, check_integer("n_texts", n_texts, 1), seed))


def _checked_seeds(key: str, given: Any) -> tuple[int, ...]:
    seeds = tuple(check_integer(key, seed, 0) for seed in (given if isinstance(given, list | tuple) else [given]))
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"{key}={list(seeds)}: give at least one, and each once")
    return seeds


def _checked_metrics(key: str, given: Any) -> tuple[str, ...]:
    listed = [given] if isinstance(given, str) else list(given)
    if not listed:
        raise InputError(f'{key}=[]: give at least one, such as "latency"')
    for name in listed:
        if ":" not in str(name):
            check_choice(key, name, plugins.available("metric"))
        Measure.of(name)
    return tuple(dict.fromkeys(listed))


def _checked_search(key: str, given: Any) -> dict[str, Any]:
    table = _table(key, given)
    aims = table.get("aims")
    if set(table) - {"n_settings", "aims", "ranges"} or not isinstance(aims, Mapping) or not aims:
        raise InputError(f'{key}={table}: give n_settings, and aims such as {{ttfa_ms = "lower", wer = "lower"}}')
    for column, way in aims.items():
        check_choice(f"aim {column}", way, ("lower", "higher"))
    n_settings = check_integer("n_settings", table.get("n_settings", 30), 2)
    return {"ranges": {}, **table, "n_settings": n_settings}


def _checked_margins(key: str, given: Any) -> dict[str, float]:
    table = _table(key, given)
    for name, margin in table.items():
        if not is_finite(margin) or margin <= 0:
            raise InputError(f"margin {name}={margin!r}: give the smallest difference that matters, a number above 0")
    return {name: float(margin) for name, margin in table.items()}


_CHECKS: dict[str, Callable[[str, Any], Any]] = {  # keys that need no other key to be checked
    **dict.fromkeys(("title", "question", "voice", "speech", "asr_device"), _text),
    "seeds": _checked_seeds,
    "metrics": _checked_metrics,
    "margins": _checked_margins,
    "search": _checked_search,
    "keep": partial(check_choice, allowed=KEEP),
    "asr": partial(check_choice, allowed=RECOGNISERS),
    "repeats": partial(check_integer, least=1),
    "batch": partial(check_integer, least=1),
    "order_seed": partial(check_integer, least=0),
}


def _without_ranges(table: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's table whose axes that are ranges have their ends as values, and the ranges under ``search``."""
    axes = table.get("axes", {})
    ranges = {name: value for name, value in axes.items() if isinstance(value, Mapping)} if table.get("search") else {}
    for name, value in ranges.items():
        if not {"low", "high"} <= set(value) <= {"low", "high", "log"} or not value["low"] < value["high"]:
            raise InputError(f"axis {name}={dict(value)}: give low below high, and log = true for ratios")
    ends = {name: [value["low"], value["high"]] for name, value in ranges.items()}
    return {**table, "axes": {**axes, **ends}, "search": {**table["search"], "ranges": ranges}} if ranges else {**table}


def _checked_baseline(table: Mapping[str, Any], axes: Mapping[str, tuple[Any, ...]], models: Models) -> dict[str, Any]:
    """The value of each varied axis to compare with: as given, else the default if it is among them, else the first."""
    baseline = {}
    for name in table:
        if name not in axes:
            raise InputError(f"baseline of an unknown axis {name!r}: {nearest(name, AXES)}")
    for name, values in axes.items():
        if len(values) == 1:
            continue
        value = AXES[name].check(table[name], models.asr_preset) if name in table else _default(name, models)
        if value not in values and name in table:
            raise InputError(f"baseline {name}={table[name]!r}: choose among the values of the axis, {list(values)}")
        baseline[name] = value if value in values else values[0]
    return baseline


def parse_overrides(overrides: Sequence[str], allowed: Iterable[str]) -> dict[str, list[Any]]:
    """Each name and its values.

    Args:
        overrides: ``name=value`` or ``name=value,value``; a value in brackets, such as ``[1,2,4,6]``, is a schedule.

    Raises:
        InputError: no equals sign, a name that is not allowed or comes twice, or a list that cannot be read.
    """
    parsed: dict[str, list[Any]] = {}
    known = sorted(allowed)
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise InputError(f"override {override!r}: give name=value or name=value,value, such as chunk_frames=2,4,6")
        if name not in known:
            raise InputError(f"override of an unknown {name!r}: {nearest(name, known)}")
        if name in parsed:
            raise InputError(f"{name} is overridden twice: give its values once, with commas between")
        parsed[name] = _values(override, text)
    return parsed


def _values(override: str, text: str) -> list[Any]:
    items = _ITEM.findall(text)
    if not items or ",".join(items) != text:
        raise InputError(f"override {override!r}: give values with commas between, a schedule in brackets: 2,6,[1,2,4]")
    return [_values(override, item[1:-1]) if item.startswith("[") else _scalar(item) for item in items]


def _scalar(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
