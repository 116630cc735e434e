"""A stand-in: see the README beside it."""
