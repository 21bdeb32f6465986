"""The generator: text in, speech out, a frame of 80 ms at a time."""

from __future__ import annotations

import itertools
from collections.abc import Generator as Passes
from collections.abc import Sequence
from os import PathLike
from typing import Self

import torch

from csmkit.codec import Codec, CodecBatch, FrameDecoder, load_codec
from csmkit.csm.checkpoint import build_model, load_sampling, load_tokenizer
from csmkit.csm.config import Sampling
from csmkit.csm.execution.choose import make_step
from csmkit.csm.execution.step import Made
from csmkit.csm.layouts import Checkpoint
from csmkit.csm.model import CsmModel, CsmState
from csmkit.csm.quantization import ROUNDINGS
from csmkit.csm.sampling import Noise
from csmkit.csm.tokenizer import TextTokenizer
from csmkit.errors import CheckpointError, DeviceError, DeviceMemoryError, InputError, NotFiniteError
from csmkit.files.hub import find_codec, find_tokenizer, find_voice
from csmkit.files.tensors import ROUNDED
from csmkit.machine import prepare
from csmkit.speech.abilities import Abilities
from csmkit.speech.base import FakeGenerator, SpeechGenerator, new_outcome
from csmkit.speech.batch import Frame, Lane, Lanes, Pass
from csmkit.speech.finish_reasons import END_OF_SPEECH, MAX_LENGTH
from csmkit.speech.prompt import PromptBuilder
from csmkit.speech.prompt_cache import KeptBlock, PrefixStore
from csmkit.speech.settings import Request, Segment
from csmkit.speech.streams import FrameStream, SpeechStream

