"""The models of a recipe in one process, loaded once, which run the trials that they are given."""

from __future__ import annotations

import hashlib
import io
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from csmkit.asr.directory import resolve
from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.audio import SAMPLE_RATE
from csmkit.chat.turn_row import versions
from csmkit.files.hub import find_voice, find_whisper
from csmkit.files.writer import write_whole
from csmkit.lab.metrics.registry import metrics_version
from csmkit.lab.sweep.axes import NO_RECOGNISER
from csmkit.lab.sweep.plan import Planned, keeps_clip
from csmkit.lab.sweep.recipe import Recipe
from csmkit.lab.trials.batch import run_trials_together
from csmkit.lab.trials.trial import Trial, TrialRun
from csmkit.machine import checksum, environment
from csmkit.speech.base import SpeechGenerator
from csmkit.speech.generator import Generator
from csmkit.speech.settings import Segment
from csmkit.stack import Stack, find_models


def origin() -> dict[str, Any]:
    """The machine and the versions that rows are measured with, as columns."""
    here = environment()
    found = {name: here[name] for name in ("commit", "cpu", "cores", "threads", "gpu", "python")}
    return {**found, "code_sha256": code_checksum(), **versions()}


@cache
def code_checksum() -> str:
    """The first twelve digits of a SHA-256 over csmkit's source files: it tells two states of the code apart."""
    package = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@dataclass(frozen=True)
class Done:
    """A trial that has run."""

    row: dict[str, Any]
    clip: np.ndarray | None


def model_checksums(recipe: Recipe) -> dict[str, str | None]:
    """Checksum of the voice, as ``voice``, and of each recogniser, by the name the recipe has for it.

    A hub id is fetched if it is not on this machine: the recipe asks for it. Plugins other than ``csm`` and ``whisper``
    have no files to tell of, which is None. Raises CheckpointNotFoundError.
    """
    whispers: dict[str, str | None] = dict.fromkeys(recipe.axes["whisper"])
    if recipe.hears and recipe.asr == "whisper":
        preset = find_models(recipe.preset).asr_preset
        for name in set(whispers) - {NO_RECOGNISER}:
            whispers[name] = checksum(find_whisper(resolve(name, preset)))
    voice = checksum(find_voice(voice_name(recipe))) if recipe.speech == "csm" else None
    return whispers | {"voice": voice}


def voice_name(recipe: Recipe) -> str:
    """What `Generator.load` is given."""
    return recipe.voice or find_models(recipe.preset).speech


