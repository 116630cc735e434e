"""Decisions about a run that is under way: where it stands, what is recorded or branched off, what is said of it, and its history.

The records themselves, and how a resumed run applies them, are in `trainer.operations`.
"""
