"""StreamingConversationalChatbot: the whole conversation, as a generator of events."""

from __future__ import annotations

import atexit
import logging
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from os import PathLike
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any

from csmkit import plugins
from csmkit.asr.worker import StreamingWhisperASR
from csmkit.audio import SAMPLE_RATE, WavWriter, read, resample
from csmkit.chat.events import Event
from csmkit.chat.llm import LLM, Message
from csmkit.chat.memory import load_conversation, save_conversation
from csmkit.chat.options import ChatModels, TurnOptions, chat_models
from csmkit.chat.spoken import in_words, speakable
from csmkit.chat.turn import Stage, Turn
from csmkit.errors import InputError, StateError
from csmkit.generator import Segment

if TYPE_CHECKING:
    import numpy as np

    from csmkit.audio import Waveform
    from csmkit.speech import SpeechGenerator

log = logging.getLogger(__name__)


class StreamingConversationalChatbot:
    """Answers aloud, and hears itself while it does.

    A part is given as an object, as a plugin's name such as ``fake``, or as the name of a model; what is left out comes
    from the preset. Everything is loaded here, so that a turn only waits for its answer.

    Args:
        generator: the voice.
        asr: the recogniser; False for none.
        llm: the language model.
        preset: ``pocket`` or ``sesame``, or models of your own; None asks CSMKIT_PRESET and means pocket.
        options: how turns are spoken; None is the preset's way.
        changes: fields of `TurnOptions` to change, such as ``chunk_frames=4``.

    Attributes:
        history: ``{"role", "content"}`` of what was spoken, oldest first. A turn nobody heard leaves no trace.
        load_s: seconds that loading took, by part: ``speech``, ``llm``, ``asr``.

    Raises:
        InputError: an unknown preset or option, or a value out of its range.
        ContextOverflowError: a voice prompt that leaves no room to speak.
        CsmkitError: a model cannot be loaded; the leaf says why.
    """

    def __init__(
        self,
        *,
        generator: SpeechGenerator | str | None = None,
        asr: StreamingWhisperASR | str | bool | None = None,
        llm: LLM | str | None = None,
        preset: str | ChatModels | None = None,
        options: TurnOptions | None = None,
        **changes: Any,
    ) -> None:
        models = chat_models(preset)
        self.options = _changed(options or models.options, changes)
        self.load_s: dict[str, float] = {}
        with self._timed("speech"):
            self.generator: SpeechGenerator = _voice(models.speech if generator is None else generator)
        self._check_room()
        with self._timed("llm"):
            self.llm: LLM = _language_model(models if llm is None else llm)
        with self._timed("asr"):
            self.asr = _recogniser(models.asr if asr is None or asr is True else asr, models.asr_preset)
        self.history: list[Message] = []
        self._segments: list[list[Segment]] = []  # one list a turn: the user's words, then the clauses spoken
        self._turn: Turn | None = None
        # Weak, so that leaving a for loop drops the generator, which closes it and with it the turn.
        self._events: weakref.ref[Generator[Event, None, None]] | None = None

    def process_streaming(
        self, user_input: str, save_audio_path: str | PathLike[str] | None = None
    ) -> Generator[Event, None, None]:
        """Answer a message. Taking an event asks for the next work; closing the generator stops everything at once.

        A turn that was left half read is closed first.

        Args:
            user_input: what the user says.
            save_audio_path: a WAV file that grows with every chunk, or None.

        Yields:
            Events, see `csmkit.chat.events`; the first as soon as the language model writes.

        Raises:
            InputError: no text; at the call.
            AudioFileError: the file cannot be written; at the call, before anything is generated.
            StateError: another thread is reading a turn; at the call.
            LanguageModelError: the language model failed, while reading; the next turn is not affected.
        """
        if not isinstance(user_input, str) or not user_input.strip():
            raise InputError(f"user_input={user_input!r}: give some text to answer")
        self._close_turn()
        wav = None if save_audio_path is None else WavWriter(save_audio_path)
        return self._begin(user_input.strip(), wav)

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
            CsmkitError: the recogniser failed, at the first event; and as `process_streaming`.
        """
        if self.asr is None:
            raise InputError("this chatbot has no recogniser: make it with asr='base.en', or give text")
        if isinstance(audio, (str, PathLike)):
            sound = read(audio)
        else:
            sound = resample(audio, SAMPLE_RATE if sample_rate is None else sample_rate)
        self._close_turn()
        wav = None if save_audio_path is None else WavWriter(save_audio_path)
        events = self._hear(self.asr, sound, wav)
        self._events = weakref.ref(events)
        return events

    def _hear(self, asr: StreamingWhisperASR, sound: np.ndarray, wav: WavWriter | None) -> Generator[Event, None, None]:
        started = perf_counter()
        try:
            text = str(asr.transcribe(sound, self.options.asr_timeout_s)).strip()
        except BaseException:
            if wav is not None:
                wav.close()  # no turn begins that would
            raise
        said = Segment(self.options.user_speaker, text, sound) if text else None
        yield from self._begin(text, wav, said, started)

    def _begin(
        self, text: str, wav: WavWriter | None, said: Segment | None = None, started: float | None = None
    ) -> Generator[Event, None, None]:
        """A turn on the user's words; ``said`` is how they sounded, where they were heard."""
        message = {"role": "user", "content": text}
        stage = Stage(self.generator, self.llm, self.asr, self.options)
        by_user = self._said_by_user(text) if said is None else [said]
        heard = None if started is None else text
        turn = Turn(stage, [*self.history, message], self._context(by_user), wav, heard, started)
        self._turn = turn
        events = self._follow(turn, message, by_user)
        if started is None:
            self._events = weakref.ref(events)
        return events

    def interrupt(self) -> None:
        """Stop the present turn, from any thread; its generator ends with ``complete``. Nothing to stop is fine."""
        turn = self._turn
        if turn is not None:
            turn.interrupt()

    def reset(self) -> None:
        """Forget the conversation.

        Raises:
            StateError: another thread is reading a turn.
        """
        self._close_turn()
        self.history.clear()
        self._segments.clear()

    def save(self, folder: str | PathLike[str]) -> None:
        """Keep the conversation in a folder; errors as `csmkit.chat.memory.save_conversation`."""
        save_conversation(folder, self.history, self._segments)

    def load(self, folder: str | PathLike[str]) -> None:
        """Go on with a conversation that was saved, in place of this one.

        Raises:
            CheckpointNotFoundError, CheckpointError: as `csmkit.chat.memory.load_conversation`; nothing is forgotten.
            StateError: another thread is reading a turn.
        """
        history, segments = load_conversation(folder)
        self.reset()
        self.history, self._segments = history, segments

    def close(self) -> None:
        """End the present turn and the recogniser's thread.

        Raises:
            StateError: another thread is reading a turn.
        """
        self._close_turn()
        if self.asr is not None:
            self.asr.close()

    def __enter__(self) -> StreamingConversationalChatbot:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = perf_counter()
        yield
        self.load_s[part] = perf_counter() - started
        log.info("%s ready after %.2f s", part, self.load_s[part])

    def _follow(self, turn: Turn, message: Message, by_user: list[Segment]) -> Generator[Event, None, None]:
        leave = atexit.register(partial(_leave, self._events))
        try:
            yield from turn.events()
        finally:
            atexit.unregister(leave)
            if turn.spoken.text:
                self.history += [message, {"role": "assistant", "content": turn.spoken.text}]
                self._segments.append([*by_user, *turn.spoken.segments])
            if self._turn is turn:
                self._turn = None

    def _close_turn(self) -> None:
        events = None if self._events is None else self._events()
        if events is not None:
            if events.gi_running:
                raise StateError("a turn is being read by another thread: call interrupt() and let it end first")
            events.close()
        if self._turn is not None:  # it was never read, so that closing its events has done nothing
            self._turn.end()
        self._turn = self._events = None

    def _context(self, by_user: list[Segment]) -> list[Segment]:
        """What the voice hears before this turn: the segments that lead, the last turns, the user's words."""
        n_turns = self.options.context_turns
        if not n_turns:
            return list(self.options.voice)
        earlier = [segment for turn in self._segments[-n_turns:] for segment in turn]
        return [*self.options.voice, *earlier, *by_user]

    def _check_room(self) -> None:
        """Raise ContextOverflowError where the voice prompt is too long even for a word, here and not in a turn."""
        voice, length = self.options.voice, self.options.max_audio_length_ms
        if voice:
            request = self.generator.request("Hello.", context=list(voice), max_audio_length_ms=length)
            self.generator.fit(request, n_lead=len(voice))

    def _said_by_user(self, text: str) -> list[Segment]:
        plain = in_words(speakable(text))
        return [Segment(self.options.user_speaker, plain)] if plain else []


