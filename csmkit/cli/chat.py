"""csmkit chat: one turn, or a conversation at a prompt."""

from __future__ import annotations

import io
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from csmkit.audio import check_wav_path
from csmkit.cli import models
from csmkit.cli.console import Console, is_interruption
from csmkit.cli.loudspeaker import Loudspeaker, find_loudspeaker
from csmkit.cli.options import ChatOptions, ModelOptions, OutputOptions, SpeechOptions, parse_prebuffer
from csmkit.errors import CsmkitError, InputError

if TYPE_CHECKING:
    from csmkit.chat.chatbot import StreamingConversationalChatbot
    from csmkit.chat.events import Event


@dataclass(frozen=True)
class Files:
    """The files that a turn writes; AudioFileError, InputError or MissingDependencyError where it cannot."""

    save: Annotated[Path | None, "WAV file of the answer, written chunk by chunk."] = None
    timeline: Annotated[Path | None, "Picture of when each part was busy: .png or .html."] = None

    def __post_init__(self) -> None:
        if self.save is not None:
            check_wav_path(self.save)
        if self.timeline is not None:
            from csmkit.lab.report.timeline import check_path

            check_path(self.timeline)

    def of_turn(self, number: int) -> Files:
        """The files of one turn of a conversation: their names get the number of the turn."""
        save, timeline = (
            None if path is None else path.with_stem(f"{path.stem}-{number:02d}") for path in (self.save, self.timeline)
        )
        return Files(save, timeline)


def chat(
    load: ModelOptions,
    speech: SpeechOptions,
    others: ChatOptions,
    output: OutputOptions,
    files: Files,
    text: Annotated[str | None, "What you say; without it, a conversation at a prompt."] = None,
    *,
    prebuffer: Annotated[str, "Milliseconds to hold the first chunk back, or auto: what slow generation needs."] = "0",
    context_turns: Annotated[int | None, "Earlier turns in the voice's context; default the preset's."] = None,
    play: Annotated[str, "Play on this machine's sound card: yes, no, or auto, where there is one."] = "no",
) -> None:
    """Answer aloud, and transcribe the answer while it is spoken."""
    if text is not None and not text.strip():
        raise InputError(f"text {text!r}: give some text to answer, or leave it out for a conversation")
    console = output.console()
    options = speech.given() | {"voice": speech.voice_prompt(), "prebuffer_ms": parse_prebuffer(prebuffer)}
    if context_turns is not None:
        options["context_turns"] = context_turns
    models.check_turn(load, **options)
    options |= others.given(speech.seed)
    loading = models.load_chatbot(load, others.whisper, console, **options)
    with find_loudspeaker(play, console) as speaker, loading as chatbot:
        if text is None:
            converse(chatbot, files, console, speaker)
            return
        console.say(f"You: {text}", user=text)
        take_turn(chatbot, text, files, console, speaker)


def take_turn(
    chatbot: StreamingConversationalChatbot, text: str, files: Files, console: Console, speaker: Loudspeaker
) -> None:
    """Run one turn and print its events. Ctrl-C interrupts it; the files then hold what was spoken before."""
    events: list[Event] = []
    with interrupted_by_key(chatbot):
        for event in chatbot.process_streaming(text, save_audio_path=files.save):
            if event["type"] == "audio_chunk":
                speaker.put(event["data"])
            elif event["type"] == "complete" and is_interruption(event["finish_reason"]):
                speaker.silence()
            console.event(event)
            events.append(event)
    if files.save is not None:
        console.say(f"Saved {files.save}", saved=str(files.save))
    if files.timeline is not None:
        from csmkit.lab.report.timeline import save_timeline

        if save_timeline(events, files.timeline, text) is not None:
            console.say(f"Drew {files.timeline}", timeline=str(files.timeline))
    speaker.wait()


@contextmanager
def interrupted_by_key(chatbot: StreamingConversationalChatbot) -> Iterator[None]:
    """Let Ctrl-C interrupt the turn, which then ends with ``complete``; a second one raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set signal handlers
        yield
        return

    def interrupt(*_: Any) -> None:
        signal.signal(signal.SIGINT, before)
        chatbot.interrupt()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def converse(chatbot: StreamingConversationalChatbot, files: Files, console: Console, speaker: Loudspeaker) -> None:
    """Run turns at a prompt until the input ends; the files of each turn have its number in their names."""
    console.say("Type what you say; Ctrl-C interrupts an answer, Ctrl-D or an empty line ends.")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # undecodable bytes must not end the conversation
    turn = 0
    while text := ask(console):
        turn += 1
        if console.as_json:
            console.say("", user=text)
        try:
            take_turn(chatbot, text, files.of_turn(turn), console, speaker)
        except KeyboardInterrupt:
            console.say("Interrupted.", broken_off=True)
        except CsmkitError as error:
            console.say(f"This turn failed: {error}", error=str(error))


def ask(console: Console) -> str:
    """The text typed at the prompt; empty at the end of the input. Ctrl-C discards the line, and asks again."""
    while True:
        try:
            return input("" if console.as_json else "> ").strip()
        except EOFError:
            console.say("")
            return ""
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            console.say("")
