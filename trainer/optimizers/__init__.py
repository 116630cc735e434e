"""What moves the weights, one optimiser per file; the whole folder is imported."""
