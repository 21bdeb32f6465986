"""Mimi, the codec: turns the codes of 80 ms frames into sound, frame by frame and exactly."""
