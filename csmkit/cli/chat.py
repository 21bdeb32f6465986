"""csmkit chat: one turn, or a conversation at a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from csmkit.cli import models
from csmkit.cli.options import Json, ModelOptions, SpeechOptions, takes_options
from csmkit.cli.teller import Teller
from csmkit.errors import CsmkitError

if TYPE_CHECKING:
    from csmkit.chat.chatbot import StreamingConversationalChatbot


@takes_options
def chat(
    load: ModelOptions,
    speech: SpeechOptions,
    text: Annotated[str | None, typer.Argument(help="What you say; without it, a conversation at a prompt.")] = None,
    save: Annotated[Path | None, typer.Option(help="WAV file, written while it is spoken.")] = None,
    whisper: Annotated[str, typer.Option(help="tiny.en, base.en, small.en, a directory or a hub id.")] = "base.en",
    as_json: Json = False,
) -> None:
    """Answer aloud, and transcribe what was spoken while it is spoken."""
    teller = Teller(as_json)
    options = speech.sampling() | {"speaker": speech.speaker, "voice": speech.voice_prompt()}
    with models.load_chatbot(load, whisper, teller, **options) as chatbot:
        if text is not None:
            take_turn(chatbot, text, save, teller)
            return
        converse(chatbot, save, teller)


def take_turn(chatbot: StreamingConversationalChatbot, text: str, save: Path | None, teller: Teller) -> None:
    """One turn, told as it happens; Ctrl-C ends it and leaves a valid file of what was spoken."""
    teller.say(f"You: {text}", user=text)
    events = chatbot.process_streaming(text, save_audio_path=save)
    try:
        for event in events:
            teller.event(event)
    except KeyboardInterrupt:
        events.close()
        teller.say("Interrupted.", interrupted=True)
    if save is not None:
        teller.say(f"Saved {save}", saved=str(save))


def converse(chatbot: StreamingConversationalChatbot, save: Path | None, teller: Teller) -> None:
    """Turns at a prompt until the input ends; every turn gets a file of its own name."""
    teller.say("Type what you say; Ctrl-C interrupts an answer, Ctrl-D or an empty line ends.")
    turn = 0
    while True:
        try:
            text = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            text = ""
        if not text:
            return
        turn += 1
        path = None if save is None else save.with_stem(f"{save.stem}-{turn:02d}")
        try:
            take_turn(chatbot, text, path, teller)
        except CsmkitError as error:
            teller.say(f"This turn failed: {error}", error=str(error))
