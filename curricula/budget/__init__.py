"""How many rollouts for whom? One policy per file; the registry imports the whole folder."""
