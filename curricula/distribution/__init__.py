"""How much of a step does each distribution get? One policy per file; the registry imports the whole folder."""
