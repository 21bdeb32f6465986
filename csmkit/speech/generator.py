"""The generator: text in, speech out, a frame of 80 ms at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Self

import torch

from csmkit.codec import Codec, load_codec
from csmkit.csm.checkpoint import build_model, load_sampling
from csmkit.csm.config import Sampling
from csmkit.csm.execution.choose import make_step
from csmkit.csm.layouts import Checkpoint
from csmkit.csm.model import CsmModel
from csmkit.csm.quantization import ROUNDINGS
from csmkit.csm.sampling import Noise
from csmkit.csm.tokenizer import TextTokenizer, load_tokenizer
from csmkit.errors import CheckpointError, InputError
from csmkit.files.hub import find_codec, find_tokenizer, find_voice
from csmkit.files.tensors import ROUNDED
from csmkit.machine import choose_device, out_of_memory, prepare
from csmkit.speech.abilities import Abilities
from csmkit.speech.base import FakeGenerator, SpeechGenerator
from csmkit.speech.batch import Engine, RunningBatch
from csmkit.speech.prompt import PromptBuilder
from csmkit.speech.prompt_cache import PrefixStore
from csmkit.speech.settings import Request, Segment

__all__ = ["FakeGenerator", "Generator", "Segment"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Generator(SpeechGenerator):
    """Speech of a CSM voice. Each call has a state of its own: calls may interleave, also from several threads.

    Args:
        model: the network with its weights, on its device.
        tokenizer: splits text into the model's ids.
        codec: turns codes into sound and sound into codes.
        sampling: where a call leaves it out.
        execution: how a frame runs, see `csmkit.csm.execution.step`.

    Attributes:
        execution: the mode it really has.

    Raises:
        CheckpointError: a codec with fewer codebooks than the model, or other codes.
        InputError: an unknown execution mode.
    """

    def __init__(
        self,
        model: CsmModel,
        tokenizer: TextTokenizer,
        codec: Codec,
        sampling: Sampling | None = None,
        execution: str = "auto",
    ) -> None:
        super().__init__(codec, sampling or Sampling())
        self.model, self.config = model, model.config
        if codec.n_codebooks != self.config.n_codebooks or codec.codebook_size < self.config.codebook_size:
            raise CheckpointError(
                f"codec with {codec.n_codebooks} codebooks of {codec.codebook_size} codes, "
                f"voice with {self.config.n_codebooks} of {self.config.codebook_size}: give the codec of this voice"
            )
        decoder = codec.frame_decoder if codec.device == model.device else None  # runs within a frame
        self.step, self.execution = make_step(model, execution, decoder)
        self.n_warm_ups = self.step.n_warm_ups
        self.tokenizer, self.prompts = tokenizer, PromptBuilder(self.config, tokenizer, codec.encode)
        self._prefixes = PrefixStore()

    @classmethod
    def load(
        cls,
        name: str | PathLike[str] = "pocket",
        *,
        codec: str | Codec = "streaming",
        codec_weights: str | PathLike[str] | None = None,
        tokenizer: str | PathLike[str] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        execution: str = "auto",
    ) -> Self:
        """Load a voice.

        Args:
            name: "pocket", the bundled voice; a checkpoint directory, in transformers' layout or Sesame's own; or a hub
                id such as "sesame/csm-1b", which is fetched.
            codec: a codec plugin's name, or a codec.
            codec_weights: where the codec's weights are: a Mimi or CSM directory of transformers, moshi's file or its
                directory, or a hub id such as "kyutai/mimi". None for the voice's directory; one in Sesame's layout
                has a codec only where `csmkit convert` put it there.
            tokenizer: tokenizer.json, its directory or a hub id; None for the voice's directory.
            device: None for CUDA where there is one.
            dtype: dtype of the model; None for float32 on a CPU, bfloat16 elsewhere and for what "int4" and "int8"
                do not round. The codec stays in float32.
            execution: how a frame runs: "auto", "eager", "graph", "compiled", "int8" or "int4", see
                `csmkit.csm.execution.step`; what this machine cannot do falls back, with a warning.

        Raises:
            CheckpointNotFoundError: no such voice, or a file of it is missing.
            CheckpointError: damaged, partial, or another architecture.
            DeviceError: the device is not there, or too small for the voice.
            InputError: a dtype that is not of floating point, or other bits than a rounded voice has.
            MissingDependencyError: "int4" or "int8" without ONNX Runtime.
        """
        directory = find_voice(name)
        device = choose_device(device)
        if dtype not in (None, *DTYPES):
            raise InputError(f"dtype={dtype!r}: give torch.float32, torch.bfloat16 or torch.float16, or None to choose")
        checkpoint = Checkpoint.open(directory)  # the big weights last: what is missing is said at once
        rounding = ROUNDINGS.get(execution) if device.type == "cpu" else None
        if dtype is None:
            rounded = rounding is not None or checkpoint.source.layout == ROUNDED
            dtype = torch.float32 if device.type == "cpu" and not rounded else torch.bfloat16
        abilities = Abilities.read(directory)
        text = load_tokenizer(find_tokenizer(tokenizer or directory), checkpoint.config, checkpoint.values)
        with out_of_memory(f"loading the voice on {device}"):
            if isinstance(codec, str):
                codec = load_codec(codec, find_codec(codec_weights or directory), device=device)
            model = build_model(checkpoint, device=device, dtype=dtype, rounding=rounding)
        prepare(device, sum(weight.numel() for weight in model.parameters()))
        generator = cls(model, text, codec, load_sampling(directory), execution)
        generator.abilities = abilities
        return generator

    @property
    def device(self) -> str:
        return str(self.model.device)

    def new_batch(self, codec: Codec | None) -> RunningBatch:
        step_decodes = codec is self.codec and self.step.makes_sound
        engine = Engine(self.model, self.step, self.prompts, self._prefixes)
        return RunningBatch(engine, None if step_decodes else codec, step_decodes)

    def keep_prompts(self, n_prompts: int) -> None:
        self._prefixes.n_prompts = n_prompts

    def fit(self, request: Request, n_lead: int = 0) -> Request:
        return self.prompts.fit(request, n_lead)

    def read_ahead(self, context: Sequence[Segment]) -> Iterator[None]:
        blocks = self.prompts.context(context)
        if not blocks:
            return
        noise = Noise(self.config, [self.sampling], [0], self.model.device)
        state = self.step.new_state(sum(block.n_rows for block in blocks), noise)
        n_known = n_read = self._prefixes.restore(blocks, state.backbone)
        try:
            for block in blocks[n_known:]:
                with out_of_memory("reading a prompt"):
                    self.step.read(state, *block.inputs())
                n_read += 1
                yield
        finally:
            if n_read > n_known and bool(state.hidden.isfinite().all()):  # made from every row before it
                self._prefixes.keep(self._prefixes.copy(blocks[:n_read], state.backbone))

    def warm_up(self, context: Sequence[Segment] = (), n_streams: int = 1) -> None:
        self.step.warm_up(n_streams)
        super().warm_up(context, n_streams)
