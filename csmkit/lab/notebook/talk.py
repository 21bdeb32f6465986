"""Talk: a spoken conversation with a microphone in a notebook."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from os import PathLike
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr
import traitlets

from csmkit.asr.directory import NAMES
from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.audio import SAMPLE_RATE, as_mono, read
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.errors import CsmkitError, StateError
from csmkit.files.hub import DEFAULT_WHISPER
from csmkit.lab.notebook.output import Output
from csmkit.lab.notebook.player import ANSWER_S
from csmkit.lab.notebook.talk_text import TalkText
from csmkit.lab.notebook.widget import PlayerWidget, joined
from csmkit.live.conversation import LiveConversation
from csmkit.live.turn_detector import TurnDetection, TurnDetector
from csmkit.stack import find_models

if TYPE_CHECKING:
    from csmkit.audio import Waveform
    from csmkit.live.events import LiveEvent

FRAME_S = 0.04  # of a recording that is sent in place of a microphone
JOIN_S = 20.0
HINT = (
    "The bundled recogniser knows synthetic voices only. For your own voice give a Whisper from the hub: "
    'Talk(whisper="Systran/faster-whisper-base.en").'
)
NO_ANSWER = (
    "No front end answered, so there is no microphone here. Open this notebook in JupyterLab with the package "
    'anywidget installed, or send a recording: talk.say("question.wav").'
)


class TalkWidget(PlayerWidget):
    """The microphone, and the player of the answers; see talk.js.

    Attributes:
        shown: what the page shows: ``speaker``, ``ready``, ``message``, ``hint`` and ``turns``.
    """

    _esm = joined("sound.js", "player.js", "microphone.js", "talk.js")
    _css = joined("player.css", "talk.css")
    shown = traitlets.Dict().tag(sync=True)

    def __init__(self, on_message: Callable[[dict[str, Any], list[memoryview]], None], **options: Any) -> None:
        self._on_message = on_message
        super().__init__(**options)

    def receive(self, message: dict[str, Any], buffers: list[memoryview]) -> None:
        """Take a message of the browser: those of a player, and "talk_start", "frame", "talk_stop"."""
        super().receive(message, buffers)
        self._on_message(message, buffers)


class Talk:
    """A button to speak with the models: the microphone's level, both sides' text, and the latency of each turn.

    The browser sends the microphone to the kernel, with echo cancellation and noise suppression. The kernel finds the
    end of a turn, answers, and stops when the user speaks over the answer. The work is done in threads, so that cells
    can run meanwhile; most kernels read the microphone between cells only, so a long cell pauses the conversation.

    Where there is no microphone, choose a recording in the widget; where there is no front end, call `say`.

    Args:
        preset: name of the models; an unknown one raises InputError, and None asks CSMKIT_PRESET and means pocket. They
            are loaded by `load` or the first start.
        whisper: the recogniser's model, such as ``base.en``, a directory or a hub id.
        detection: what counts as a turn; None for the defaults of `TurnDetection`.
        chatbot: answers in place of the preset's; it stays open when this is closed.
        asr: the recogniser in place of ``whisper``; it stays open too.

    Attributes:
        chatbot, asr: the models; None until they are loaded.
        events: the events of the conversation so far, see `csmkit.live.events`.
        rows: the metrics of each finished turn.
        spans: the timeline of each finished turn.
        answers: the sound of each answer in the order of the plays, ``(samples,)`` float32 at 24 kHz.
    """

    def __init__(
        self,
        preset: str | None = None,
        *,
        whisper: str = DEFAULT_WHISPER,
        detection: TurnDetection | None = None,
        chatbot: StreamingConversationalChatbot | None = None,
        asr: StreamingWhisperASR | None = None,
        make_detector: Callable[[TurnDetection], TurnDetector] = TurnDetector,
    ) -> None:
        self._models, self._whisper = find_models(preset), whisper
        self.detection = detection or TurnDetection()
        self.chatbot, self.asr = chatbot, asr
        self._make_detector = make_detector
        self._owned: list[Any] = []  # what was loaded here, and is closed here
        self.events: list[LiveEvent] = []
        self.rows: list[dict[str, Any]] = []
        self.spans: list[list[Any]] = []
        self.answers: list[np.ndarray] = []
        hint = HINT if self._models.asr_preset == "pocket" and asr is None and whisper in NAMES else ""
        self.text = TalkText(hint)
        calls = {"on_stop": lambda play: self._interrupt(), "on_answer": lambda: self._output.restore_widget()}
        self.widget = TalkWidget(self._on_message, shown=self.text.shown(), **calls)
        self._output = Output(self.widget._repr_mimebundle_()[0])
        self._lock = threading.RLock()  # of all below
        self._live: LiveConversation | None = None
        self._thread: threading.Thread | None = None
        self._resampler: tuple[int, soxr.ResampleStream] | None = None
        self._answer_turn: int | None = None  # the turn whose answer the browser plays

    @property
    def turns(self) -> list[dict[str, Any]]:
        """What both sides said: ``user``, ``voice``, ``latency_ms``, ``interrupted`` for each turn."""
        return self.text.turns

    @property
    def running(self) -> bool:
        """Whether a conversation listens."""
        return self._live is not None

    def load(self) -> None:
        """Load and warm up the models, which otherwise happens at the first start; raises CsmkitError."""
        if self.chatbot is None:
            self.chatbot = StreamingConversationalChatbot(preset=self._models, asr=False)
            self.chatbot.generator.warm_up()
            self._owned.append(self.chatbot)
        if self.asr is None:
            self.asr = StreamingWhisperASR(self._whisper, preset=self._models.asr_preset)
            self._owned.append(self.asr)
        self.asr.prepare()

    def start(self) -> None:
        """Load the models and listen; blocks until they are loaded. Frames come from the browser or from `say`.

        Raises:
            StateError: it listens already.
            CsmkitError: as `load`.
        """
        with self._lock:
            if self._live is not None:
                raise StateError("the conversation listens already: stop it first")
            self._show(speaker="loading", message="")
            try:
                self.load()
                detector = self._make_detector(self.detection)
                self._live = LiveConversation(self.chatbot, self.asr, detector)  # type: ignore[arg-type]
                self._live.start()
            except CsmkitError as error:
                self._live = None
                self._show(speaker="nobody", message=" ".join(str(error).split()))
                raise
            self._resampler = None
            self._thread = threading.Thread(target=self._follow, args=[self._live], name="csmkit-talk", daemon=True)
            self._thread.start()
            self._show(speaker="nobody", ready=True)

    def put(self, frame: Waveform, rate: int = SAMPLE_RATE, played_ms: float | None = None) -> None:
        """Hear the next frame of the user.

        Args:
            frame: ``(samples,)``, floating point or int16; 20 to 40 ms are usual.
            played_ms: how much of the present answer the listener has heard; None where that is not known.
        """
        with self._lock:
            live = self._live
            if live is None:
                return
            samples = as_mono(frame, rate)
            if rate != SAMPLE_RATE:
                if self._resampler is None or self._resampler[0] != rate:
                    self._resampler = rate, soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
                samples = self._resampler[1].resample_chunk(samples)
            if played_ms is not None:
                live.played(played_ms)
            live.put(samples)

    def say(self, recording: str | PathLike[str] | Waveform, after_s: float = 30.0) -> list[dict[str, Any]]:
        """Send a recording in place of the microphone, as fast as it was spoken; blocks until the last answer ends.

        Args:
            recording: a sound file, or ``(samples,)`` at 24 kHz.
            after_s: seconds at most to wait for the last answer, in which the user is silent.

        Returns:
            The rows of the turns in it.

        Raises:
            AudioFileError: the file cannot be read.
            CsmkitError: as `start`.
        """
        is_file = isinstance(recording, str | PathLike)
        samples = read(recording) if is_file else as_mono(recording)  # type: ignore[arg-type]
        n_before = len(self.rows)
        if not self.running:
            self.start()
        size = round(FRAME_S * SAMPLE_RATE)
        began_s, sent = monotonic(), 0
        end = len(samples) + after_s * SAMPLE_RATE
        while sent < len(samples) or (self.text.open_turns and sent < end):
            frame = np.zeros(size, np.float32)
            given = samples[sent : sent + size]
            frame[: len(given)] = given
            self.put(frame)
            sent += size
            sleep(max(0.0, began_s + sent / SAMPLE_RATE - monotonic()))
        self.stop()
        return self.rows[n_before:]

    def stop(self) -> None:
        """Stop listening and silence the answer; the models stay loaded. Does nothing where nothing listens."""
        with self._lock:
            live, self._live, thread = self._live, None, self._thread
        if live is None:
            return
        self.widget.silence(len(self.answers))
        live.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(JOIN_S)
        self._show(speaker="nobody", ready=False)

    def close(self) -> None:
        """Stop, remove the widget, and release the models that were loaded here."""
        self.stop()
        while self._owned:
            self._owned.pop().close()
        self.widget.close()

    def _ipython_display_(self) -> None:
        self._output.show_widget()
        threading.Thread(target=self._explain_without_front_end, name="csmkit-talk-wait", daemon=True).start()

    def _explain_without_front_end(self) -> None:
        if not self.widget.answered.wait(ANSWER_S):
            self._output.show_text(NO_ANSWER)

    def _on_message(self, message: dict[str, Any], buffers: list[memoryview]) -> None:
        kind = message["type"]
        if kind == "frame":
            samples = np.frombuffer(buffers[0], "<i2")
            played = message["played_ms"] if message["play"] == len(self.answers) else None
            self.put(samples, message["rate"], played)
        elif kind == "talk_start" and not self.running:
            threading.Thread(target=self._start_from_browser, name="csmkit-talk-start", daemon=True).start()
        elif kind == "talk_stop":
            threading.Thread(target=self.stop, name="csmkit-talk-stop", daemon=True).start()
        elif kind == "report":
            self._note_report(message["report"])

    def _note_report(self, report: dict[str, Any]) -> None:
        """Tell the conversation how much was heard of an answer that the browser has stopped."""
        live = self._live
        if live is not None and report["phase"] == "stopped" and report["play"] == len(self.answers):
            live.stopped(1000 * report["heard_s"])

    def _start_from_browser(self) -> None:
        with suppress(CsmkitError):  # the widget shows it
            self.start()

    def _interrupt(self) -> None:
        live = self._live
        if live is not None:
            live.interrupt()

    def _follow(self, live: LiveConversation) -> None:
        try:
            for event in live.events():
                self.events.append(event)
                self._play(event)
                self.text.take(event)
                self.widget.shown = self.text.shown()
        except CsmkitError as error:  # the thread's top frame: the user reads it, as no caller waits
            self._show(speaker="nobody", message=" ".join(str(error).split()))

    def _play(self, event: Any) -> None:
        kind = event["type"]
        if kind == "audio_chunk":
            chunk = as_mono(event["data"])
            if self._answer_turn != event["turn"]:
                self._answer_turn = event["turn"]
                self.answers.append(np.zeros(0, np.float32))
                self.widget.begin(len(self.answers), at_once=True)
            self.answers[-1] = np.concatenate([self.answers[-1], chunk])
            self.widget.chunk(len(self.answers), chunk)
        elif kind == "complete" and self._answer_turn == event["turn"]:
            self.widget.end(len(self.answers))
        elif kind in ("interrupted", "answer_dropped"):
            self._answer_turn = None
            self.widget.silence(len(self.answers))
        elif kind == "turn_done":
            self.rows.append(event["metrics"])
            self.spans.append(event["spans"])

    def _show(self, **state: Any) -> None:
        self.text.set(**state)
        self.widget.shown = self.text.shown()
