"""A live spoken conversation: frames of sound from a microphone in, events out, no device inside."""
