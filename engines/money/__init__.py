"""Paid cloud time: what it costs, who may spend how much, and what was spent."""
