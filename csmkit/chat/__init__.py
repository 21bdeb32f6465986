"""Conversations: an answer is spoken while the language model is still writing it."""
