"""Speech from a CSM: settings, prompts, streams, and the generator."""

from csmkit.speech.base import FakeGenerator, SpeechGenerator

__all__ = ["FakeGenerator", "SpeechGenerator"]
