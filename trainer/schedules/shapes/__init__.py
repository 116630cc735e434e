"""How the rate goes on after the warm-up. One shape per file; the whole folder is imported."""
