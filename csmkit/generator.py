"""The generator: text in, speech out, a frame of 80 ms at a time."""

from __future__ import annotations

from collections.abc import Generator as FrameGenerator
from os import PathLike
from typing import Self

import torch
from torch import Tensor

from csmkit import plugins
from csmkit.csm.checkpoint import build_model, load_sampling, load_tokenizer
from csmkit.csm.config import Request, Sampling
from csmkit.csm.model import CsmModel
from csmkit.csm.prefix import PrefixStore
from csmkit.csm.prompt import PromptBuilder, Segment, TextTokenizer
from csmkit.csm.sampling import Noise
from csmkit.csm.sources import Checkpoint
from csmkit.csm.step import make_step
from csmkit.errors import CheckpointError, DeviceError
from csmkit.speech import FakeGenerator, SpeechGenerator, new_outcome
from csmkit.streams import END_OF_SPEECH, MAX_LENGTH, Codec, FrameStream, Outcome
from csmkit.voices import find_codec, find_tokenizer, find_voice

__all__ = ["FakeGenerator", "Generator", "Segment"]


class Generator(SpeechGenerator):
    """Speech of a CSM voice. Each call has a state of its own: calls may interleave, also from several threads.

    Args:
        model: with weights, on its device.
        tokenizer: of its text.
        codec: of its codes.
        sampling: where a call leaves it out.
        execution: how a frame runs, see `csmkit.csm.step`.

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
        self._step = make_step(model, execution)
        self._prefix = PrefixStore()
        self._prompts = PromptBuilder(self.config, tokenizer, codec.encode)

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
            dtype: of the language model; None for float32 on a CPU, bfloat16 elsewhere. The codec stays in float32.
            execution: how a frame runs: "auto" or "eager".

        Raises:
            CheckpointNotFoundError: no such voice, or a file of it is missing.
            CheckpointError: damaged, partial, or another architecture.
            DeviceError: the device is not there.
        """
        directory = find_voice(name)
        device = choose_device(device)
        dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
        checkpoint = Checkpoint.open(directory)  # the big weights last: what is missing is said at once
        text = load_tokenizer(find_tokenizer(tokenizer or directory), checkpoint.config, checkpoint.values)
        if isinstance(codec, str):
            codec = plugins.load("codec", codec).load(find_codec(codec_weights or directory), device=device)
        model = build_model(checkpoint, device=device, dtype=dtype)
        return cls(model, text, codec, load_sampling(directory), execution)

    def run(self, request: Request) -> FrameStream:
        """Start a request, as `frames`; raises ContextOverflowError at the call."""
        n_rows = self._prompts.check(request)
        outcome = new_outcome(request)
        return self._stream(self._generate(request, n_rows, outcome), outcome)

    def fit(self, request: Request) -> Request:
        """The request without the oldest segments that leave no room; ContextOverflowError if the text has none."""
        return self._prompts.fit(request)

    def _generate(self, request: Request, n_rows: int, outcome: Outcome) -> FrameGenerator[Tensor, None, None]:
        """The autoregressive loop, the only one."""
        noise = Noise(self.config, [request.sampling], [outcome.seed], self.model.device)
        state = self.model.new_state(n_rows + request.max_frames, noise, request.sampling.topk)
        *context, text = self._prompts.build(request)
        n_known = self._prefix.restore(context, state.backbone)
        for block in context[n_known:]:
            self._step.read(state, *block.inputs(self.model.device))
        self._prefix.keep(context, state.backbone)
        self._step.read(state, *text.inputs(self.model.device))
        codes = self._step.first(state)
        for n_frames in range(1, request.max_frames + 1):
            frame = codes[0].cpu()
            if not frame.any():  # the end frame is neither kept nor sampled past
                outcome.finish_reason = END_OF_SPEECH
                return
            if n_frames == request.max_frames:
                outcome.finish_reason = MAX_LENGTH
            yield frame.clone()  # outside inference mode: an ordinary tensor, which the caller may change
            if n_frames < request.max_frames:
                codes = self._step.next(state)


def choose_device(device: torch.device | str | None) -> torch.device:
    """The device asked for, or CUDA where there is one, or the CPU; DeviceError if it is not there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"device {str(device)!r} cannot be used ({error}): give 'cpu', or None to choose") from error
    return chosen
