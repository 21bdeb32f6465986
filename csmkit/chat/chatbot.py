"""The chatbot: a spoken conversation in which each turn is a generator of events."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from os import PathLike
from time import perf_counter
from typing import Any

import numpy as np

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.audio import SAMPLE_RATE, Waveform, WavWriter, as_mono, read, resample
from csmkit.chat.conversation import Conversation, load_conversation, save_conversation
from csmkit.chat.events import Event
from csmkit.chat.settings import TurnOptions, turn_options
from csmkit.chat.turn import Stage, Turn
from csmkit.checks import is_finite
from csmkit.closing import Closing
from csmkit.errors import InputError, StateError
from csmkit.llm.contract import LLM, Message
from csmkit.speech.base import SpeechGenerator
from csmkit.stack import Models, Stack, find_models, load_language_model, load_recogniser, load_voice, timed


class StreamingConversationalChatbot(Closing):
    """Answers messages aloud, and transcribes its own speech.

    ``generator``, ``asr`` and ``llm`` are each an object, the name of a plugin such as ``fake``, or the name of a
    model; None is the model of the preset. The constructor loads and warms up all models, and blocks meanwhile.

    Args:
        generator: generates the speech.
        asr: transcribes the speech and the user's audio; False for no transcription. A recogniser that is given as an
            object may be shared with other chatbots; it is not warmed up and not closed.
        llm: writes the answers.
        preset: ``pocket``, ``sesame`` or `Models`; None for the variable CSMKIT_PRESET, else pocket. Or a `Stack`
            with its loaded models, which stay loaded, so that several chatbots can share them.
        options: how turns are spoken and transcribed; None for the preset's.
        clock: returns the present time in seconds and never decreases; all times of a turn come from it. A recogniser
            that is given as an object should have the same clock.
        changes: fields of `TurnOptions` to change, such as ``chunk_frames=4``.

    Attributes:
        options: the options of the next turn; may be replaced between turns.
        load_s: seconds that loading and warming up took, by part: ``speech``, ``llm``, ``asr``.

    Raises:
        InputError: an unknown preset or option, a value out of its range, or a speaker prompt in the option ``voice``
            for a checkpoint that cannot follow one, such as the bundled one.
        ContextOverflowError: a speaker prompt that leaves no room to speak.
        CsmkitError: a model cannot be loaded; the subclass says why.
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
        self._pace: float | None = None  # seconds a second of speech, in the last turn with two or more chunks
        self._turn: Turn | None = None
        self._last_turn: Turn | None = None  # the last that ended; `truncate` may still change it
        self._kept_turn: Turn | None = None  # the turn at the end of the history
        self._keeping = threading.Lock()
        # Weak: a caller who leaves its for loop drops the generator, which then closes the turn.
        self._events: weakref.ref[Generator[Event, None, None]] | None = None

    @property
    def history(self) -> list[Message]:
        """``{"role", "content"}`` of each message, oldest first; an answer is the part of it that was delivered.

        A turn without any delivered speech is left out.
        """
        return self._conversation.history

    def process_streaming(
        self,
        user_input: str,
        save_audio_path: str | PathLike[str] | None = None,
        user_audio: Waveform | None = None,
    ) -> Generator[Event, None, None]:
        """Answer a message. Work is done while events are read; closing the generator stops it at once.

        A turn that is still open is closed first.

        Args:
            user_input: what the user says.
            save_audio_path: WAV file of the answer, written chunk by chunk, or None.
            user_audio: the sound of ``user_input``, samples at 24 kHz, where the user spoke it; it becomes part of the
                generator's context.

        Yields:
            Events, see `csmkit.chat.events`; the first one as soon as the language model has written something.

        Raises:
            InputError: no text, or samples that cannot be used; at the call.
            AudioFileError: the file cannot be written; at the call.
            StateError: another thread is reading a turn; at the call.
            LanguageModelError: the language model failed; from an event. The next turn is not affected.
        """
        if not isinstance(user_input, str) or not user_input.strip():
            raise InputError(f"user_input={user_input!r}: give some text to answer")
        samples = None if user_audio is None else as_mono(user_audio)
        return self._begin(user_input.strip(), samples, save_audio_path)

    def process_streaming_audio(
        self,
        audio: str | PathLike[str] | Waveform,
        sample_rate: int | None = None,
        save_audio_path: str | PathLike[str] | None = None,
    ) -> Generator[Event, None, None]:
        """Transcribe what the user says, and answer it as `process_streaming` does.

        Args:
            audio: a sound file, or samples in any shape and type that `csmkit.audio.as_mono` takes. They become part of
                the generator's context.
            sample_rate: sample rate of samples, in Hz; None for 24 000. Not used for a file.
            save_audio_path: WAV file of the answer, written chunk by chunk, or None.

        Yields:
            ``heard`` with the text, then the events of `process_streaming`. If there was no word, ``complete``
            follows at once with the reason "nothing_heard", and the history is not changed.

        Raises:
            AudioFileError: the sound file does not exist or cannot be read; at the call.
            InputError: samples that cannot be used, or a chatbot without a recogniser; at the call.
            TranscriptionError: the recogniser failed, or took too long; from the first event.
            CsmkitError: as `process_streaming`.
        """
        if self.asr is None:
            raise InputError("this chatbot has no recogniser: create it with asr='base.en', or give text")
        if isinstance(audio, (str, PathLike)):
            samples = read(audio)
        else:
            samples = resample(audio, SAMPLE_RATE if sample_rate is None else sample_rate)
        if len(samples) > self.asr.max_audio_s * SAMPLE_RATE:
            seconds, limit = len(samples) / SAMPLE_RATE, self.asr.max_audio_s
            raise InputError(f"{seconds:.1f} s of audio: the limit is {limit:g} s, give a shorter recording")
        return self._begin("", samples, save_audio_path)

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

        Speech ends within the present frame; a transcription of the user's audio ends, too. Without a turn it does
        nothing.
        """
        turn = self._turn
        if turn is not None:
            turn.interrupt()

    def truncate(self, played_ms: float) -> str:
        """Keep only the played part of the last answer in the history and the context.

        An answer is usually generated faster than it plays; when the user interrupts it, the caller knows how much was
        played. From any thread, during the answer or after it; a later call replaces an earlier one.

        Args:
            played_ms: milliseconds of the answer that were played, at least 0; 0 removes the turn from the history.

        Returns:
            The text of the answer that is kept.

        Raises:
            InputError: not a number of milliseconds of at least 0.
            StateError: there was no answer yet.
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
        """Remove every turn from the history and the context; raises as `close`."""
        self._close_turn()
        self._last_turn = self._kept_turn = None
        self._conversation.clear()

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the conversation to a folder; raises as `csmkit.chat.conversation.save_conversation`."""
        save_conversation(folder, self.history, self._conversation.turns)

    def load(self, folder: str | PathLike[str]) -> None:
        """Replace the conversation by one that `save` wrote.

        Raises:
            CheckpointNotFoundError, CheckpointError: as `csmkit.chat.conversation.load_conversation`; the present
                conversation is kept.
            StateError: another thread is reading a turn.
        """
        history, segments = load_conversation(folder, self.generator.codec)
        self.reset()
        self._conversation = Conversation(history, segments)

    def close(self) -> None:
        """Close the present turn, and the recogniser where this chatbot loaded it.

        Raises:
            StateError: another thread is reading a turn.
        """
        self._close_turn()
        if self.asr is not None and self._owns_asr:
            self.asr.close()

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
        """Add the delivered part of a turn to the conversation; it replaces what an earlier call added of this turn."""
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
                raise StateError("another thread is reading a turn: call interrupt() and wait until it has ended")
            events.close()
        if self._turn is not None:  # closing a generator that was never read does not run its `finally`
            self._turn.end()
        self._turn = self._events = None

    def _check_prompt(self) -> None:
        """Raise for a speaker prompt that the generator cannot use, now and not in the first turn."""
        prompt, length = self.options.voice, self.options.max_audio_length_ms
        self.generator.abilities.check_prompt(prompt)
        if prompt:
            request = self.generator.request("Hello.", context=list(prompt), max_audio_length_ms=length)
            self.generator.fit(request, n_lead=len(prompt))


def _recogniser(asr: StreamingWhisperASR | str | bool | None, stack: Stack) -> StreamingWhisperASR | None:
    """The recogniser of the argument ``asr``: the stack's own for None and True, none for False."""
    if asr is False:
        return None
    if asr is None or isinstance(asr, bool):
        return stack.recogniser()
    return load_recogniser(asr, stack.models.asr_preset)


def _leave(events: weakref.ref[Generator[Event, None, None]] | None) -> None:
    """Close a turn that is open when the program ends, before torch is unloaded."""
    open_turn = None if events is None else events()
    if open_turn is not None and not open_turn.gi_running:
        open_turn.close()
