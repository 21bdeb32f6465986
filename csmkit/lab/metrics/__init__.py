"""Metrics of speech, each a plugin of kind ``metric``: words, levels, distances, seams, codes."""

from csmkit.lab.metrics.words import character_error_rate, fake_metric, latency, word_error_rate, words
