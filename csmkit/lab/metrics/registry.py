"""Metrics by name: what each wants to know of a trial, and the columns that it adds to the row.

A metric is a plugin of kind ``metric``: a function that takes, by name, any of

- ``said`` the text, ``heard`` what a recogniser made of it
- ``audio`` ``(samples,)`` float32 at 24 kHz, ``seams`` the first sample of each chunk but the first
- ``reference`` the whole decode of the same codes, ``codes`` ``(n_codebooks, n_frames)`` int64
- ``arrivals`` when each chunk was handed out, an `Arrivals`

and returns a number, whose column has the metric's name, or a flat dict of columns. It is called with sound only: where
nothing was said its columns are None, and so they are where no recogniser heard and it wants what was heard.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from csmkit import plugins
from csmkit.audio import FRAME_SAMPLES
from csmkit.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor

    from csmkit.mimi.codecs import Codec
    from csmkit.timing import Arrivals

USUAL = ("artifacts", "latency", "codes", "wer", "cer")
KNOWN = ("said", "heard", "audio", "seams", "reference", "codes", "arrivals")


@dataclass(frozen=True)
class Spoken:
    """What a metric may ask for; the module's docstring says what each is."""

    said: str
    audio: np.ndarray
    seams: list[int]
    codes: Tensor
    codec: Codec
    heard: str | None = None
    arrivals: Arrivals | None = None

    @cached_property
    def reference(self) -> Tensor:
        """The codes decoded whole, once for all metrics that ask for it."""
        return self.codec.decode_whole(self.codes)


@dataclass(frozen=True)
class Measure:
    """A metric that was found and understood.

    Attributes:
        name: of its column, if it returns a number.
        function: the plugin.
        wanted: which of the known names it takes.
    """

    name: str
    function: Callable[..., Any]
    wanted: tuple[str, ...]

    @classmethod
    def of(cls, name: str) -> Measure:
        """The metric of a plugin's name or ``"package.module:attribute"``.

        Raises:
            PluginError: no such plugin, or a function that wants something else.
            MissingDependencyError: it needs an extra that is not installed.
        """
        function = plugins.load("metric", name)
        parameters = inspect.signature(function).parameters.values()
        strange = [item.name for item in parameters if item.name not in KNOWN and item.default is item.empty]
        if strange:
            raise PluginError(f"metric {name!r} takes {strange[0]!r}: a metric takes any of {', '.join(KNOWN)}")
        return cls(name.rpartition(":")[2], function, tuple(item.name for item in parameters if item.name in KNOWN))

    def needs(self, known: str) -> bool:
        """Whether it takes one of the known names."""
        return known in self.wanted

    def columns(self, spoken: Spoken) -> dict[str, Any]:
        """What it adds to a row; the same columns for every trial of a kind."""
        if self.needs("heard") and spoken.heard is None:
            return {self.name: None}
        if self.needs("audio") and not len(spoken.audio):
            silence = Spoken(spoken.said, np.zeros(FRAME_SAMPLES, np.float32), [], spoken.codes, _Mute(), spoken.heard)
            return dict.fromkeys(self._measured(silence))
        return self._measured(spoken)

    def _measured(self, spoken: Spoken) -> dict[str, Any]:
        found = self.function(**{name: getattr(spoken, name) for name in self.wanted})
        return dict(found) if isinstance(found, dict) else {self.name: found}


class _Mute:
    """Decodes anything to a frame of silence, to learn the names of columns."""

    def decode_whole(self, codes: Tensor) -> Tensor:
        return torch.zeros(FRAME_SAMPLES)


def measured_columns(spoken: Spoken, metrics: tuple[str, ...]) -> dict[str, Any]:
    """The columns of several metrics, as one row; errors as `Measure.of` and those of the metrics."""
    row: dict[str, Any] = {}
    for name in metrics:
        row |= Measure.of(name).columns(spoken)
    return row
