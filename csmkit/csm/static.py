"""The frame in constant shapes: positions and noise are tensors, nothing is read back, no memory moves.

That is what can be recorded once and launched again (`csmkit.csm.graph`) and what a compiler likes
(`csmkit.csm.compiled`). Here it runs as it is, on any device: what a recording does is tested without a GPU.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from csmkit.csm.eager import depth_reaches
from csmkit.csm.model import CsmModel, CsmState, Stacks
from csmkit.csm.reach import bucket_reach, whole_reach
from csmkit.csm.sampling import Noise
from csmkit.csm.seat import PromptBuffers, Seat, Slot
from csmkit.csm.step import Made, Sounds
from csmkit.csm.transformer import KvCache, Reach

SMALLEST_BUCKET = 16  # rows of a prompt; longer buckets are twice as long each
SMALLEST_CACHE = 256  # positions of a seat, where not every seat has all


class Recorder(Protocol):
    """Who launches the operations of a seat."""

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
class SeatedState(CsmState):
    """The state of streams that have a seat. Dropping it frees the seat.

    Attributes:
        seat: whose memory it is.
        rows: of the seat, one a stream; the seat may have more.
        aloud: whether its frames are decoded.
        ahead: frames that were launched and not handed out yet.
    """

    seat: Seat
    rows: list[int]
    aloud: bool = False
    ahead: list[Launched] = field(default_factory=list)


class StaticStep:
    """See `csmkit.csm.step.Step`.

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
        sounds: Sounds | None = None,
        recorder: Recorder | None = None,
        n_ahead: int = 0,
        stacks: Stacks | None = None,
        n_warm_ups: int = 1,
    ) -> None:
        self._model, self._sounds, self._stacks, self._n_ahead = model, sounds, stacks, n_ahead
        self.n_warm_ups = n_warm_ups
        # On a GPU what the mask hides costs next to nothing, and what is compiled or recorded should fit all.
        self._whole_caches = stacks is not None or model.device.type == "cuda"
        self._recorder = recorder or Unrecorded()
        self._free: dict[tuple[int, int], list[Seat]] = {}
        self.makes_sound = sounds is not None
        with torch.inference_mode():
            self._depth_reaches = depth_reaches(model) if stacks is None else _even_depth_reaches(model)

    def new_state(self, n_positions: int, noise: Noise) -> SeatedState:
        """As `Step.new_state`."""
        limit = self._model.config.backbone.max_positions
        if not self._whole_caches:
            limit = min(limit, max(SMALLEST_CACHE, _power_of_two(n_positions)))
        state = self._state([0], limit)
        state.noise.load(0, noise, [0])
        return state

    @torch.inference_mode()
    def join(self, states: Sequence[SeatedState]) -> SeatedState:
        """As `Step.join`; only streams that have made no frame yet."""
        if len(states) == 1:
            return states[0]
        lengths = [length for state in states for length in state.backbone.lengths]
        n_positions = max(state.seat.n_positions for state in states)
        joined = self._state(lengths, n_positions)
        # The rows nobody sits on follow the last stream: then whatever they compute is something that can be computed.
        for row in range(joined.seat.batch):
            source = states[min(row, len(states) - 1)]
            joined.seat.load(row, source.seat, source.rows)
        return joined

    @torch.inference_mode()
    def take(self, state: SeatedState, rows: Sequence[int]) -> SeatedState:
        """As `Step.take`; a seat half as large, where it is large enough, costs half as much."""
        lengths = [state.backbone.lengths[row] for row in rows]
        chosen = [state.rows[row] for row in rows]
        old, size = state.seat, _power_of_two(len(rows))
        if size == old.batch:
            state.rows, state.backbone.lengths = chosen, lengths
            return state
        fewer = self._state(lengths, old.n_positions)
        fewer.aloud = state.aloud
        chosen += [chosen[-1]] * (size - len(chosen))
        fewer.seat.load(0, old, chosen)
        if old.voices is not None and fewer.seat.voices is not None:
            fewer.seat.voices.load(old.voices, chosen)
        for launched in state.ahead:
            launched.wait()
            slot = fewer.seat.next_slot()
            slot.codes.copy_(launched.slot.codes[chosen])
            slot.sound.copy_(launched.slot.sound[chosen])
            fewer.ahead.append(Launched(slot, lambda: None))
        return fewer

    @torch.inference_mode()
    def read(self, state: SeatedState, tokens: Tensor, mask: Tensor) -> None:
        """As `Step.read`."""
        seat = state.seat
        start, n_rows = state.backbone.length, tokens.shape[1]
        bucket = max(SMALLEST_BUCKET, _power_of_two(n_rows))
        if bucket not in seat.prompts:
            seat.prompts[bucket] = PromptBuffers.make(bucket, tokens.shape[2], self._model.device)
        buffers = seat.prompts[bucket]
        buffers.fill(start, tokens, mask)
        self._recorder.run(seat.recorded, ("read", bucket), partial(self._read, seat, buffers))
        state.backbone.advance(n_rows)

    @torch.inference_mode()
    def first(self, state: SeatedState, aloud: bool = False) -> Made:
        """As `Step.first`."""
        state.aloud = aloud and self._sounds is not None
        seat = state.seat
        lengths = state.backbone.lengths
        seat.set_positions([*lengths, *[lengths[-1]] * (seat.batch - len(lengths))])
        if seat.voices is not None:
            seat.voices.restart()
        self._launch(state, first=True)
        return self._next(state)

    @torch.inference_mode()
    def next(self, state: SeatedState) -> Made:
        """As `Step.next`."""
        return self._next(state)

    def _next(self, state: SeatedState) -> Made:
        while len(state.ahead) <= self._n_ahead:
            self._launch(state)
        launched = state.ahead.pop(0)
        launched.wait()
        return launched.slot.made(state.rows, state.aloud)

    def _launch(self, state: SeatedState, first: bool = False) -> None:
        seat = state.seat
        slot = seat.next_slot()
        key = ("frame", first, state.aloud)
        self._recorder.run(seat.recorded, key, partial(self._frame, seat, first, state.aloud))
        slot.codes.copy_(seat.inner.codes, non_blocking=True)
        if state.aloud:
            slot.sound.copy_(seat.sound, non_blocking=True)
        if not first:
            state.backbone.advance(1)
        state.ahead.append(Launched(slot, self._recorder.wait()))

    def _frame(self, seat: Seat, first: bool, aloud: bool) -> None:
        """One frame; all it reads and leaves behind is in the seat."""
        model, inner = self._model, seat.inner
        hidden, last = inner.hidden, inner.codes
        if not first:
            model.read_frame(inner, whole_reach(model.backbone, seat.position, seat.n_positions + 1), self._stacks)
            # A frame beyond the room is computed and dropped; it must not write beyond it.
            seat.position.add_(1).clamp_(max=seat.n_positions)
        noise = inner.noise.draw_in_place()
        codes = model.speak_frame(inner, noise, inner.noise.topk, self._depth_reaches, self._stacks)
        hidden.copy_(inner.hidden)
        last.copy_(codes)
        inner.hidden, inner.codes = hidden, last
        if aloud and self._sounds is not None and seat.voices is not None:
            seat.voices.fresh = first
            seat.sound.copy_(self._sounds(last.unsqueeze(2), seat.voices))

    def _read(self, seat: Seat, prompt: PromptBuffers) -> None:
        model, inner = self._model, seat.inner
        hidden, n_positions = inner.hidden, seat.n_positions + 1
        bucket = prompt.tokens.shape[1]
        reach = bucket_reach(model.backbone, prompt.start, prompt.n_rows, bucket, n_positions)
        model.read_prompt(inner, prompt.tokens, prompt.mask, reach, prompt.n_rows - 1)
        hidden.copy_(inner.hidden)
        inner.hidden = hidden

    def _state(self, lengths: list[int], n_positions: int) -> SeatedState:
        """A state with a free seat, or a new one."""
        key = (_power_of_two(len(lengths)), n_positions)
        free = self._free.setdefault(key, [])
        try:
            seat = free.pop()  # another thread may take the last one between a look and this
        except IndexError:
            seat = self._new_seat(*key)
        inner = seat.inner
        cache = KvCache(inner.backbone.layers, list(lengths))
        state = SeatedState(cache, inner.depth, inner.noise, inner.hidden, inner.codes, seat, list(range(len(lengths))))
        weakref.finalize(state, free.append, seat).atexit = False
        return state

    def _new_seat(self, batch: int, n_positions: int) -> Seat:
        with torch.inference_mode(False):  # what is kept of a prompt is copied in outside of it
            return Seat.make(self._model, batch, n_positions, self._sounds)


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
