"""The conversation: text in, and an answer that is heard while it is still being written."""
