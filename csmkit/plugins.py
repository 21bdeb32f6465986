"""Replaceable parts, found by name: language models, speech generators, codecs, recognisers, metrics and trackers.

A plugin is a factory, which is called with the user's keywords. The name is searched in this order: a direct reference
``"package.module:attribute"``, the factories registered in this process, the built-ins below, and the entry points of
installed packages in the group ``csmkit.<kind>``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

from csmkit.errors import MissingDependencyError, PluginError

KINDS = ("llm", "speech", "codec", "asr", "metric", "tracker")

Factory = TypeVar("Factory", bound=Callable[..., Any])


@dataclass(frozen=True)
class Builtin:
    """A plugin that comes with csmkit: its reference, and the extra that installs what it imports."""

    reference: str
    extra: str | None = None


_BUILTIN: dict[str, dict[str, Builtin]] = {
    "llm": {
        "transformers": Builtin("csmkit.llm.transformers:TransformersLLM"),
        "openai": Builtin("csmkit.llm.server:ServerLLM", "server"),
        "echo": Builtin("csmkit.llm.contract:EchoLLM"),
        "fake": Builtin("csmkit.llm.contract:FakeLLM"),
    },
    "speech": {
        "csm": Builtin("csmkit.speech.generator:Generator.load"),
        "fake": Builtin("csmkit.speech.generator:FakeGenerator"),
    },
    "codec": {
        "streaming": Builtin("csmkit.mimi.codecs:StreamingCodec"),
        "independent": Builtin("csmkit.mimi.codecs:IndependentCodec"),
        "moshi": Builtin("csmkit.mimi.moshi:MoshiCodec"),
        "fake": Builtin("csmkit.mimi.codecs:FakeCodec"),
    },
    "asr": {
        "whisper": Builtin("csmkit.asr.whisper:WhisperTranscriber", "asr"),
        "fake": Builtin("csmkit.asr.transcriber:FakeTranscriber"),
    },
    "metric": {
        "wer": Builtin("csmkit.lab.metrics.words:word_error_rate", "eval"),
        "cer": Builtin("csmkit.lab.metrics.words:character_error_rate", "eval"),
        "latency": Builtin("csmkit.lab.metrics.words:latency"),
        "codes": Builtin("csmkit.lab.metrics.codes:code_metrics"),
        "artifacts": Builtin("csmkit.lab.metrics.registry:artifact_row", "eval"),
        "seams": Builtin("csmkit.lab.metrics.seams:seam_metrics"),
        "distances": Builtin("csmkit.lab.metrics.distances:distances"),
        "levels": Builtin("csmkit.lab.metrics.levels:levels"),
        "loudness": Builtin("csmkit.lab.metrics.levels:loudness", "eval"),
        "prosody": Builtin("csmkit.lab.metrics.prosody:prosody"),
        "utmos": Builtin("csmkit.lab.metrics.judges:utmos"),
        "dnsmos": Builtin("csmkit.lab.metrics.judges:dnsmos", "int4"),
        "speaker_similarity": Builtin("csmkit.lab.metrics.judges:speaker_similarity"),
        "judge_wer": Builtin("csmkit.lab.metrics.judges:judge_wer", "asr"),
        "fake": Builtin("csmkit.lab.metrics.words:fake_metric"),
    },
    "tracker": {
        "mlflow": Builtin("csmkit.lab.report.tracking:MlflowTracker", "mlflow"),
        "wandb": Builtin("csmkit.lab.report.tracking:WandbTracker", "wandb"),
        "fake": Builtin("csmkit.lab.report.tracking:FakeTracker"),
    },
}
registered: dict[str, dict[str, Callable[..., Any]]] = {kind: {} for kind in KINDS}
"""The factories that `register` has added in this process, by kind and name."""


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise PluginError(f"no plugin kind {kind!r}: the kinds are {', '.join(KINDS)}")


def register(kind: str, name: str) -> Callable[[Factory], Factory]:
    """Make a factory available under a name in this process: a decorator, for example for a notebook.

    Example::

        @register("llm", "parrot")
        class Parrot: ...

    Raises:
        PluginError: an unknown kind, or a name with a colon.
    """
    _check_kind(kind)
    if ":" in name:
        raise PluginError(f"plugin name {name!r} has a colon, as in package.module:attribute: choose another name")

    def keep(factory: Factory) -> Factory:
        registered[kind][name] = factory
        return factory

    return keep


def available(kind: str) -> list[str]:
    """The names that `load` knows for a kind, sorted. Nothing is imported."""
    _check_kind(kind)
    installed = {point.name for point in entry_points(group=f"csmkit.{kind}")}
    return sorted(installed | set(registered[kind]) | set(_BUILTIN[kind]))


def library(module: str, extra: str) -> Any:
    """Import a module that an extra installs; MissingDependencyError says which one."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError.for_extra(module.partition(".")[0].replace("_", "-"), extra) from error


def _resolve(reference: str, extra: str | None = None) -> Callable[..., Any]:
    module_name, _, attribute = reference.partition(":")
    try:
        target: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if extra is not None and not (error.name or "").startswith("csmkit"):
            raise MissingDependencyError.for_extra(error.name or module_name, extra) from error
        raise PluginError(f"cannot import plugin {reference!r} ({error}): check the module's name and path") from error
    for part in attribute.split("."):
        try:
            target = getattr(target, part)
        except AttributeError as error:
            raise PluginError(f"module {module_name!r} has no {attribute!r}: check the name after the colon") from error
    return target


def load(kind: str, name: str) -> Callable[..., Any]:
    """Find the factory of a plugin.

    Args:
        kind: one of `KINDS`.
        name: a name that `available` lists, or ``"package.module:attribute"``.

    Raises:
        PluginError: no plugin of that kind and name; the message lists the available ones.
        MissingDependencyError: the plugin needs an extra that is not installed.
    """
    _check_kind(kind)
    if ":" in name:
        return _resolve(name)
    if name in registered[kind]:
        return registered[kind][name]
    if name in _BUILTIN[kind]:
        builtin = _BUILTIN[kind][name]
        return _resolve(builtin.reference, builtin.extra)
    for point in entry_points(group=f"csmkit.{kind}", name=name):
        return point.load()
    choices = ", ".join(available(kind))
    raise PluginError(f"no {kind} plugin {name!r}: available are {choices}, or give 'package.module:attribute'")
