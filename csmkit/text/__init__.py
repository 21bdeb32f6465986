"""Turns written text into spoken text: markup removed, numbers in words, cut into clauses."""
