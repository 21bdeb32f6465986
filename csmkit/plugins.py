"""Replaceable parts, found by name: language models, speech generators, codecs, recognisers, metrics and trackers.

A plugin is a factory, which is called with the user's keywords. The name is searched in this order: a direct reference
``"package.module:attribute"``, the factories registered in this process, the built-ins below, and the entry points of
installed packages in the group ``csmkit.<kind>``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

from csmkit.errors import MissingDependencyError, PluginError

KINDS = ("llm", "speech", "codec", "asr", "metric", "tracker")

Factory = TypeVar("Factory", bound=Callable[..., Any])


_BUILTIN: dict[str, dict[str, str]] = {  # the reference of each
    "llm": {
        "transformers": "csmkit.llm.transformers:TransformersLLM",
        "openai": "csmkit.llm.server:ServerLLM",
        "echo": "csmkit.llm.contract:EchoLLM",
        "fake": "csmkit.llm.contract:FakeLLM",
    },
    "speech": {
        "csm": "csmkit.speech.generator:Generator.load",
        "fake": "csmkit.speech.generator:FakeGenerator",
    },
    "codec": {
        "streaming": "csmkit.mimi.codecs:StreamingCodec",
        "independent": "csmkit.mimi.codecs:IndependentCodec",
        "moshi": "csmkit.mimi.moshi:MoshiCodec",
        "fake": "csmkit.mimi.codecs:FakeCodec",
    },
    "asr": {
        "whisper": "csmkit.asr.whisper:WhisperTranscriber",
        "fake": "csmkit.asr.transcriber:FakeTranscriber",
    },
    "metric": {
        "wer": "csmkit.lab.metrics.words:word_error_rate",
        "cer": "csmkit.lab.metrics.words:character_error_rate",
        "latency": "csmkit.lab.metrics.words:latency",
        "codes": "csmkit.lab.metrics.codes:code_metrics",
        "artifacts": "csmkit.lab.metrics.registry:artifact_row",
        "seams": "csmkit.lab.metrics.seams:seam_metrics",
        "distances": "csmkit.lab.metrics.distances:distances",
        "levels": "csmkit.lab.metrics.levels:levels",
        "loudness": "csmkit.lab.metrics.levels:loudness",
        "prosody": "csmkit.lab.metrics.prosody:prosody",
        "utmos": "csmkit.lab.metrics.judges:utmos",
        "dnsmos": "csmkit.lab.metrics.judges:dnsmos",
        "speaker_similarity": "csmkit.lab.metrics.judges:speaker_similarity",
        "judge_wer": "csmkit.lab.metrics.judges:judge_wer",
        "fake": "csmkit.lab.metrics.words:fake_metric",
    },
    "tracker": {
        "mlflow": "csmkit.lab.report.tracking:MlflowTracker",
        "wandb": "csmkit.lab.report.tracking:WandbTracker",
        "fake": "csmkit.lab.report.tracking:FakeTracker",
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


def _resolve(reference: str) -> Callable[..., Any]:
    module_name, _, attribute = reference.partition(":")
    try:
        target: Any = import_module(module_name)
    except ModuleNotFoundError as error:
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
        return _resolve(_BUILTIN[kind][name])
    for point in entry_points(group=f"csmkit.{kind}", name=name):
        return point.load()
    choices = ", ".join(available(kind))
    raise PluginError(f"no {kind} plugin {name!r}: available are {choices}, or give 'package.module:attribute'")
