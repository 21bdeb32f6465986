"""Former names of public modules: importing an old name imports the module that replaced it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "csmkit.asr.fake": "csmkit.asr.transcriber",
    "csmkit.asr.incremental": "csmkit.asr.utterance",
    "csmkit.asr.hypothesis": "csmkit.asr.transcriber",
    "csmkit.asr.thread": "csmkit.asr.worker",
    "csmkit.batch": "csmkit.speech.batch",
    "csmkit.chat.clauses": "csmkit.text.clauses",
    "csmkit.chat.listening": "csmkit.chat.transcription",
    "csmkit.chat.llm": "csmkit.llm.transformers",
    "csmkit.chat.parts": "csmkit.stack",
    "csmkit.chat.saved_conversation": "csmkit.chat.conversation",
    "csmkit.chat.options": "csmkit.chat.settings",
    "csmkit.chat.server_llm": "csmkit.llm.server",
    "csmkit.chat.spoken_clause": "csmkit.chat.speaking",
    "csmkit.chat.turn_clock": "csmkit.chat.events",
    "csmkit.cli.convert": "csmkit.cli.tools",
    "csmkit.cli.doctor": "csmkit.cli.tools",
    "csmkit.cli.doctor_checks": "csmkit.cli.tools",
    "csmkit.cli.listen": "csmkit.cli.sweep",
    "csmkit.cli.speaker_options": "csmkit.cli.options",
    "csmkit.csm.guards": "csmkit.speech.guards",
    "csmkit.csm.prompt": "csmkit.speech.prompt",
    "csmkit.csm.voice_prompt": "csmkit.speech.speaker_prompt",
    "csmkit.files.checkpoint_writer": "csmkit.files.writer",
    "csmkit.files.safetensors_writer": "csmkit.files.writer",
    "csmkit.generator": "csmkit.speech.generator",
    "csmkit.lab.analysis.comparisons": "csmkit.lab.analysis.questions",
    "csmkit.lab.analysis.headlines": "csmkit.lab.analysis.columns",
    "csmkit.lab.analysis.labels": "csmkit.lab.analysis.columns",
    "csmkit.lab.analysis.significance": "csmkit.lab.analysis.pairs",
    "csmkit.lab.artifacts": "csmkit.lab.metrics.registry",
    "csmkit.lab.codes": "csmkit.lab.metrics.codes",
    "csmkit.lab.comparisons": "csmkit.lab.analysis.questions",
    "csmkit.lab.distances": "csmkit.lab.metrics.distances",
    "csmkit.lab.findings": "csmkit.lab.analysis.questions",
    "csmkit.lab.levels": "csmkit.lab.metrics.levels",
    "csmkit.lab.listening": "csmkit.lab.notebook.player",
    "csmkit.lab.metrics.artifacts": "csmkit.lab.metrics.registry",
    "csmkit.lab.metrics.spectra": "csmkit.lab.metrics.distances",
    "csmkit.lab.notebook.chart": "csmkit.lab.notebook.output",
    "csmkit.lab.notebook.comparison": "csmkit.lab.notebook.recordings",
    "csmkit.lab.notebook.history": "csmkit.lab.notebook.recordings",
    "csmkit.lab.notebook.listening": "csmkit.lab.notebook.player",
    "csmkit.lab.notebook.storage": "csmkit.lab.notebook",
    "csmkit.lab.plots.latency": "csmkit.lab.plots.timeline",
    "csmkit.lab.plots.turn_rows": "csmkit.lab.plots.timeline",
    "csmkit.lab.provenance": "csmkit.machine",
    "csmkit.lab.report.coverage": "csmkit.lab.report.forecast",
    "csmkit.lab.rows": "csmkit.lab.analysis.rows",
    "csmkit.lab.seams": "csmkit.lab.metrics.seams",
    "csmkit.lab.stack": "csmkit.stack",
    "csmkit.lab.statistics": "csmkit.lab.analysis.statistics",
    "csmkit.lab.sweep.overrides": "csmkit.lab.sweep.recipe",
    "csmkit.lab.timeline": "csmkit.lab.report.timeline",
    "csmkit.lab.tracking": "csmkit.lab.report.tracking",
    "csmkit.lab.turns": "csmkit.lab.plots.timeline",
    "csmkit.lab.widgets": "csmkit.lab.notebook",
    "csmkit.streams": "csmkit.speech.streams",
    "csmkit.live.echo_level": "csmkit.live.turn_detector",
    "csmkit.live.end_of_turn": "csmkit.live.voice_activity",
    "csmkit.live.playback": "csmkit.live.answer",
    "csmkit.mimi.encoder": "csmkit.mimi.checkpoint",
    "csmkit.mimi.export": "csmkit.mimi.files",
    "csmkit.serve.admission": "csmkit.serve.service",
    "csmkit.serve.connections": "csmkit.serve.server",
    "csmkit.serve.realtime.route": "csmkit.serve.app",
    "csmkit.serve.recordings": "csmkit.serve.models",
    "csmkit.serve.utterance": "csmkit.serve.speech",
    "csmkit.speech.finish_reasons": "csmkit.speech.streams",
    "csmkit.speech.guard_monitor": "csmkit.speech.guards",
    "csmkit.speech.place": "csmkit.speech.deadlines",
    "csmkit.voices": "csmkit.files.hub",
}


class _MovedModules(MetaPathFinder, Loader):
    """Finds the modules of `MOVED`, and the submodules of those that are packages."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if _new_name(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(_new_name(spec.name) or spec.name)
        spec.loader_state = module.__spec__  # which importlib replaces by this spec, until exec_module
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        module.__spec__ = spec.loader_state if spec is not None else None


def _new_name(name: str) -> str | None:
    parent, _, last = name.rpartition(".")
    return MOVED.get(name) or (f"{MOVED[parent]}.{last}" if parent in MOVED else None)


def install() -> None:
    """Make old names importable; a second call changes nothing."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, _MovedModules())
