"""How well turns are found and how soon they are answered, over recorded conversations.

    python -m experiments.live.evaluate [--out results/live] [--voices flite-awb]
    python -m experiments.live.evaluate --sweep experiments/live/turns.toml

Five voices that no model here was trained on (espeak-ng, flite) hold a conversation each with the bundled models, over
noise at 40, 20 and 10 dB below the speech, with pauses inside sentences, coughs, interruptions, and the voice's echo at
25 dB below what is played. The clock is the sound's; work counts as processor time (see `csmkit.live.recorded`).

With ``--sweep``, the settings of a recipe are varied, and fakes answer: it is about turns alone, and takes minutes.

One row a turn goes to ``turns.jsonl``, and a table to ``turns.md``. With ``--sweep``, one row a setting and noise goes
to ``sweep.jsonl``, and its report, a table and a figure, to ``sweep.md`` and ``sweep.png``.
The last line printed is one JSON object with the figures of all.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.audio import SAMPLE_RATE
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.errors import InputError
from csmkit.live.conversation import LiveConversation
from csmkit.live.recorded import Conversation, SoundClock, converse
from csmkit.live.turn_detector import TurnDetection, TurnDetector
from csmkit.llm.transformers import FakeLLM
from csmkit.speech.base import FakeGenerator, SpeechGenerator
from csmkit.stack import Stack
from experiments.benchmarks.report import fill_between, table_lines
from experiments.live.users import SPEECH_DBFS, VOICES, Said, ScriptedUser, script

NOISES_DB = (40.0, 20.0, 10.0)  # below the speech
ECHO_DB = -25.0  # of the voice at the microphone
ECHO_DELAY = round(0.06 * SAMPLE_RATE)
FAKE_ANSWER = "well that is a nice thing to say and i am glad to hear it"
EARLY_S = 0.15  # an end found earlier than this before the true one has cut the turn off


class Echo:
    """What comes back of the voice: later, and less loud."""

    def __init__(self) -> None:
        self._late = np.zeros(ECHO_DELAY, np.float32)

    def __call__(self, played: np.ndarray) -> np.ndarray:
        joined = np.concatenate([self._late, played])
        self._late = joined[len(played) :]
        return joined[: len(played)] * np.float32(10 ** (ECHO_DB / 20))


def hold(
    voice: str, noise_db: float, detection: TurnDetection, models: tuple[SpeechGenerator, Any, StreamingWhisperASR]
) -> tuple[ScriptedUser, Conversation]:
    """One conversation. The user's clips are the same for every setting."""
    clock, seed = SoundClock(), list(VOICES).index(voice)
    generator, llm, asr = models
    user = ScriptedUser(script(voice, np.random.default_rng(seed)), SPEECH_DBFS - noise_db, seed)
    chatbot = StreamingConversationalChatbot(generator=generator, llm=llm, asr=False, clock=clock, seed=seed)
    with chatbot:
        live = LiveConversation(chatbot, asr, TurnDetector(detection), clock)
        return user, converse(live, user, clock, echo=Echo())


def rows_of(user: ScriptedUser, held: Conversation, **columns: Any) -> list[dict[str, Any]]:
    """One row for each thing that the user did, and one for the conversation's false interruptions."""
    rows = [_row(said, held) | columns for said in user.said]
    false = [event for event in held.events if event["type"] == "interrupted" and not _during_speech(event, user.said)]
    minutes = len(held.microphone) / SAMPLE_RATE / 60
    voice_minutes = float(np.count_nonzero(held.voice)) / SAMPLE_RATE / 60
    return [*rows, columns | {"kind": "conversation", "n_false_barge_ins": len(false), "minutes": minutes,
                              "voice_minutes": voice_minutes}]  # fmt: skip


def _during_speech(event: dict[str, Any], said: Sequence[Said]) -> bool:
    spoken = (done for done in said if done.item.kind != "cough")
    return any(done.start_s - 0.1 <= event["time_s"] <= done.end_s + 0.3 for done in spoken)


