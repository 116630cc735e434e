"""What may begin a decay early, one per file; the whole folder is imported."""