def _leave(events: weakref.ref[Generator[Event, None, None]] | None) -> None:
    """Close a turn that is left open when the program ends; later, torch is not there any more to be closed with."""
    open_turn = None if events is None else events()
    if open_turn is not None and not open_turn.gi_running:
        open_turn.close()


def _changed(options: TurnOptions, changes: dict[str, Any]) -> TurnOptions:
    known = [field.name for field in fields(TurnOptions)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise InputError(f"no option {', '.join(unknown)}: the options of a turn are {', '.join(known)}")
    return replace(options, **changes)


def _voice(generator: SpeechGenerator | str) -> SpeechGenerator:
    if not isinstance(generator, str):
        return generator
    if generator in plugins.available("speech") or ":" in generator:
        return plugins.load("speech", generator)()
    return plugins.load("speech", "csm")(generator)


def _language_model(llm: LLM | ChatModels | str) -> LLM:
    if isinstance(llm, ChatModels):
        return plugins.load("llm", "transformers")(llm.llm, **llm.llm_options)
    if not isinstance(llm, str):
        return llm
    if llm in plugins.available("llm") or ":" in llm:
        return plugins.load("llm", llm)()
    return plugins.load("llm", "transformers")(llm)


def _recogniser(asr: StreamingWhisperASR | str | bool, preset: str) -> StreamingWhisperASR | None:
    if asr is False:
        return None
    if isinstance(asr, str):
        if asr in plugins.available("asr") or ":" in asr:
            asr = StreamingWhisperASR(asr, transcriber=plugins.load("asr", asr)())
        else:
            asr = StreamingWhisperASR(asr, preset=preset)
        asr.prepare()
    assert not isinstance(asr, bool)
    return asr
