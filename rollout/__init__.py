"""Produce completions and rewards, and log them."""