class Worker:
    """The models of a recipe.

    Args:
        threads: number of torch's threads; None leaves it as it is.

    Raises:
        CsmkitError: the voice cannot be loaded.
    """

    def __init__(self, recipe: Recipe, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._recipe = recipe
        self._checksums = model_checksums(recipe)
        speech = voice_name(recipe) if recipe.speech == "csm" else recipe.speech
        models = replace(find_models(recipe.preset), speech=speech)
        self._stack = Stack(models, asr_device=recipe.asr_device, asr_plugin=recipe.asr)
        self.generator: SpeechGenerator = self._stack.voice
        self._segments: dict[tuple[str, int, str], Segment] = {}
        self._warm: set[tuple[str, str]] = set()
        device = self.generator.model.device if isinstance(self.generator, Generator) else "cpu"
        self._origin = origin() | {"device": str(device)}

    def run(self, trials: Sequence[Planned], timeout_s: float | None = None) -> list[Done]:
        """Run one trial, or several as a batch; whatever goes wrong is raised.

        Models are loaded and earlier turns are spoken before the clock starts; each recogniser and codec first runs
        one trial that is not counted.
        """
        recipe, first = self._recipe, trials[0]
        asr = self._recogniser(first.point["whisper"])
        contexts = [self._context(trial) for trial in trials]
        if recipe.times and (first.point["whisper"], first.point["codec"]) not in self._warm:
            self._alone(first, contexts[0], asr)
            self._warm.add((first.point["whisper"], first.point["codec"]))
        started, start = datetime.now(UTC), time.perf_counter()
        if recipe.times:
            done = [self._alone(*one, asr, timeout_s) for one in zip(trials, contexts, strict=True)]
        else:
            texts, settings = [trial.text for trial in trials], [trial.settings for trial in trials]
            done = run_trials_together(self.generator, texts, settings, asr, contexts=contexts, metrics=recipe.metrics)
        shared = {
            "started": started.isoformat(timespec="milliseconds"),
            "trial_s": (time.perf_counter() - start) / len(trials),
            "n_batch": len(trials),
            "process": os.getpid(),
        }
        return [self._done(*one, shared) for one in zip(trials, done, contexts, strict=True)]

    def _alone(
        self,
        trial: Planned,
        context: Sequence[Segment],
        asr: StreamingWhisperASR | None,
        timeout_s: float | None = None,
    ) -> Trial:
        limit = math.inf if timeout_s is None else time.perf_counter() + timeout_s
        with TrialRun(self.generator, trial.text, trial.settings, asr, context=context) as run:
            for _ in run:
                if time.perf_counter() > limit:
                    raise TimeoutError(f"the trial took longer than {timeout_s:g} s")
            return run.result(self._recipe.metrics)

    def _done(self, planned: Planned, trial: Trial, context: Sequence[Segment], shared: Mapping[str, Any]) -> Done:
        row = {
            **planned.columns(),
            **trial.row,
            **shared,
            "whisper": planned.point["whisper"] if self._recipe.hears else None,
            "context_frames": sum(segment.n_frames for segment in context),
            "audio_s": len(trial.audio) / SAMPLE_RATE,
            "audio_sha256": hashlib.sha256(trial.audio.tobytes()).hexdigest()[:16],
            **self._origin,
            "metrics_version": metrics_version(self._recipe.metrics),
            "voice_sha256": self._checksums["voice"],
            "whisper_sha256": self._checksums[planned.point["whisper"]],
        }
        return Done(row, trial.audio if keeps_clip(self._recipe, planned) else None)

    def _recogniser(self, name: str) -> StreamingWhisperASR | None:
        if not self._recipe.hears or name == NO_RECOGNISER:
            return None
        return self._stack.recogniser(name)

    def _context(self, trial: Planned) -> list[Segment]:
        """The turns before: two speakers in turn, the other one last, as the voice itself speaks them."""
        speaker, n_turns = trial.point["speaker"], len(trial.context_texts)
        other = 1 if speaker == 0 else 0
        return [
            self._segment(text, speaker if (n_turns - place) % 2 == 0 else other, trial.point["context"])
            for place, text in enumerate(trial.context_texts)
        ]

    def _segment(self, text: str, speaker: int, kind: str) -> Segment:
        key = (text, speaker, kind)
        if key not in self._segments:
            codes = None
            if kind == "sound":
                with self.generator.frames(text, speaker, seed=0) as frames:
                    for _ in frames:
                        pass
                codes = frames.codes if frames.n_frames else None
            self._segments[key] = Segment(speaker, text, codes=codes)
        return self._segments[key]


@lru_cache(maxsize=1)
def worker_of(recipe: Recipe, threads: int | None) -> Worker:
    """The worker of this process, with its models loaded at the first call."""
    return Worker(recipe, threads)


def run_task(
    recipe: Recipe, trials: Sequence[Planned], threads: int | None = None, timeout_s: float | None = None
) -> list[Done]:
    """What a worker of any engine is called with; ``timeout_s`` raises TimeoutError between two chunks."""
    return worker_of(recipe, threads).run(trials, timeout_s)


def write_clip(path: Path, audio: np.ndarray) -> None:
    """Write ``(samples,)`` as 16-bit FLAC, whole or not at all; raises OSError."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(audio, -1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    path.parent.mkdir(exist_ok=True)
    write_whole(path, buffer.getvalue())
