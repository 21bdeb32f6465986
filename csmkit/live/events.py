"""What a live conversation reports while it runs: plain dicts, each with its ``type``, ``time_s`` and ``turn``.

``time_s`` is in seconds since the conversation was started, by its clock. ``turn`` counts the user's turns from 1; the
events of an answer have the number of the turn they answer.

Between these come the chatbot's own events of the answer, see `csmkit.chat.events`, with the same two keys added:
``llm_delta``, ``llm_response``, ``clause``, ``audio_chunk``, ``partial_text``, ``final_text``, ``complete``. They are
held back until the turn is over, so that whatever comes may be shown and played at once. After ``interrupted`` and
after ``answer_dropped`` the listener has to discard the sound that it has not played yet.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from csmkit.chat import events as chat_events
from csmkit.chat.events import Metric, Span


class _Stamped(TypedDict):
    time_s: float
    turn: int


class SpeechStarted(_Stamped):
    """The user begins to speak; ``audio_s`` is when, in seconds of the microphone's sound.

    ``breaks_in`` says that the voice was speaking; ``interrupted`` of the turn before has come then.
    """

    type: Literal["speech_started"]
    audio_s: float
    breaks_in: bool


class UserPartial(_Stamped):
    """What was recognised of the user's turn so far; ``committed`` is the part that will not change any more."""

    type: Literal["user_partial"]
    text: str
    committed: str


class SpeechStopped(_Stamped):
    """The user's turn is over; ``audio_s`` is when its speech ended, before the silence that decided it."""

    type: Literal["speech_stopped"]
    audio_s: float


class UserText(_Stamped):
    """The final text of the user's turn, which is being answered."""

    type: Literal["user_text"]
    text: str


class NothingHeard(_Stamped):
    """There was no word in the user's turn, such as a cough; it is not answered and leaves no trace.

    With ``breaks_in`` it has stopped the voice for nothing.
    """

    type: Literal["nothing_heard"]
    breaks_in: bool


class AnswerDropped(_Stamped):
    """The user went on speaking before anything of the answer could be heard; their turn continues."""

    type: Literal["answer_dropped"]


class Interrupted(_Stamped):
    """The user broke in, or `interrupt` was called: fall silent now.

    ``played_ms`` is how much of the answer was heard, ``text`` its words, which are all that the history keeps.
    """

    type: Literal["interrupted"]
    played_ms: float
    text: str


class TurnDone(_Stamped):
    """The answer was heard to its end, or was interrupted.

    ``metrics`` is one flat row: the chatbot's of this turn and those of `csmkit.live.turn_times`. ``spans`` has the
    chatbot's and the user's side, in milliseconds from the end of the user's speech. ``kept`` has the words that the
    history keeps of an interrupted answer, which may be more than ``interrupted`` named: the listener reports later how
    much it had played when it fell silent. None for an answer that was not interrupted.
    """

    type: Literal["turn_done"]
    metrics: dict[str, Metric]
    spans: list[Span]
    kept: str | None


class Failed(_Stamped):
    """This turn failed, which ``message`` explains; the conversation goes on with the next one."""

    type: Literal["error"]
    message: str


LiveEvent = (
    SpeechStarted
    | UserPartial
    | SpeechStopped
    | UserText
    | NothingHeard
    | AnswerDropped
    | Interrupted
    | TurnDone
    | Failed
    | chat_events.Event
)
