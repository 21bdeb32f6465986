"""StreamingConversationalChatbot: the whole conversation, as a generator of events."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from os import PathLike
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.audio import SAMPLE_RATE, WavWriter, as_mono, read, resample
from csmkit.chat.conversation import Conversation, load_conversation, save_conversation
from csmkit.chat.events import Event
from csmkit.chat.settings import TurnOptions, turn_options
from csmkit.chat.turn import Stage, Turn
from csmkit.checks import is_finite
from csmkit.errors import InputError, StateError
from csmkit.llm.contract import LLM, Message
from csmkit.stack import Models, Stack, find_models, load_language_model, load_recogniser, load_voice, timed

if TYPE_CHECKING:
    import numpy as np

    from csmkit.audio import Waveform
    from csmkit.speech.base import SpeechGenerator


class StreamingConversationalChatbot:
    """Answers aloud, and hears itself while it does.

    A part is given as an object, as a plugin's name such as ``fake``, or as the name of a model; what is left out comes
    from the preset. Everything is loaded here, so that a turn only waits for its answer.

    Args:
        generator: the voice.
        asr: the recogniser; False for none. One that is given as an object may be shared with other chatbots, and is
            not closed.
        llm: the language model.
        preset: ``pocket`` or ``sesame``, or models of your own; None asks CSMKIT_PRESET and means pocket. A `Stack`
            lends its models, which it keeps: several chatbots then share them.
        options: how turns are spoken; None is the preset's way.
        clock: seconds, never decreasing; times what a turn measures. Give a recogniser of yours the same one.
        changes: fields of `TurnOptions` to change, such as ``chunk_frames=4``.

    Attributes:
        load_s: seconds that loading and warming up took, by part: ``speech``, ``llm``, ``asr``. What is given as an
            object is not warmed up here.

    Raises:
        InputError: an unknown preset or option, a value out of its range, or a speaker prompt in the option ``voice``
            for a checkpoint that cannot follow one, such as the bundled one.
        ContextOverflowError: a speaker prompt that leaves no room to speak.
        CsmkitError: a model cannot be loaded; the leaf says why.
    """

    def __init__(
        self,
        *,
        generator: SpeechGenerator | str | None = None,
        asr: StreamingWhisperASR | str | bool | None = None,
        llm: LLM | str | None = None,
        preset: str | Models | Stack | None = None,
        options: TurnOptions | None = None,
        clock: Callable[[], float] = perf_counter,
        **changes: Any,
    ) -> None:
        models = preset.models if isinstance(preset, Stack) else find_models(preset)
        self.options = (options or turn_options(models)).changed(**changes)
        seed = {"seed": self.options.seed}
        own = Stack(replace(models, llm_options={**seed, **models.llm_options}))
        stack = preset if isinstance(preset, Stack) else own
        self.load_s: dict[str, float] = {}
        with timed(self.load_s, "speech"):
            self.generator: SpeechGenerator = stack.voice if generator is None else load_voice(generator)
        self._check_prompt()
        with timed(self.load_s, "llm"):
            self.llm: LLM = stack.language_model if llm is None else load_language_model(llm, seed)
        with timed(self.load_s, "asr"):
            self.asr = _recogniser(asr, stack)
        self._owns_asr = isinstance(asr, str) or (asr is not self.asr and stack is own)
        self._conversation = Conversation()
        self._clock = clock
        self._pace: float | None = None  # of the last turn that had one
        self._turn: Turn | None = None
        self._last_turn: Turn | None = None  # the last that ended; it may still be truncated
        self._kept_turn: Turn | None = None  # the one at the end of the history
        self._keeping = threading.Lock()
        # Weak, so that leaving a for loop drops the generator, which closes it and with it the turn.
        self._events: weakref.ref[Generator[Event, None, None]] | None = None

    @property
    def history(self) -> list[Message]:
        """``{"role", "content"}`` of what was spoken, oldest first. A turn nobody heard leaves no trace."""
        return self._conversation.history

    def process_streaming(
        self,
        user_input: str,
        save_audio_path: str | PathLike[str] | None = None,
        user_audio: Waveform | None = None,
    ) -> Generator[Event, None, None]:
        """Answer a message. Taking an event asks for the next work; closing the generator stops everything at once.

        A turn that was left half read is closed first.

        Args:
            user_input: what the user says.
            save_audio_path: a WAV file that grows with every chunk, or None.
            user_audio: the sound of ``user_input`` at 24 kHz, where it was spoken and recognised elsewhere: the voice
                hears it as the user's turn.

        Yields:
            Events, see `csmkit.chat.events`; the first as soon as the language model writes.

        Raises:
            InputError: no text, or sound that cannot be used; at the call.
            AudioFileError: the file cannot be written; at the call, before anything is generated.
            StateError: another thread is reading a turn; at the call.
            LanguageModelError: the language model failed, while reading; the next turn is not affected.
        """
        if not isinstance(user_input, str) or not user_input.strip():
            raise InputError(f"user_input={user_input!r}: give some text to answer")
        sound = None if user_audio is None else as_mono(user_audio)
        return self._begin(user_input.strip(), sound, save_audio_path)

    def process_streaming_audio(
        self,
        audio: str | PathLike[str] | Waveform,
        sample_rate: int | None = None,
        save_audio_path: str | PathLike[str] | None = None,
    ) -> Generator[Event, None, None]:
        """Answer what the user says aloud: heard by the recogniser, then as `process_streaming`.

        Args:
            audio: a sound file, or samples in any shape and type that `csmkit.audio.as_mono` takes. The voice hears
                them too, as the user's turn.
            sample_rate: of samples, in Hz; None is 24 000. A file knows its own.
            save_audio_path: as for `process_streaming`.

        Yields:
            ``heard`` with the text, then as `process_streaming`. Where there was no word, ``complete`` follows at once
            with the reason "nothing_heard", and the conversation stays as it was.

        Raises:
            AudioFileError: no such sound file; at the call.
            InputError: samples that cannot be used, or a chatbot without a recogniser; at the call.
            TranscriptionError: the recogniser failed, or took too long, at the first event.
            CsmkitError: as `process_streaming`.
        """
        if self.asr is None:
            raise InputError("this chatbot has no recogniser: make it with asr='base.en', or give text")
        if isinstance(audio, (str, PathLike)):
            sound = read(audio)
        else:
            sound = resample(audio, SAMPLE_RATE if sample_rate is None else sample_rate)
        if len(sound) > self.asr.max_audio_s * SAMPLE_RATE:
            seconds, limit = len(sound) / SAMPLE_RATE, self.asr.max_audio_s
            raise InputError(f"{seconds:.1f} s of sound: the recogniser takes {limit:g} s, give a shorter recording")
        return self._begin("", sound, save_audio_path)

    def _begin(
        self,
        user_text: str,
        user_audio: np.ndarray | None,
        save_audio_path: str | PathLike[str] | None,
    ) -> Generator[Event, None, None]:
        self._close_turn()
        wav = None if save_audio_path is None else WavWriter(save_audio_path)
        stage = Stage(self.generator, self.llm, self.asr, self.options, self._pace, self._clock)
        self._turn = turn = Turn(stage, self._conversation, user_text, user_audio, wav)
        events = self._follow(turn)
        self._events = weakref.ref(events)
        return events

    def interrupt(self) -> None:
        """Stop the present turn, from any thread or a signal handler; its generator ends with ``complete``.

        It takes effect within the frame being made, also while the user is being heard. Nothing to stop is fine.
        """
        turn = self._turn
        if turn is not None:
            turn.interrupt()

    def truncate(self, played_ms: float) -> str:
        """Keep of the last answer only what its listener has played, as the history does for what is interrupted.

        An answer is usually made faster than it plays. Whoever plays it knows how far it was played when the user broke
        in. From any thread, during the answer or after it; a later call replaces an earlier one.

        Args:
            played_ms: milliseconds of the answer that were played; 0 leaves no trace of the turn.

        Returns:
            The text of the answer that was heard, as the history has it.

        Raises:
            InputError: not a number of milliseconds from 0.
            StateError: there is no answer to truncate.
        """
        if not is_finite(played_ms) or played_ms < 0:
            raise InputError(f"played_ms={played_ms!r}: give the milliseconds of the answer that were played, from 0")
        with self._keeping:
            turn = self._turn or self._last_turn
            if turn is None:
                raise StateError("no answer to truncate: call truncate() during or after a turn")
            turn.played_ms = played_ms
            if turn is self._last_turn:
                self._keep(turn)
            return turn.delivered()[0]

    def reset(self) -> None:
        """Forget the conversation.

        Raises:
            StateError: another thread is reading a turn.
        """
        self._close_turn()
        self._last_turn = self._kept_turn = None
        self._conversation.clear()

    def save(self, folder: str | PathLike[str]) -> None:
        """Keep the conversation in a folder; errors as `csmkit.chat.conversation.save_conversation`."""
        save_conversation(folder, self.history, self._conversation.turns)

    def load(self, folder: str | PathLike[str]) -> None:
        """Go on with a conversation that was saved, in place of this one.

        Raises:
            CheckpointNotFoundError, CheckpointError: as `load_conversation`; nothing is forgotten.
            StateError: another thread is reading a turn.
        """
        history, segments = load_conversation(folder, self.generator.codec)
        self.reset()
        self._conversation = Conversation(history, segments)

    def close(self) -> None:
        """End the present turn, and the recogniser if this chatbot loaded it: a given one may be in use elsewhere.

        Raises:
            StateError: another thread is reading a turn.
        """
        self._close_turn()
        if self.asr is not None and self._owns_asr:
            self.asr.close()

    def __enter__(self) -> StreamingConversationalChatbot:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _follow(self, turn: Turn) -> Generator[Event, None, None]:
        leave = atexit.register(partial(_leave, self._events))
        try:
            yield from turn.events()
        finally:
            atexit.unregister(leave)
            with self._keeping:
                self._keep(turn)
                self._last_turn = turn
                if self._turn is turn:
                    self._turn = None
            self._pace = turn.pace or self._pace

    def _keep(self, turn: Turn) -> None:
        """Add what was heard of a turn to the conversation, in place of what was added of it before."""
        if self._kept_turn is turn:
            self._conversation.remove_last()
        self._kept_turn = None
        answer, segments = turn.delivered()
        if answer:
            self._conversation.add(turn.user_text, answer, segments)
            self._kept_turn = turn

    def _close_turn(self) -> None:
        events = None if self._events is None else self._events()
        if events is not None:
            if events.gi_running:
                raise StateError("a turn is being read by another thread: call interrupt() and let it end first")
            events.close()
        if self._turn is not None:  # it was never read, so that closing its events has done nothing
            self._turn.end()
        self._turn = self._events = None

    def _check_prompt(self) -> None:
        """Raise here, not in the first turn, for a speaker prompt that the generator cannot use."""
        prompt, length = self.options.voice, self.options.max_audio_length_ms
        self.generator.abilities.check_prompt(prompt)
        if prompt:
            request = self.generator.request("Hello.", context=list(prompt), max_audio_length_ms=length)
            self.generator.fit(request, n_lead=len(prompt))


def _recogniser(asr: StreamingWhisperASR | str | bool | None, stack: Stack) -> StreamingWhisperASR | None:
    """The recogniser asked for: the stack's own for None and True, none for False."""
    if asr is False:
        return None
    if asr is None or isinstance(asr, bool):
        return stack.recogniser()
    return load_recogniser(asr, stack.models.asr_preset)


def _leave(events: weakref.ref[Generator[Event, None, None]] | None) -> None:
    """Close a turn that is left open when the program ends; later, torch is not there any more to be closed with."""
    open_turn = None if events is None else events()
    if open_turn is not None and not open_turn.gi_running:
        open_turn.close()