__all__ = ["FakeGenerator", "Generator", "Segment"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Generator(SpeechGenerator):
    """Speech of a CSM voice. Each call has a state of its own: calls may interleave, also from several threads.

    Args:
        model: with weights, on its device.
        tokenizer: of its text.
        codec: of its codes.
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
        self._step, self.execution = make_step(model, execution, _decoder(codec, model.device))
        self.n_warm_ups = self._step.n_warm_ups
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
            dtype: of the language model; None for float32 on a CPU, bfloat16 elsewhere and for what "int4" and "int8"
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
        check_dtype(dtype)
        checkpoint = Checkpoint.open(directory)  # the big weights last: what is missing is said at once
        rounding = ROUNDINGS.get(execution) if device.type == "cpu" else None
        dtype = choose_dtype(dtype, device, rounding is not None or checkpoint.source.layout == ROUNDED)
        abilities = Abilities.read(directory)
        text = load_tokenizer(find_tokenizer(tokenizer or directory), checkpoint.config, checkpoint.values)
        try:
            if isinstance(codec, str):
                codec = load_codec(codec, find_codec(codec_weights or directory), device=device)
            model = build_model(checkpoint, device=device, dtype=dtype, rounding=rounding)
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError.during(f"loading the voice on {device}", error) from error
        prepare(device, sum(weight.numel() for weight in model.parameters()))
        generator = cls(model, text, codec, load_sampling(directory), execution)
        generator.abilities = abilities
        return generator

    @property
    def device(self) -> str:
        return str(self.model.device)

    def run_batch(self, requests: Sequence[Request]) -> list[FrameStream]:
        """Start requests that share every pass of the model; raises ContextOverflowError at the call."""
        return [stream for stream, _ in self._start(requests, aloud=False)]

    def speak_batch(self, requests: Sequence[Request], schedule: Sequence[int]) -> list[SpeechStream]:
        """As `run_batch`, and the requests share every pass of the codec too."""
        return [SpeechStream(stream, lane, schedule) for stream, lane in self._start(requests, aloud=True)]

    def _start(self, requests: Sequence[Request], aloud: bool) -> list[tuple[FrameStream, Lane]]:
        n_rows = [self._prompts.check(request) for request in requests]
        outcomes = [new_outcome(request) for request in requests]
        live = set(range(len(requests)))
        passes = self._generate(requests, n_rows, [outcome.seed for outcome in outcomes], live, aloud)
        lanes = Lanes(passes, live, outcomes).rows()
        rows = zip(requests, lanes, outcomes, strict=True)
        return [(self._stream(request, lane, outcome), lane) for request, lane, outcome in rows]

    def fit(self, request: Request, n_lead: int = 0) -> Request:
        return self._prompts.fit(request, n_lead)

    def warm_up(self, context: Sequence[Segment] = ()) -> None:
        noise = Noise(self.config, [self.sampling], [0], self.model.device)
        for _ in range(self.n_warm_ups):
            for n_rows in self._step.warm_up_rows:
                nothing = torch.zeros(1, n_rows, self.config.n_slots, dtype=torch.int64)
                state = self._step.new_state(n_rows, noise)
                self._step.read(state, nothing, nothing.bool())
                del state  # whose buffers the next one takes
        super().warm_up(context)

    def _generate(
        self,
        requests: Sequence[Request],
        n_rows: Sequence[int],
        seeds: Sequence[int],
        live: set[int],
        aloud: bool,
    ) -> Passes[Pass, None, None]:
        """The autoregressive loop, the only one: a frame of every row a pass, until no row is live."""
        rows = sorted(live.copy())  # some may have been closed before anything ran
        read = [self._read(requests[row], n_rows[row], seeds[row]) for row in rows]
        state, kept = self._step.join([state for state, _ in read]), [blocks for _, blocks in read]
        del read
        voices = self.codec.streams(len(rows)) if aloud and not self._step.makes_sound else None
        made = self._step.first(state, aloud)
        for index in made.finite.nonzero().flatten().tolist():
            self._prefix.keep(kept[index])
        del kept
        for n_frames in itertools.count(1):
            # The end frame is neither kept nor decoded nor sampled past.
            finite = made.finite.tolist()
            spoken = [index for index, codes in enumerate(made.codes) if finite[index] and bool(codes.any())]
            step: Pass = [
                (row, END_OF_SPEECH if finite[index] else self._not_finite(n_frames))
                for index, row in enumerate(rows)
                if index not in spoken
            ]
            for index, frame in zip(spoken, _frames(made, spoken, voices), strict=True):
                step.append((rows[index], frame))
                if n_frames == requests[rows[index]].max_frames:
                    step.append((rows[index], MAX_LENGTH))
            live.difference_update(row for row, item in step if not isinstance(item, Frame))
            yield step
            going = [index for index in spoken if rows[index] in live]
            if not going:
                return
            if voices is not None and len(going) < len(spoken):
                voices.take([spoken.index(index) for index in going])
            if len(going) < len(rows):
                state, rows = self._step.take(state, going), [rows[index] for index in going]
            made = self._step.next(state)

    def _read(self, request: Request, n_rows: int, seed: int) -> tuple[CsmState, tuple[KeptBlock, ...]]:
        """A state that has read the prompt of a request, but for what is known from the last one; and what to keep."""
        noise = Noise(self.config, [request.sampling], [seed], self.model.device)
        state = self._step.new_state(n_rows + request.max_frames, noise)
        *context, text = self._prompts.build(request)
        for block in context[self._prefix.restore(context, state.backbone) :]:
            self._step.read(state, *block.inputs())
        kept = self._prefix.copy(context, state.backbone)
        self._step.read(state, *text.inputs())
        return state, kept

    def _not_finite(self, frame: int) -> NotFiniteError:
        return NotFiniteError.in_frame(frame, "codes", self.model.projection.dtype)


def _frames(made: Made, spoken: Sequence[int], voices: CodecBatch | None) -> list[Frame]:
    """What was made in those rows, the others end; in memory of its own that the caller may change."""
    codes = made.codes[spoken]
    if voices is not None and 0 < len(spoken) < len(made.codes):
        voices.take(spoken)
    sound = voices.decode(codes) if voices is not None and spoken else None
    if made.sound is not None:
        sound = made.sound[spoken]
    sounds = [None] * len(codes) if sound is None else [row.clone() for row in sound]
    return [Frame(row.clone(), samples) for row, samples in zip(codes, sounds, strict=True)]


def _decoder(codec: Codec, device: torch.device) -> FrameDecoder | None:
    """The codec's decoder for use inside a frame, where it is on the model's device."""
    return codec.frame_decoder if codec.device == device else None


def choose_device(device: torch.device | str | None) -> torch.device:
    """The device asked for, or CUDA where there is one, or the CPU; DeviceError if it is not there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        return torch.empty(1, device=chosen).device  # with its index, where none was given
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"device {str(device)!r} cannot be used ({error}): give 'cpu', or None to choose") from error


def choose_dtype(dtype: torch.dtype | None, device: torch.device, rounded: bool = False) -> torch.dtype:
    """Choose the dtype of a model: float32 on a CPU; bfloat16 elsewhere and beside rounded weights."""
    if dtype is None:
        return torch.float32 if device.type == "cpu" and not rounded else torch.bfloat16
    return dtype


def check_dtype(dtype: torch.dtype | None) -> None:
    """Raise InputError for a dtype that no kernel of the model takes, such as torch.float8_e4m3fn."""
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"dtype={dtype!r}: give torch.float32, torch.bfloat16 or torch.float16, or None to choose")
