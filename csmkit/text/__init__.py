"""From written text to what is spoken: markup off, numbers in words, clauses."""
