"""What rows say: intervals, differences, which setting to choose, and the sentences of all of it.

Notebooks, reports and the log of experiments ask here, so that they say the same of the same rows.
"""
