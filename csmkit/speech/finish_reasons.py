"""Why a generation ended: the values of ``finish_reason``."""

END_OF_SPEECH = "end_of_speech"  # the voice said so
MAX_LENGTH = "max_length"  # ``max_audio_length_ms``, or the most that a text of that length can take
SILENCE = "silence"  # it was silent for longer than its guards allow
REPETITION = "repetition"  # it made the same frames over and over
INTERRUPTED = "interrupted"  # closed, or an error
NOTHING_HEARD = "nothing_heard"  # a turn alone: the user's sound held no word
