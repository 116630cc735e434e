"""Which prompts inside the distributions? One policy per file; the registry imports the whole folder."""
