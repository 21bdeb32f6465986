"""The listening side: Whisper in a worker thread, partial texts while sound arrives, one final text."""

from csmkit.asr.hypothesis import Hypothesis, Transcriber, Word
from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.utterance import Transcript

__all__ = ["Hypothesis", "StreamingWhisperASR", "Transcriber", "Transcript", "Word"]
