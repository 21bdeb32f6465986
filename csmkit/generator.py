"""The generator: text in, speech out, a frame of 80 ms at a time."""

from __future__ import annotations

import itertools
from collections.abc import Generator as Passes
from collections.abc import Sequence
from os import PathLike
from typing import Self

import torch

from csmkit import plugins
from csmkit.batch import Lanes, Step
from csmkit.csm.checkpoint import build_model, load_sampling, load_tokenizer
from csmkit.csm.config import Request, Sampling
from csmkit.csm.model import CsmModel, CsmState
from csmkit.csm.prefix import PrefixStore
from csmkit.csm.prompt import PromptBuilder, Segment, TextTokenizer
from csmkit.csm.sampling import Noise
from csmkit.csm.sources import Checkpoint
from csmkit.csm.step import make_step
from csmkit.errors import CheckpointError, DeviceError, DeviceMemoryError
from csmkit.reasons import END_OF_SPEECH, MAX_LENGTH
from csmkit.speech import FakeGenerator, SpeechGenerator, new_outcome
from csmkit.streams import Codec, FrameStream
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
            DeviceError: the device is not there, or too small for the voice.
        """
        directory = find_voice(name)
        device = choose_device(device)
        dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
        checkpoint = Checkpoint.open(directory)  # the big weights last: what is missing is said at once
        text = load_tokenizer(find_tokenizer(tokenizer or directory), checkpoint.config, checkpoint.values)
        try:
            if isinstance(codec, str):
                codec = plugins.load("codec", codec).load(find_codec(codec_weights or directory), device=device)
            model = build_model(checkpoint, device=device, dtype=dtype)
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError.during(f"loading the voice on {device}", error) from error
        return cls(model, text, codec, load_sampling(directory), execution)

    @property
    def device(self) -> str:
        return str(self.model.device)

    def run_batch(self, requests: Sequence[Request]) -> list[FrameStream]:
        """Start requests that share every pass of the model; raises ContextOverflowError at the call."""
        n_rows = [self._prompts.check(request) for request in requests]
        outcomes = [new_outcome(request) for request in requests]
        live = set(range(len(requests)))
        passes = self._generate(requests, n_rows, [outcome.seed for outcome in outcomes], live)
        lanes = Lanes(passes, live, outcomes).rows()
        return [self._stream(*row) for row in zip(requests, lanes, outcomes, strict=True)]

    def fit(self, request: Request, n_lead: int = 0) -> Request:
        return self._prompts.fit(request, n_lead)

    def _generate(
        self, requests: Sequence[Request], n_rows: Sequence[int], seeds: Sequence[int], live: set[int]
    ) -> Passes[Step, None, None]:
        """The autoregressive loop, the only one: a frame of every row a pass, until no row is live."""
        prompts = zip(requests, n_rows, seeds, strict=True)
        state, rows = CsmState.join([self._read(*prompt) for prompt in prompts]), sorted(live)
        codes = self._step.first(state)
        for n_frames in itertools.count(1):
            step: Step = []
            for row, frame in zip(rows, codes.cpu(), strict=True):
                ended = END_OF_SPEECH if not frame.any() else None  # the end frame is neither kept nor sampled past
                if ended is None:
                    step.append((row, frame.clone()))  # outside inference mode: the caller may change it
                    ended = MAX_LENGTH if n_frames == requests[row].max_frames else None
                if ended is not None:
                    step.append((row, ended))
                    live.discard(row)
            yield step
            going = [index for index, row in enumerate(rows) if row in live]
            if not going:
                return
            if len(going) < len(rows):
                state, rows = state.take(going), [rows[index] for index in going]
            codes = self._step.next(state)

    def _read(self, request: Request, n_rows: int, seed: int) -> CsmState:
        """A state that has read the prompt of a request, but for the turns that are known from the last one."""
        noise = Noise(self.config, [request.sampling], [seed], self.model.device)
        state = self.model.new_state(n_rows + request.max_frames, noise)
        *context, text = self._prompts.build(request)
        n_known = self._prefix.restore(context, state.backbone)
        for block in context[n_known:]:
            self._step.read(state, *block.inputs(self.model.device))
        self._prefix.keep(context, state.backbone)
        self._step.read(state, *text.inputs(self.model.device))
        return state


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
