"""The findings, one per file."""
