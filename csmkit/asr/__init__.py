"""Speech recognition: Whisper in a worker thread, partial texts while sound arrives, one final text."""

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import Hypothesis, Transcriber, Transcript, Word

__all__ = ["Hypothesis", "StreamingWhisperASR", "Transcriber", "Transcript", "Word"]
