"""Hearing speech in a notebook, or a chatbot's turn, and keeping what it told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csmkit.chat.chatbot import StreamingConversationalChatbot
    from csmkit.chat.events import Event
    from csmkit.lab.notebook import Player
    from csmkit.lab.notebook.playback import Source


def hear(source: Source) -> Player:
    """Play a source in a new player, and wait as `Player.wait`: until it was heard, where the browser can tell.

    Args:
        source: as `Player.play` takes it: chunks being made, or one waveform.

    Returns:
        The player.

    Raises:
        Exception: what the source raised.
    """
    from csmkit.lab.notebook import Player

    player = Player()
    player.play(source)
    player.wait()
    return player


def hear_turn(
    chatbot: StreamingConversationalChatbot, player: Player, text: str, interrupt_after: int | None = None
) -> list[Event]:
    """Begin a turn that plays while it is made; returns at once, wait with the player's ``wait``.

    Args:
        chatbot: that answers; the player's Stop interrupts it.
        player: that sounds.
        text: what the user says.
        interrupt_after: interrupt the answer after so many chunks, as a listener does who has heard enough; None lets
            it end.

    Returns:
        A list that fills with the turn's events.

    Raises:
        InputError, StateError: as `StreamingConversationalChatbot.process_streaming`.
    """
    events: list[Event] = []

    def keep(event: Event) -> None:
        events.append(event)
        if event["type"] == "audio_chunk" and event["chunk_num"] == interrupt_after:
            chatbot.interrupt()

    player.play(chatbot.process_streaming(text), on_event=keep, on_stop=chatbot.interrupt)
    return events