def _row(said: Said, held: Conversation) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": said.item.kind, "text": said.item.text, "start_s": said.start_s, "end_s": said.end_s}
    if said.item.kind == "cough":
        answered = [
            e for e in held.events if e["type"] == "user_text" and said.start_s < e["time_s"] < said.end_s + 1.5
        ]
        return row | {"answered": bool(answered)}
    stops = [event for event in held.events if event["type"] == "speech_stopped"]
    inside = [event for event in stops if said.start_s < event["audio_s"] < said.end_s - EARLY_S]
    ends = [e for e in stops if said.end_s - EARLY_S <= e["audio_s"] <= said.end_s + 0.5]
    row |= {"found": bool(ends), "cut_off": bool(inside)}
    broken = [e for e in held.events if e["type"] == "interrupted" and 0 <= e["time_s"] - said.start_s < 1.5]
    if said.item.kind == "barge_in":
        row["to_silence_ms"] = (broken[0]["time_s"] + 0.02 - said.start_s) * 1000 if broken else None
    if ends:
        row |= _answer(said, held, ends[0])
    return row


def _answer(said: Said, held: Conversation, stop: dict[str, Any]) -> dict[str, Any]:
    of_turn = [event for event in held.events if event["turn"] == stop["turn"]]
    row: dict[str, Any] = {"detected_ms": (stop["time_s"] - said.end_s) * 1000}
    texts = [event["text"] for event in of_turn if event["type"] == "user_text"]
    row["heard"] = texts[-1] if texts else ""
    done = [event["metrics"] for event in of_turn if event["type"] == "turn_done"]
    if done and done[-1]["end_to_audible_ms"] is not None:
        figures = done[-1]
        own_end_ms = (stop["audio_s"] - said.end_s) * 1000  # how far the end that was found is from the true one
        row["audible_ms"] = figures["end_to_audible_ms"] + own_end_ms
        row["own_ms"] = row["audible_ms"] - figures["silence_ms"]
        row |= {name: figures[name] for name in ("end_to_prepared_ms", "end_to_text_ms", "end_to_first_word_ms",
                "end_to_first_audio_ms", "end_to_handed_out_ms", "n_dropped_answers", "audio_s")}  # fmt: skip
    return row


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of many rows; times are medians in milliseconds."""
    turns = [row for row in rows if row["kind"] in ("turn", "barge_in")]
    whole = [row for row in rows if row["kind"] == "conversation"]
    coughs = [row for row in rows if row["kind"] == "cough"]
    minutes = sum(row["minutes"] for row in whole)
    silences = [row["to_silence_ms"] for row in rows if row.get("to_silence_ms") is not None]
    breaks = [row for row in rows if row["kind"] == "barge_in"]
    return {
        "n_turns": len(turns),
        "found": _mean([row["found"] for row in turns]),
        "cut_off": _mean([row["cut_off"] for row in turns]),
        "false_barge_ins_per_10_min": 10 * sum(row["n_false_barge_ins"] for row in whole) / minutes,
        "minutes": minutes,
        "coughs_answered": sum(row["answered"] for row in coughs),
        "n_coughs": len(coughs),
        "barge_ins_found": sum(row["to_silence_ms"] is not None for row in breaks),
        "n_barge_ins": len(breaks),
        "to_silence_p50_ms": _percentile(silences, 50),
        "to_silence_p95_ms": _percentile(silences, 95),
        "detected_p50_ms": _percentile([row["detected_ms"] for row in turns if "detected_ms" in row], 50),
        "audible_p50_ms": _percentile([row["audible_ms"] for row in turns if "audible_ms" in row], 50),
        "audible_p95_ms": _percentile([row["audible_ms"] for row in turns if "audible_ms" in row], 95),
        "own_p50_ms": _percentile([row["own_ms"] for row in turns if "own_ms" in row], 50),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if len(values) else None


def table(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """A Markdown table of the summaries, by the values of some columns."""
    settings = sorted({tuple(row[name] for name in names) for row in rows})
    summaries = [
        summary([row for row in rows if tuple(row[name] for name in names) == setting]) for setting in settings
    ]
    head = [*names, *summaries[0]]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for setting, figures in zip(settings, summaries, strict=True):
        lines.append(f"| {' | '.join([*map(_shown, setting), *map(_shown, figures.values())])} |")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)


def evaluate(voices: Sequence[str], keep: Callable[[list[dict[str, Any]]], None]) -> list[dict[str, Any]]:
    """All conversations of the default settings, with the bundled models; ``keep`` gets the rows so far after each."""
    rows: list[dict[str, Any]] = []
    with Stack("pocket") as stack:
        torch.set_num_threads(1)
        models = (stack.voice, stack.language_model, stack.recogniser())
        for noise_db, voice in product(NOISES_DB, voices):
            user, held = hold(voice, noise_db, TurnDetection(), models)
            fresh = rows_of(user, held, voice=voice, noise_db=noise_db)
            print(voice, noise_db, json.dumps(summary(fresh)), flush=True)
            rows += fresh
            keep(rows)
    return rows


@dataclass(frozen=True)
class TurnRecipe:
    """A sweep over settings of turn detection.

    Attributes:
        title, question: what the report is headed with.
        voices: names in `VOICES`.
        noises_db: levels of the noise, in dB below the speech.
        axes: values of each setting, a field of `TurnDetection`; all combinations are run.

    Raises:
        InputError: an unknown voice or setting.
    """

    title: str
    question: str
    voices: Sequence[str]
    noises_db: Sequence[float]
    axes: Mapping[str, Sequence[float]]

    def __post_init__(self) -> None:
        allowed = {"voices": list(VOICES), "axes": [field.name for field in fields(TurnDetection)]}
        for name, known in allowed.items():
            if unknown := [given for given in getattr(self, name) if given not in known]:
                raise InputError(f"{name}: {unknown[0]!r} is none of {', '.join(known)}")

    def settings(self) -> list[dict[str, float]]:
        """Every combination, by the names of the axes."""
        return [dict(zip(self.axes, values, strict=True)) for values in product(*self.axes.values())]


def read_turn_recipe(path: Path) -> TurnRecipe:
    """The recipe of a TOML file; raises InputError for keys that are missing or unknown."""
    given, known = tomllib.loads(path.read_text()), [field.name for field in fields(TurnRecipe)]
    if set(given) != set(known):
        raise InputError(f"{path}: has {', '.join(given)}; a recipe has {', '.join(known)}")
    return TurnRecipe(**given)


def sweep(recipe: TurnRecipe) -> list[dict[str, Any]]:
    """The figures of all conversations for each setting and noise; fakes recognise and answer, only turns count."""
    rows = []
    for setting in recipe.settings():
        end_ms = min(TurnDetection.probable_end_ms, setting.get("silence_ms", TurnDetection.silence_ms))
        detection = TurnDetection(**{"probable_end_ms": end_ms} | setting)
        with StreamingWhisperASR(transcriber=FakeTranscriber("yes " * 500), duty=1.0) as asr:
            models = (FakeGenerator(), FakeLLM([FAKE_ANSWER]), asr)
            for noise_db in recipe.noises_db:
                held = [(voice, hold(voice, noise_db, detection, models)) for voice in recipe.voices]
                turns = [row for voice, (user, made) in held for row in rows_of(user, made, voice=voice)]
                rows.append(setting | {"noise_db": noise_db} | summary(turns))
        print(json.dumps(setting), flush=True)
    return rows


SHOWN = {  # of a summary, what the pages show, with its scale and unit
    "found": ("ends found", 100, "%"),
    "cut_off": ("cut off", 100, "%"),
    "false_barge_ins_per_10_min": ("false barge-ins", 1, "in 10 min"),
    "detected_p50_ms": ("end of speech to turn over, median", 1, "ms"),
    "to_silence_p50_ms": ("barge-in to silence, median", 1, "ms"),
}
SHOWN_ANSWERED = SHOWN | {  # where models answer
    "barge_ins_found": ("barge-ins that stopped the voice", 1, "count"),
    "n_barge_ins": ("barge-ins", 1, "count"),
    "audible_p50_ms": ("end of speech to first audible sound, median", 1, "ms"),
    "own_p50_ms": ("without the silence asked for", 1, "ms"),
}
PAGE = Path(__file__).parents[2] / "docs" / "talk.md"


def report(recipe: TurnRecipe, rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Write ``sweep.md`` and ``sweep.png``: the means over the noises, each of which counts the same."""
    names = list(recipe.axes)
    means = [setting | _means(rows, setting) for setting in recipe.settings()]
    lines = [f"# {recipe.title}", "", recipe.question, "", *table_lines(titled(means, names, SHOWN))]
    lines += ["", "![Turns that were cut off, and the time until the end is found](sweep.png)", ""]
    (out / "sweep.md").write_text("\n".join(lines))
    _draw(names, means, out / "sweep.png")


