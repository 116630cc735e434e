"""Scales that react to training, one per file; the whole folder is imported."""
