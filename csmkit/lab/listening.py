"""Hearing a chatbot's turn in a notebook, and keeping what it told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csmkit.chat.chatbot import StreamingConversationalChatbot
    from csmkit.chat.events import Event
    from csmkit.lab.widgets import Player


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
