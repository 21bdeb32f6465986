"""Mimi, the codec: codes of 80 ms frames to sound, exactly and frame by frame."""
