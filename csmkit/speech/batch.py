"""Several utterances computed together: their states, their codec streams, and one frame of each in one pass."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

from torch import Tensor

from csmkit.closing import Closing
from csmkit.codec import Codec, CodecBatch
from csmkit.csm.execution.step import Made, Step
from csmkit.csm.model import CsmModel, CsmState
from csmkit.csm.sampling import Noise
from csmkit.errors import NotFiniteError
from csmkit.machine import out_of_memory
from csmkit.speech.frames import END_OF_SPEECH, INTERRUPTED, End, Frame
from csmkit.speech.prompt import Block, PromptBuilder
from csmkit.speech.prompt_cache import KeptBlock, PrefixStore
from csmkit.speech.settings import Request
from csmkit.speech.streams import SpeechStream


class Engine(NamedTuple):
    """The model of a generator, and what turns requests into its input.

    Attributes:
        model: the network with its weights.
        step: computes frames with the model.
        prompts: turns requests into rows of the prompt.
        prefixes: keeps the cache rows of earlier prompts.
    """

    model: CsmModel
    step: Step
    prompts: PromptBuilder
    prefixes: PrefixStore


@dataclass(eq=False)
class Row:
    """An utterance of a running batch.

    Attributes:
        request: the text to speak, with its context and settings.
        seed: seeds the noise of the row.
        n_positions: number of cache rows for the prompt and the longest answer.
        unread: pieces of the prompt that were not read yet; None before the first was read.
        context: the pieces before the text to speak.
        state: state of the model for this row alone; None once it has joined a group.
        keep: cache rows of the prompt, to be kept if the first frame is finite.
        n_frames: number of frames made.
        began_s: when reading its prompt began.
        is_closed: whether it makes no more frames.
    """

    request: Request
    seed: int
    n_positions: int
    unread: deque[Block] | None = None
    context: list[Block] = field(default_factory=list)
    state: CsmState | None = None
    keep: tuple[KeptBlock, ...] = ()
    n_frames: int = 0
    began_s: float | None = None
    is_closed: bool = False


@dataclass(eq=False)
class Group:
    """Rows that share their passes: the state of the model and of the codec, in the order of ``rows``.

    Attributes:
        rows: the rows of ``state``.
        state: the state of the model.
        sounding: the rows of ``sounds``.
        sounds: the codec's streams; None where no sound is made, or the step makes it.
    """

    rows: list[Row]
    state: CsmState
    sounding: list[Row]
    sounds: CodecBatch | None


class RunningBatch:
    """Makes frames of its rows with a model, see `csmkit.speech.scheduler.FrameMaker`.

    Args:
        engine: the model and all that it needs to speak.
        codec: decodes the frames; None for codes alone, and where the step decodes them.
        step_decodes: whether the step makes the sound with the frame.
    """

    def __init__(self, engine: Engine, codec: Codec | None, step_decodes: bool = False) -> None:
        self._engine, self._codec, self._step_decodes = engine, codec, step_decodes
        self._groups: list[Group] = []

    def open(self, request: Request, seed: int) -> Row:
        """Make a row; raises ContextOverflowError if prompt and answer do not fit the model."""
        return Row(request, seed, self._engine.prompts.check(request) + request.max_frames)

    def prepare(self, row: Row) -> bool:
        """Read one piece of the prompt; pieces known from earlier prompts are skipped. Returns whether all is read."""
        with out_of_memory("reading a prompt"):
            if row.unread is None or row.state is None:
                row.began_s = perf_counter()
                self._begin(row)
            assert row.unread is not None and row.state is not None
            self._engine.step.read(row.state, *row.unread.popleft().inputs())
        if not row.unread:
            row.keep = self._engine.prefixes.copy(row.context, row.state.backbone)
        return not row.unread

    def _begin(self, row: Row) -> None:
        step, model = self._engine.step, self._engine.model
        row.context, text = self._engine.prompts.build(row.request)
        noise = Noise(model.config, [row.request.sampling], [row.seed], model.device)
        row.state = step.new_state(row.n_positions, noise)
        n_known = self._engine.prefixes.restore(row.context, row.state.backbone)
        row.unread = deque([*row.context[n_known:], *text])

    def make(self, rows: Sequence[Row]) -> list[Frame | End]:
        """Make the next frame of each of these rows; the others stay where they are."""
        began_s = perf_counter()
        new = [row for row in rows if row.n_frames == 0]
        groups = [group for group in (self._gather({*rows} - {*new}), self._join_new(new)) if group is not None]
        results: dict[Row, Frame | End] = {}
        while groups:  # popped: the traceback of an error leads here, and must not hold the state
            results |= self._results(groups.pop(0), began_s)
        return [results[row] for row in rows]

    def close(self, rows: Iterable[Row]) -> None:
        """Free these rows: at once where a group has no others, else before its next frame."""
        for row in rows:
            row.is_closed, row.state, row.unread = True, None, None
        self._groups = [group for group in self._groups if not all(row.is_closed for row in group.rows)]

    def _join_new(self, rows: list[Row]) -> Group | None:
        """A group of rows whose prompt was read and that have made no frame."""
        if not rows:
            return None
        step = self._engine.step
        state = step.join([row.state for row in rows if row.state is not None])
        for row in rows:
            row.state = None
        group = Group(rows, state, list(rows), None if self._codec is None else self._codec.streams(len(rows)))
        self._groups.append(group)
        return group

    def _gather(self, rows: set[Row]) -> Group | None:
        """Return one group of exactly these rows; the other rows of their groups continue in groups of their own."""
        touched = [group for group in self._groups if not rows.isdisjoint(group.rows)]
        for group in touched:
            others = [row for row in group.rows if row not in rows and not row.is_closed]
            if others:
                self._groups.append(self._split(group, others))
            self._keep(group, [row for row in group.rows if row in rows])
        if len(touched) > 1:
            self._merge(touched)
        return touched[0] if touched else None

    def _split(self, group: Group, rows: list[Row]) -> Group:
        """Copy these rows to a group of their own; the caller removes them from the other."""
        state = self._engine.step.split(group.state, [group.rows.index(row) for row in rows])
        sounds = None if group.sounds is None else group.sounds.split([group.sounding.index(row) for row in rows])
        return Group(rows, state, list(rows), sounds)

    def _keep(self, group: Group, rows: list[Row]) -> None:
        """Keep these rows of a group; the others are dropped from it."""
        if rows != group.rows:
            group.state = self._engine.step.take(group.state, [group.rows.index(row) for row in rows])
            group.rows = rows
        self._keep_sounds(group, rows)

    def _keep_sounds(self, group: Group, rows: list[Row]) -> None:
        if group.sounds is not None and rows != group.sounding:
            group.sounds.take([group.sounding.index(row) for row in rows])
            group.sounding = list(rows)

    def _merge(self, groups: list[Group]) -> None:
        """Make the first of these groups hold the rows of all."""
        first, *others = groups
        first.state = self._engine.step.join([group.state for group in groups])
        for other in others:
            if first.sounds is not None and other.sounds is not None:
                first.sounds.join(other.sounds)
            first.rows, first.sounding = [*first.rows, *other.rows], [*first.sounding, *other.sounding]
            self._groups.remove(other)

    def _results(self, group: Group, began_s: float) -> dict[Row, Frame | End]:
        """The results of one pass of a group. An error ends all its rows, and their states are dropped."""
        rows = group.rows
        try:
            return self._pass(group, began_s)
        except Exception as error:
            self._groups.remove(group)
            del group
            traceback.clear_frames(error.__traceback__)  # which hold the state
            return dict.fromkeys(rows, End(INTERRUPTED, error))

    def _pass(self, group: Group, began_s: float) -> dict[Row, Frame | End]:
        """One frame of every row of a group. The end frame is neither kept nor decoded nor sampled past."""
        with out_of_memory("making a frame"):
            made = self._next(group)
        speaking = made.finite & made.codes.any(dim=1)
        spoken = speaking.nonzero().flatten().tolist()
        results: dict[Row, Frame | End] = {}
        for index, row in enumerate(group.rows):
            row.n_frames += 1
            if not made.finite[index]:
                dtype = self._engine.model.projection.dtype
                results[row] = End(INTERRUPTED, NotFiniteError.in_frame(row.n_frames, "codes", dtype))
            elif not speaking[index]:
                results[row] = End(END_OF_SPEECH)
        sounds = self._sounds(group, made, spoken)
        for number, index in enumerate(spoken):
            sound = None if sounds is None else sounds[number].clone()
            results[group.rows[index]] = _frame(group.rows[index], made.codes[index].clone(), sound, began_s)
        return results

    def _next(self, group: Group) -> Made:
        if group.rows[0].n_frames:
            return self._engine.step.next(group.state)
        made = self._engine.step.first(group.state, self._step_decodes)
        for row, finite in zip(group.rows, made.finite.tolist(), strict=True):
            if finite:
                self._engine.prefixes.keep(row.keep)
            row.keep, row.context = (), []
        return made

    def _sounds(self, group: Group, made: Made, spoken: list[int]) -> Tensor | None:
        """The sound of these rows, ``(len(spoken), 1920)``; None where none is made."""
        if made.sound is not None or group.sounds is None or not spoken:
            return None if made.sound is None else made.sound[spoken]
        self._keep_sounds(group, [group.rows[index] for index in spoken])
        with out_of_memory("decoding a frame"):
            return group.sounds.decode(made.codes[spoken])


def _frame(row: Row, codes: Tensor, sound: Tensor | None, began_s: float) -> Frame | End:
    if sound is not None and not bool(sound.isfinite().all()):
        return End(INTERRUPTED, NotFiniteError.in_frame(row.n_frames, "sound", "of the codec"))
    if row.n_frames == 1 and row.began_s is not None:
        began_s = row.began_s
    return Frame(codes, sound, (began_s, perf_counter()))


class SpeechBatch(Closing, Iterator[tuple[int, Tensor]]):
    """The sound of several utterances as ``(row, chunk)``: chunks of the rows in turn, each row's own in order.

    Attributes:
        streams: the stream of each row, with its seed, codes and finish reason; closing one ends that row alone.
    """

    def __init__(self, streams: Sequence[SpeechStream]) -> None:
        self.streams = list(streams)
        self._turns = deque(range(len(self.streams)))

    def __next__(self) -> tuple[int, Tensor]:
        while self._turns:
            row = self._turns.popleft()
            chunk = next(self.streams[row], None)
            if chunk is not None:
                self._turns.append(row)
                return row, chunk
        raise StopIteration

    def close(self) -> None:
        """Stop all rows and free what they hold; from any thread, more than once."""
        for stream in self.streams:
            stream.close()
