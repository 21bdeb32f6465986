"""The listening side: Whisper in a worker thread, partial texts while sound arrives, one final text."""

from csmkit.asr.hypothesis import Hypothesis, Transcriber, Word
from csmkit.asr.utterance import Transcript
from csmkit.asr.worker import StreamingWhisperASR

__all__ = ["Hypothesis", "StreamingWhisperASR", "Transcriber", "Transcript", "Word"]