def titled(rows: Sequence[Mapping[str, Any]], names: Sequence[str], shown: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows with the columns of a page, as text under their titles."""
    columns = {name: name for name in names} | {name: f"{title} ({unit})" for name, (title, _, unit) in shown.items()}
    return [{title: _shown(row[name]) for name, title in columns.items()} for row in rows]


def turn_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """The table of the default settings, by the level of the noise."""
    found = []
    for noise_db in sorted({row["noise_db"] for row in rows}, reverse=True):
        figures = summary([row for row in rows if row["noise_db"] == noise_db])
        scaled = {name: figures[name] and figures[name] * scale for name, (_, scale, _) in SHOWN_ANSWERED.items()}
        found.append({"noise below the speech (dB)": noise_db} | scaled)
    return titled(found, ["noise below the speech (dB)"], SHOWN_ANSWERED)


def _means(rows: Sequence[dict[str, Any]], setting: Mapping[str, float]) -> dict[str, float | None]:
    ours = [row for row in rows if all(row[name] == value for name, value in setting.items())]
    found = {name: [row[name] for row in ours if row[name] is not None] for name in SHOWN}
    return {name: SHOWN[name][1] * float(np.mean(values)) if values else None for name, values in found.items()}


def _draw(names: Sequence[str], means: Sequence[dict[str, Any]], path: Path) -> None:
    """Cut-off turns over the time until the end is found, a line for each value of the first axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for value in sorted({row[names[0]] for row in means}):
        ours = [row for row in means if row[names[0]] == value]
        label = f"{names[0]} {value:g}"
        axes.plot([row["detected_p50_ms"] for row in ours], [row["cut_off"] for row in ours], "o-", label=label)
    axes.set(xlabel="end of speech to turn over, median (ms)", ylabel="turns cut off (%)")
    axes.legend()
    figure.savefig(path, dpi=100)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/live"))
    parser.add_argument("--voices", nargs="+", choices=list(VOICES), default=list(VOICES))
    parser.add_argument("--sweep", type=Path, metavar="RECIPE", help="such as experiments/live/turns.toml")
    parser.add_argument("--write", action="store_true", help="put the table into docs/talk.md, too")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.sweep is not None:
        recipe = read_turn_recipe(given.sweep)
        rows = sweep(recipe)
        _write_rows(given.out / "sweep.jsonl", rows)
        report(recipe, rows, given.out)
        if given.write:
            means = [setting | _means(rows, setting) for setting in recipe.settings()]
            fill_between(PAGE, "sweep", titled(means, list(recipe.axes), SHOWN))
        print(json.dumps({"settings": len(recipe.settings()), "rows": len(rows)}))
        return

    def keep(rows: list[dict[str, Any]]) -> None:
        _write_rows(given.out / "turns.jsonl", rows)
        (given.out / "turns.md").write_text(table(rows, ("noise_db",)))

    rows = evaluate(given.voices, keep)
    if given.write:
        fill_between(PAGE, "turns", turn_rows(rows))
    print(json.dumps(summary(rows)))


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


if __name__ == "__main__":
    main()
