"""The conversation: text in, and an answer that is spoken while the language model is still writing it."""
