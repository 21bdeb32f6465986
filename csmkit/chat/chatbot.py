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
from csmkit.audio import WavWriter
from csmkit.chat.clauses import speakable
from csmkit.chat.events import Event
from csmkit.chat.llm import LLM, Message
from csmkit.chat.options import ChatModels, TurnOptions, chat_models
from csmkit.chat.turn import Stage, Turn
from csmkit.errors import InputError, StateError
from csmkit.generator import Segment

if TYPE_CHECKING:
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
        message = {"role": "user", "content": user_input.strip()}
        stage = Stage(self.generator, self.llm, self.asr, self.options)
        turn = self._turn = Turn(stage, [*self.history, message], self._context(user_input), wav)
        events = self._follow(turn, message)
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

    def _follow(self, turn: Turn, message: Message) -> Generator[Event, None, None]:
        leave = atexit.register(partial(_leave, self._events))
        try:
            yield from turn.events()
        finally:
            atexit.unregister(leave)
            if turn.spoken.text:
                self.history += [message, {"role": "assistant", "content": turn.spoken.text}]
                self._segments.append([*self._said_by_user(message["content"]), *turn.spoken.segments])
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

    def _context(self, user_input: str) -> list[Segment]:
        """What the voice hears before this turn: the segments that lead, the last turns, the user's words."""
        n_turns = self.options.context_turns
        if not n_turns:
            return list(self.options.voice)
        earlier = [segment for turn in self._segments[-n_turns:] for segment in turn]
        return [*self.options.voice, *earlier, *self._said_by_user(user_input)]

    def _check_room(self) -> None:
        """Raise ContextOverflowError where the voice prompt is too long even for a word, here and not in a turn."""
        voice, length = self.options.voice, self.options.max_audio_length_ms
        if voice:
            request = self.generator.request("Hello.", context=list(voice), max_audio_length_ms=length)
            self.generator.fit(request, n_lead=len(voice))

    def _said_by_user(self, text: str) -> list[Segment]:
        plain = speakable(text)
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
