"""The frame in constant shapes: positions and noise are tensors, nothing is read back, no memory moves.

That is what can be recorded once and launched again (`csmkit.csm.execution.cuda_graph`) and what a compiler likes
(`csmkit.csm.execution.compiled`). Here it runs as it is, on any device: what a recording does is tested without a GPU.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from csmkit.codec import FrameDecoder
from csmkit.csm.attention import bucket_reach, whole_reach
from csmkit.csm.execution.buffers import FrameBuffers, PromptBuffers, Slot
from csmkit.csm.execution.eager import depth_reaches
from csmkit.csm.execution.step import Made, packed
from csmkit.csm.model import CsmModel, CsmState, Stacks
from csmkit.csm.sampling import Noise
from csmkit.csm.transformer import KvCache, Reach

SMALLEST_BUCKET = 16  # rows of a prompt; longer buckets are twice as long each


class Recorder(Protocol):
    """Who launches the operations on buffers."""

    def run(self, recorded: dict[Hashable, object], key: Hashable, body: Callable[[], None]) -> None:
        """Do what ``body`` does; ``recorded`` keeps what was recorded of it under ``key``."""
        ...

    def wait(self) -> Callable[[], object]:
        """A function that waits for all launched so far."""
        ...


class Unrecorded:
    """Every operation every time."""

    def run(self, recorded: dict[Hashable, object], key: Hashable, body: Callable[[], None]) -> None:
        """As `Recorder.run`."""
        body()

    def wait(self) -> Callable[[], object]:
        """As `Recorder.wait`."""
        return lambda: None


@dataclass
class Launched:
    """A frame on its way: where it will be on the host, once ``wait`` returns, and in which rows of it."""

    slot: Slot
    wait: Callable[[], object]


@dataclass(eq=False)
class BufferedState(CsmState):
    """The state of streams that have buffers. Dropping it frees them for others.

    Attributes:
        buffers: whose tensors it is made of.
        rows: of the buffers, one a stream; the buffers may have more.
        aloud: whether its frames are decoded.
        ahead: frames that were launched and not handed out yet.
    """

    buffers: FrameBuffers
    rows: list[int]
    aloud: bool = False
    ahead: list[Launched] = field(default_factory=list)


class StaticStep:
    """See `csmkit.csm.execution.step.Step`.

    Args:
        model: with weights, on its device.
        sounds: decodes with the frame; None where frames are decoded elsewhere.
        recorder: None to run every operation.
        n_ahead: frames launched before the last one is looked at: the device never waits for the host to see whether
            speech has ended. What was computed beyond the end is dropped.
        stacks: to run in place of the model's own; they get constant shapes in the depth decoder too.
        n_warm_ups: see `Step`.
    """

    def __init__(
        self,
        model: CsmModel,
        sounds: FrameDecoder | None = None,
        recorder: Recorder | None = None,
        n_ahead: int = 0,
        stacks: Stacks | None = None,
        n_warm_ups: int = 1,
    ) -> None:
        self._model, self._sounds, self._stacks, self._n_ahead = model, sounds, stacks, n_ahead
        self._recorder = recorder or Unrecorded()
        # Every stream has room for all positions. What the mask hides costs next to nothing on a GPU, what is compiled
        # or recorded fits all, and attention over one length rounds in one way: a prompt is read alike every time.
        self._n_positions = model.config.backbone.max_positions
        self._free: dict[int, list[FrameBuffers]] = {}
        self.n_warm_ups = n_warm_ups
        self.warm_up_rows = () if recorder is None else _buckets(self._n_positions)
        self.makes_sound = sounds is not None
        with torch.inference_mode():
            self._depth_reaches = depth_reaches(model) if stacks is None else _even_depth_reaches(model)

    def new_state(self, n_positions: int, noise: Noise) -> BufferedState:
        """As `Step.new_state`."""
        state = self._state([0])
        state.noise.load(0, noise, [0])
        return state

    @torch.inference_mode()
    def join(self, states: Sequence[BufferedState]) -> BufferedState:
        """As `Step.join`; either all streams have made frames, or none has."""
        return states[0] if len(states) == 1 else self._copied([(state, state.rows) for state in states])

    @torch.inference_mode()
    def take(self, state: BufferedState, rows: Sequence[int]) -> BufferedState:
        """As `Step.take`; buffers half as large, where they are large enough, cost half as much."""
        chosen = [state.rows[row] for row in rows]
        if _power_of_two(len(rows)) != state.buffers.batch:
            return self._copied([(state, chosen)])
        state.rows, state.backbone.lengths = chosen, [state.backbone.lengths[row] for row in rows]
        return state

    @torch.inference_mode()
    def split(self, state: BufferedState, rows: Sequence[int]) -> BufferedState:
        """As `Step.split`."""
        return self._copied([(state, [state.rows[row] for row in rows])])

    def _copied(self, parts: Sequence[tuple[BufferedState, Sequence[int]]]) -> BufferedState:
        """The streams of these rows of several states, in buffers of their own."""
        lengths = [state.backbone.lengths[state.rows.index(row)] for state, rows in parts for row in rows]
        copied = self._state(lengths)
        new, last = copied.buffers, parts[-1]
        copied.aloud = parts[0][0].aloud
        # Rows without a stream follow the last one: then whatever they compute is something that can be computed.
        filled = [*parts, (last[0], last[1][-1:] * (new.batch - len(lengths)))]
        slots = [new.next_slot() for _ in parts[0][0].ahead]
        copied.ahead = [Launched(slot, lambda: None) for slot in slots]
        start = 0
        for state, rows in filled:
            new.load(start, state.buffers, rows)
            for slot, launched in zip(slots, state.ahead, strict=True):
                launched.wait()
                slot.load(start, launched.slot, rows)
            start += len(rows)
        return copied

    @torch.inference_mode()
    def read(self, state: BufferedState, tokens: Tensor, mask: Tensor) -> None:
        """As `Step.read`."""
        buffers = state.buffers
        start, n_rows = state.backbone.length, tokens.shape[1]
        bucket = max(SMALLEST_BUCKET, _power_of_two(n_rows))
        with _damaged_by_errors(buffers):
            if bucket not in buffers.prompts:
                buffers.prompts[bucket] = PromptBuffers.make(bucket, tokens.shape[2], self._model.device)
            prompt = buffers.prompts[bucket]
            prompt.fill(start, tokens, mask)
            self._recorder.run(buffers.recorded, ("read", bucket), partial(self._read, buffers, prompt))
        state.backbone.advance(n_rows)

    @torch.inference_mode()
    def first(self, state: BufferedState, aloud: bool = False) -> Made:
        """As `Step.first`."""
        state.aloud = aloud and self._sounds is not None
        buffers, lengths = state.buffers, state.backbone.lengths
        with _damaged_by_errors(buffers):
            buffers.set_positions([*lengths, *[lengths[-1]] * (buffers.batch - len(lengths))])
            if buffers.voices is not None:
                buffers.voices.restart()
        self._launch(state, first=True)
        return self.next(state)

    @torch.inference_mode()
    def next(self, state: BufferedState) -> Made:
        """As `Step.next`."""
        while len(state.ahead) <= self._n_ahead:
            self._launch(state)
        launched = state.ahead.pop(0)
        launched.wait()
        if not launched.slot.finite:
            state.buffers.damaged = True
        return launched.slot.made(state.rows, state.aloud)

    def _launch(self, state: BufferedState, first: bool = False) -> None:
        """Start a frame and its way to the host."""
        buffers = state.buffers
        slot = buffers.next_slot()
        with _damaged_by_errors(buffers):
            body = partial(self._frame, buffers, first, state.aloud)
            self._recorder.run(buffers.recorded, ("frame", first, state.aloud), body)
            slot.frame.copy_(buffers.frame, non_blocking=True)
            if state.aloud:
                slot.sound.copy_(buffers.sound, non_blocking=True)
            buffers.wait = self._recorder.wait()
        if not first:
            state.backbone.advance(1)
        state.ahead.append(Launched(slot, buffers.wait))

    def _frame(self, buffers: FrameBuffers, first: bool, aloud: bool) -> None:
        """One frame: all it reads and leaves behind is in the buffers, and copied into them."""
        model, state = self._model, buffers.state
        if not first:
            reach = whole_reach(model.backbone, buffers.position, self._n_positions + 1)
            state.hidden.copy_(model.read_frame(state, reach, self._stacks))
            # A frame beyond the room is computed and dropped; it must not write beyond it.
            buffers.position.add_(1).clamp_(max=self._n_positions)
        noise = state.noise.draw_in_place()
        codes, finite = model.speak_frame(state, noise, state.noise.topk, self._depth_reaches, self._stacks)
        state.codes.copy_(codes)
        buffers.finite.copy_(finite if first else finite & buffers.finite)
        buffers.frame.copy_(packed(codes, buffers.finite))
        if aloud and self._sounds is not None and buffers.voices is not None:
            buffers.sound.copy_(self._sounds(codes.unsqueeze(2), buffers.voices))

    def _read(self, buffers: FrameBuffers, prompt: PromptBuffers) -> None:
        model, state = self._model, buffers.state
        bucket = prompt.tokens.shape[1]
        reach = bucket_reach(model.backbone, prompt.start, prompt.n_rows, bucket, self._n_positions + 1)
        state.hidden.copy_(model.read_prompt(state, prompt.tokens, prompt.mask, reach, prompt.n_rows - 1))

    def _state(self, lengths: list[int]) -> BufferedState:
        """A state with free buffers, or new ones."""
        batch = _power_of_two(len(lengths))
        free = self._free.setdefault(batch, [])
        buffers = self._new_buffers(batch) if (found := _pop_reusable(free)) is None else found
        cache = KvCache(buffers.state.backbone.layers, list(lengths))
        inner = buffers.state
        rows = list(range(len(lengths)))
        state = BufferedState(cache, inner.depth, inner.noise, inner.hidden, inner.codes, buffers, rows)
        weakref.finalize(state, _give_back, buffers, free).atexit = False
        return state

    def _new_buffers(self, batch: int) -> FrameBuffers:
        index = self._model.device.index if self._model.device.type == "cuda" else -1
        # What is kept of a prompt is copied in outside of inference mode; page-locked memory asks the current device.
        with torch.inference_mode(False), torch.cuda.device(index):
            return FrameBuffers.make(self._model, batch, self._n_positions, self._sounds)


@contextmanager
def _damaged_by_errors(buffers: FrameBuffers) -> Iterator[None]:
    """Whatever stops half-way leaves buffers that no other stream shall have."""
    try:
        yield
    except BaseException:
        buffers.damaged = True
        raise


def _pop_reusable(free: list[FrameBuffers]) -> FrameBuffers | None:
    """One of the free buffers; those in which something was not finite are dropped on the way."""
    while True:
        try:
            buffers = free.pop()  # another thread may take the last one between a look and this
        except IndexError:
            return None
        if buffers.reusable():
            return buffers


def _give_back(buffers: FrameBuffers, free: list[FrameBuffers]) -> None:
    """Called when the last of a state is gone, in any thread: it must not wait for the device."""
    if not buffers.damaged:
        free.append(buffers)


def _buckets(n_positions: int) -> tuple[int, ...]:
    """The longest prompt of every bucket, smallest first."""
    sizes = [SMALLEST_BUCKET]
    while sizes[-1] < n_positions - 1:
        sizes.append(2 * sizes[-1])
    return tuple(min(size, n_positions - 1) for size in sizes)


def _even_depth_reaches(model: CsmModel) -> list[Reach]:
    """As `depth_reaches`, but each of one span: what is compiled for one pass then fits all."""
    n_codebooks, depth = model.config.n_codebooks, model.depth
    seen = torch.arange(n_codebooks, device=model.device)
    group = depth.config.group
    both = seen[:2]
    cos, sin = depth.rotation(both)
    mask = (seen <= both[:, None]).repeat_interleave(group, dim=0)
    first = Reach(both, cos, sin, n_codebooks, mask)
    return [first, *(_copied(whole_reach(depth, seen[i : i + 1], n_codebooks)) for i in range(2, n_codebooks))]


def _copied(reach: Reach) -> Reach:
    """With tensors of their own: views into one table differ in their offsets, for which a compiler starts anew."""
    mask = None if reach.mask is None else reach.mask.contiguous()
    return Reach(reach.positions.clone(), reach.cos.clone(), reach.sin.clone(), reach.span, mask)


def _power_of_two(n: int) -> int:
    """The smallest that is at least ``n``."""
    return 1 << (n - 1).bit_length()
